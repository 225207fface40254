"""A sentence-transformers directory: what its modules say of pooling, width, length and prompts, and its Dense."""

import glob
import os
from typing import Any

import numpy as np

from models.weights.tensors import read_tensors
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
from semindex.runtime import warn
from semindex.text.tokenizer_file import read_tokenizer

MODULES, PROMPTS = "modules.json", "config_sentence_transformers.json"
# The order that SemanticIndex computes in; Dense and Normalize may be left out. Pooler is the first of two Dense:
# BERT's own pooler, a layer with tanh over [CLS].
ORDER = ["Transformer", "Pooling", "Pooler", "Dense", "Normalize"]
KIND = "sentence-transformers"  # what the manifest of a directory calls it that export_model.py wrote
POOLINGS = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max", "mean": "mean", "cls": "cls", "max": "max"}
ACTIVATIONS = {"torch.nn.modules.linear.Identity": "", "torch.nn.modules.activation.Tanh": "tanh",
               "torch.nn.modules.activation.ReLU": "relu", "torch.nn.modules.activation.GELU": "gelu",
               "torch.nn.modules.activation.Sigmoid": "sigmoid"}
DENSE = {"in_features": whole(1, 65_536), "out_features": whole(1, 65_536), "bias": truth().optional(),
         "activation_function": one_of(*ACTIVATIONS).optional(), "use_residual": truth().optional()}
TANH = "torch.nn.modules.activation.Tanh"  # sentence-transformers' own, where a Dense does not say
# Of config_sentence_transformers.json, about the whole.
WHOLE = {"prompts": mapping_of(text()).or_none().optional(), "default_prompt_name": text().or_none().optional(),
         "similarity_fn_name": text().or_none().optional(), "truncate_dim": whole(1, 65_536).or_none().optional()}
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
    kinds = [kind for kind, _ in found]
    known = [kind for kind in ORDER if kind != "Pooler"]
    if unknown := [kind for kind in kinds if kind not in known]:
        raise UserError(f"{path}: the module {unknown[0]} is not supported; known are {', '.join(known)}")
    if kinds.count("Dense") == 2:
        kinds[kinds.index("Dense")] = "Pooler"
    if kinds != [kind for kind in ORDER if kind in kinds]:
        raise UserError(f"{path}: the modules {', '.join(kind for kind, _ in found)} are not supported; each of "
                        f"{', '.join(known)} once at most, in that order")
    places = dict(zip(kinds, (place for _, place in found)))
    if places.get("Transformer"):
        raise UserError(f"{path}: the Transformer stands in {places['Transformer']}, expected in the directory itself")
    return places


def _config_file(directory: str, place: str) -> str:
    path = os.path.join(directory, place, "config.json")
    if not os.path.isfile(path):
        raise UserError(f"{path}: missing, {MODULES} names it; copy the whole directory")
    return path


def _pooling(directory: str, place: str) -> str:
    """Return the pooling of a Pooling module: one of its truth values, or pooling_mode of newer releases."""
    content = read_fields(_config_file(directory, place), {}, others=True)
    modes = [key.removeprefix("pooling_mode_") for key, value in content.items()
             if key.startswith("pooling_mode_") and value is True]
    mode = content.get("pooling_mode")
    if not modes and mode is not None:
        modes = [mode] if isinstance(mode, str) else [str(one) for one in mode]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise UserError(f"{directory}: pooling by {', '.join(modes) or 'nothing'} is not supported")
    if content.get("include_prompt") is False and _prompts(directory):
        raise UserError(f"{directory}: a pooling that leaves the prompt out (include_prompt) is not supported")
    return POOLINGS[modes[0]]


def _prompts(directory: str) -> dict[str, str]:
    """Return the prompts of the two sides; a default prompt stands for both."""
    path = os.path.join(directory, PROMPTS)
    if not os.path.isfile(path):
        return {}
    content = read_fields(path, WHOLE, others=True)
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
    if "Pooler" in found:
        dense = _dense(directory, found["Pooler"])
        about = settings.get("pooling"), dense.get("activation_function", TANH), dense.get("bias", True)
        if about != ("cls", TANH, True):
            raise UserError(f"{directory}: two Dense modules are supported only where the first is BERT's pooler: "
                            "pooling cls, a bias, Tanh")
        settings["pooling"] = "pooler"
    if "Dense" in found:
        dense = _dense(directory, found["Dense"])
        settings |= {"output_emb_size": dense["out_features"], "projection_bias": dense.get("bias", True),
                     "projection_activation": ACTIVATIONS[dense.get("activation_function", TANH)]}
    settings |= _length(directory)
    path = os.path.join(directory, PROMPTS)
    whole_model = read_fields(path, WHOLE, others=True) if os.path.isfile(path) else {}
    if whole_model.get("truncate_dim"):
        settings["truncate_dim"] = whole_model["truncate_dim"]
    if "Normalize" not in found and (whole_model.get("similarity_fn_name") or "cosine") != "cosine":
        warn(f"{directory}: its vectors are compared by {whole_model['similarity_fn_name']}; here they are unit "
             "vectors, compared by their cosine")
    return settings


def _length(directory: str) -> dict[str, int]:
    """Return max_seq_length of a Transformer's configuration, {} where it does not say."""
    fields, found = {"max_seq_length": whole(3, 8192).or_none().optional(), "do_lower_case": truth().optional()}, {}
    for path in glob.glob(os.path.join(glob.escape(directory), "sentence_*_config.json")):
        content = read_fields(path, fields, others=True)
        if content.get("max_seq_length"):
            found["max_seq_length"] = content["max_seq_length"]
        tokenizer = read_tokenizer(directory, 8) if content.get("do_lower_case") else None
        if tokenizer and not (tokenizer.rust.normalizer and tokenizer.rust.normalizer.normalize_str("A") == "a"):
            raise UserError(f"{path}: do_lower_case is true, and tokenizer.json keeps the case; that is not supported")
    return found


def _dense(directory: str, place: str) -> dict[str, Any]:
    path = _config_file(directory, place)
    content = read_fields(path, DENSE, others=True)
    names = [content.get(f"module_{way}_name") or "sentence_embedding" for way in ("input", "output")]
    if content.get("use_residual") or set(names) != {"sentence_embedding"}:
        raise UserError(f"{path}: a Dense beside the pooled vector (use_residual, or other names) is not supported")
    return content


def weights_files(directory: str) -> list[str]:
    """Return the files of weights beside the encoder's."""
    found = modules(directory)
    return [os.path.join(directory, found[kind], "model.safetensors") for kind in ("Pooler", "Dense") if kind in found]


def linear_weights(directory: str, kind: str = "Dense") -> dict[str, np.ndarray]:
    """Return the weights of the module Dense or Pooler as paddle's linear layer has them; {} where there is none.

    Raises UserError where they are missing or of another shape than its configuration says.
    """
    place = modules(directory).get(kind)
    if place is None:
        return {}
    about, path = _dense(directory, place), os.path.join(directory, place, "model.safetensors")
    state = {name.removeprefix("linear."): value for name, value in read_tensors(path).items()}
    shapes: dict[str, tuple[int, ...]] = {"weight": (about["out_features"], about["in_features"])}
    if about.get("bias", True):
        shapes["bias"] = (about["out_features"],)
    if {name: value.shape for name, value in state.items()} != shapes:
        raise UserError(f"{path}: holds {', '.join(f'{name} {list(v.shape)}' for name, v in state.items())}, expected "
                        f"{', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())}")
    return {name: np.ascontiguousarray(value.T, np.float32) for name, value in state.items()}
