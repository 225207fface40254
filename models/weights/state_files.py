"""What paddle.save writes of weights and optimizers, read as arrays alone: nothing in such a file is ever run."""

from collections.abc import Callable
from typing import Any

import numpy as np

from semindex.errors import UserError
from semindex.text.plain_pickle import Array, Damaged, Refused, load

# Entries of paddle's own: parameters' names, and parameters that were saved in parts of less than 1 GB.
NAMES, PARTS = "StructuredToParameterName@@", "UnpackBigParamInfor@@"
DEEPEST = 20


def read_state(path: str, return_numpy: bool = False) -> dict[str, Any]:
    """Return the state dict of a .pdparams or .pdopt file, with what paddle.load gives: tensors, or numpy arrays.

    Raises UserError for a file that is damaged, holds no state dict, or names a function or class beyond numpy's
    arrays; nothing of it is run.
    """
    try:
        with open(path, "rb") as file:
            content = load(file)
            largest = file.tell()
        if not isinstance(content, dict) or any(not isinstance(key, str) for key in content):
            raise Damaged("it holds no named weights")
        return _Converter(largest, return_numpy).state(_joined(content))
    except Damaged as error:
        raise UserError(f"{path}: cannot be read as paddle weights ({error}); "
                        "the file is damaged or is something else") from None
    except Refused as error:
        raise UserError(f"{path}: {error}, which weights do not; nothing of the file was run or used, "
                        "take one from a source you trust") from None


def _joined(content: dict[Any, Any]) -> dict[Any, Any]:
    """Put parameters together that were saved in parts."""
    parts = content.pop(PARTS, {})
    try:
        for key, about in parts.items():
            arrays = [content.pop(name).value for name in about["slices"]]  # each part once
            content[key] = Array(np.concatenate(arrays).reshape(about["OriginShape"]))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise Damaged("its large weights are not whole") from None
    return content


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], Array)


class _Converter:
    """Plain values to what paddle.load makes of them. largest: bytes that all arrays together may have."""

    def __init__(self, largest: int, return_numpy: bool) -> None:
        self.left, self.return_numpy = largest, return_numpy
        self.made: dict[int, Any] = {}  # of containers that stand in several places

    def state(self, content: dict[Any, Any]) -> dict[str, Any]:
        """Return the state dict."""
        names = content.pop(NAMES, None)
        if names is None:  # tensors are (name, array); where there is none, each array is one
            pairs = self._has_pair(content, set(), 0)
            return {key: self._value(value, 0, not pairs) for key, value in content.items()}
        if not isinstance(names, dict):
            raise Damaged("its table of names is none")
        return {key: self._tensor(content[key], names[key]) if key in names and isinstance(content[key], Array)
                else self._value(content[key], 0, False) for key in content}

    def _has_pair(self, value: Any, seen: set[int], depth: int) -> bool:
        if _is_pair(value):
            return True
        if not isinstance(value, (dict, list, tuple)) or id(value) in seen:
            return False
        self._check_depth(depth)
        seen.add(id(value))
        return any(self._has_pair(part, seen, depth + 1)
                   for part in (value.values() if isinstance(value, dict) else value))

    @staticmethod
    def _check_depth(depth: int) -> None:
        if depth > DEEPEST:
            raise Damaged(f"values nested more than {DEEPEST} deep")

    def _value(self, value: Any, depth: int, tensors: bool) -> Any:
        """Convert a value of the file; tensors: whether a bare array is one."""
        if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic)):
            return value
        if isinstance(value, Array):
            return self._tensor(value) if tensors else self._array(value)
        self._check_depth(depth)
        if id(value) not in self.made:
            if _is_pair(value):
                made: Any = self._tensor(value[1], value[0])
            elif isinstance(value, dict):
                made = {key: self._value(part, depth + 1, tensors) for key, part in value.items()}
            elif isinstance(value, (list, tuple)):
                made = type(value)([self._value(part, depth + 1, tensors) for part in value])
            elif isinstance(value, (set, frozenset)):
                made = value
            else:
                raise Refused(f"holds {value!s:.100}")
            self.made[id(value)] = made
        return self.made[id(value)]

    def _made(self, array: Array, make: Callable[[np.ndarray], Any]) -> Any:
        """Return what `make` gives of an array, once, and let its bytes go: the memory serves the next one."""
        if array.made is None:
            self.left -= array.value.nbytes
            if self.left < 0:  # one piece of the file as many arrays
                raise Refused("holds more in memory than on the disk")
            array.made = make(array.value)
            array.value = np.empty(0, np.int8)
        return array.made

    def _array(self, array: Array) -> np.ndarray:
        return self._made(array, np.array)

    def _tensor(self, array: Array, name: Any = None) -> Any:
        if self.return_numpy:
            return self._array(array)
        import paddle

        new = array.made is None
        tensor = self._made(array, paddle.to_tensor)
        if new and isinstance(name, str) and name:
            tensor.name = name
        return tensor
