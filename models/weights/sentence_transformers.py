"""A sentence-transformers directory: what its modules say of pooling, width, length and prompts, and its Dense."""

import glob
import os
from typing import Any

import numpy as np

from semindex.errors import UserError
from semindex.fields import (
    list_of,
    mapping_of,
    object_of,
    one_of,
    read_fields,
    read_json,
    shown,
    text,
    truth,
    whole,
)

MODULES, PROMPTS = "modules.json", "config_sentence_transformers.json"
# The order that SemanticIndex computes in; Dense and Normalize may be left out.
ORDER = ["Transformer", "Pooling", "Dense", "Normalize"]
POOLINGS = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max", "mean": "mean", "cls": "cls", "max": "max"}
ACTIVATIONS = {"torch.nn.modules.linear.Identity": "", "torch.nn.modules.activation.Tanh": "tanh",
               "torch.nn.modules.activation.ReLU": "relu", "torch.nn.modules.activation.GELU": "gelu",
               "torch.nn.modules.activation.Sigmoid": "sigmoid"}
DENSE = {"in_features": whole(1, 65_536), "out_features": whole(1, 65_536), "bias": truth().optional(),
         "activation_function": one_of(*ACTIVATIONS)}
# What sentence-transformers and their models call the two sides.
NAMES = {"query_prompt": ("query", "queries", "s2p_query"),
         "passage_prompt": ("passage", "document", "documents", "corpus", "passages")}


def modules(directory: str) -> dict[str, str]:
    """Return the modules of a directory, {kind: path}; {} where it names none, or is none of sentence-transformers.

    Raises UserError for modules that are not supported, or in another order: its vectors would be others.
    """
    path = os.path.join(directory, MODULES)
    if not os.path.isfile(path):
        return {}
    content, part = read_json(path), object_of({"type": text(), "path": text()}, others=True)
    if not list_of(part).fits(content):
        raise UserError(f"{path}: holds {shown(content)}, expected {list_of(part).expected}")
    found = [(module["type"].rsplit(".", 1)[-1], module["path"]) for module in content]
    unknown = [kind for kind, _ in found if kind not in ORDER]
    if unknown:
        raise UserError(f"{path}: the module {unknown[0]} is not supported; known are {', '.join(ORDER)}")
    kinds = [kind for kind, _ in found]
    if kinds != [kind for kind in ORDER if kind in kinds]:
        raise UserError(f"{path}: the modules {', '.join(kinds)} are not supported; each of {', '.join(ORDER)} once at "
                        "most, in that order")
    return dict(found)


def _pooling(directory: str, place: str) -> str:
    """Return the pooling of a Pooling module: one of its truth values, or pooling_mode of newer releases."""
    content = read_fields(os.path.join(directory, place, "config.json"), {}, others=True)
    modes = [key.removeprefix("pooling_mode_") for key, value in content.items()
             if key.startswith("pooling_mode_") and value is True]
    mode = content.get("pooling_mode")
    if not modes and mode is not None:
        modes = [mode] if isinstance(mode, str) else [str(one) for one in mode]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise UserError(f"{directory}: pooling by {', '.join(modes) or 'nothing'} is not supported")
    return POOLINGS[modes[0]]


def _prompts(directory: str) -> dict[str, str]:
    """Return the prompts of the two sides; a default prompt stands for both."""
    path = os.path.join(directory, PROMPTS)
    if not os.path.isfile(path):
        return {}
    content = read_fields(path, {"prompts": mapping_of(text()).or_none().optional(),
                                 "default_prompt_name": text().or_none().optional()}, others=True)
    prompts, default = content.get("prompts") or {}, content.get("default_prompt_name")
    found = {}
    for side, names in NAMES.items():
        for name in [*(name for name in names if prompts.get(name)), *([default] if default in prompts else [])][:1]:
            if prompts[name]:
                found[side] = prompts[name]
    return found


def sentence_settings(directory: str) -> dict[str, Any]:
    """Return what a sentence-transformers directory says of EncoderSettings' fields; {} where it is none."""
    found = modules(directory)
    if not os.path.isfile(os.path.join(directory, MODULES)):
        return {}
    settings: dict[str, Any] = {"output_emb_size": 0} | _prompts(directory)
    if "Pooling" in found:
        settings["pooling"] = _pooling(directory, found["Pooling"])
    if "Dense" in found:
        dense = _dense(directory, found["Dense"])
        settings |= {"output_emb_size": dense["out_features"], "projection_bias": dense.get("bias", True),
                     "projection_activation": ACTIVATIONS[dense["activation_function"]]}
    for path in [*glob.glob(os.path.join(glob.escape(directory), "sentence_*_config.json")),
                 os.path.join(directory, found.get("Transformer", ""), "sentence_bert_config.json")]:
        field = whole(3, 8192).or_none().optional()
        if os.path.isfile(path) and (length := read_fields(path, {"max_seq_length": field},
                                                           others=True).get("max_seq_length")):
            settings["max_seq_length"] = length
    return settings


def _dense(directory: str, place: str) -> dict[str, Any]:
    return read_fields(os.path.join(directory, place, "config.json"), DENSE, others=True)


def projection(directory: str) -> dict[str, np.ndarray]:
    """Return the weights of the Dense module as paddle's linear layer has them; {} where there is none.

    Raises UserError where they are missing or of another shape than its configuration says.
    """
    place = modules(directory).get("Dense")
    if place is None:
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    about, path = _dense(directory, place), os.path.join(directory, place, "model.safetensors")
    try:
        state = {name.removeprefix("linear."): value for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); only safetensors are read") from None
    shapes: dict[str, tuple[int, ...]] = {"weight": (about["out_features"], about["in_features"])}
    if about.get("bias", True):
        shapes["bias"] = (about["out_features"],)
    if {name: value.shape for name, value in state.items()} != shapes:
        raise UserError(f"{path}: holds {', '.join(f'{name} {list(v.shape)}' for name, v in state.items())}, expected "
                        f"{', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())}")
    return {name: np.ascontiguousarray(value.T, np.float32) for name, value in state.items()}
