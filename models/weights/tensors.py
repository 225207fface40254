"""safetensors files as numpy arrays, brain floats too."""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from semindex.errors import UserError


def read_tensors(path: str) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file; brain floats, which numpy does not have, as float32.

    Raises UserError for a file that is missing, damaged, or of numbers that neither has.
    """
    from safetensors import SafetensorError, deserialize
    from safetensors.numpy import load_file

    try:
        try:
            return load_file(path)
        except TypeError:
            with open(path, "rb") as file:
                return {name: _array(part) for name, part in deserialize(file.read())}
    except (OSError, SafetensorError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); only safetensors of floating numbers are read") from None


def _array(part: dict[str, Any]) -> np.ndarray:
    if part["dtype"] == "BF16":  # the upper half of a float32
        values = (np.frombuffer(part["data"], "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(part["data"], {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}.get(
            part["dtype"], part["dtype"]))
    return values.reshape(part["shape"])


def write_tensors(path: str, state: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file as PyTorch's readers want it. Raises OSError, for a full disk for example."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(dict(state), path, {"format": "pt"})
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), path) from None
