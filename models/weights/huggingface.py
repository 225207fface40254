"""Encoders from a local Hugging Face or sentence-transformers directory: safetensors, BERT's names, no network."""

import glob
import os
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from models.weights import Pretrained
from models.weights.paddlenlp import dropout_rates, loaded, quiet
from semindex.errors import UserError
from semindex.fields import list_of, object_of, read_fields, read_json, shown, text, whole

# Hugging Face's name of a BERT-like encoder's parameters, and paddlenlp's.
RENAMES = [
    (r"^encoder\.layer\.", "encoder.layers."),
    (r"\.attention\.self\.query\.", ".self_attn.q_proj."),
    (r"\.attention\.self\.key\.", ".self_attn.k_proj."),
    (r"\.attention\.self\.value\.", ".self_attn.v_proj."),
    (r"\.attention\.output\.dense\.", ".self_attn.out_proj."),
    (r"\.attention\.output\.LayerNorm\.", ".norm1."),
    (r"\.intermediate\.dense\.", ".linear1."),
    (r"^(encoder\.layers\.\d+)\.output\.dense\.", r"\1.linear2."),
    (r"^(encoder\.layers\.\d+)\.output\.LayerNorm\.", r"\1.norm2."),
    (r"^embeddings\.LayerNorm\.", "embeddings.layer_norm."),
]


def weights_file(directory: str) -> str | None:
    """Return the safetensors file of a directory that holds Hugging Face's weights of a BERT-like encoder, else None.

    paddlenlp writes files of that name too, with names of its own inside.
    """
    path = os.path.join(directory, "model.safetensors")
    if not os.path.isfile(path) or os.path.isfile(os.path.join(directory, "model_state.pdparams")):
        return None
    return path if any(".attention.self.query." in name for name in _names(path)) else None


def _names(path: str) -> set[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return set(file.keys())
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({error})") from None


def paddle_name(name: str) -> str | None:
    """Return paddlenlp's name of a parameter of BERT, ERNIE, RoBERTa or ELECTRA, None for what the encoder lacks."""
    match = re.search(r"(?:^|\.)((?:embeddings|encoder|pooler)\..*)", name)
    if not match:
        return None
    name = match[1]
    for pattern, ours in RENAMES:
        name = re.sub(pattern, ours, name)
    return name


def load_encoder(directory: str, rates: dict[str, float]) -> Any:
    """Return the paddlenlp encoder with the directory's weights; nothing is written there.

    rates: dropout of the configuration to override. Raises UserError where weights are missing or of another shape,
    a pooler's apart, or the configuration asks for what paddlenlp's encoder does not do.
    """
    import paddle
    from paddlenlp.transformers import AutoConfig, AutoModel
    from safetensors.numpy import load_file

    path = weights_file(directory)
    assert path is not None
    config = AutoConfig.from_pretrained(directory, **rates)
    kind = getattr(config, "position_embedding_type", None) or "absolute"
    if kind != "absolute":
        raise UserError(f"{directory}: position_embedding_type {kind} is not supported")
    encoder = AutoModel.from_config(config)
    theirs = {paddle_name(name): (name, value) for name, value in load_file(path).items()}
    state, faults = {}, []
    for name, own in encoder.state_dict().items():
        if name not in theirs:
            if not name.startswith("pooler."):
                faults.append(f"{name} is missing")
            continue
        # PyTorch keeps a linear layer's weights as [out, in], paddle as [in, out]
        value = theirs[name][1]
        value = value.T if value.ndim == 2 and "embeddings" not in name else value
        if list(value.shape) != list(own.shape):
            faults.append(f"{theirs[name][0]} is {list(value.shape)} instead of {list(own.shape)}")
        state[name] = paddle.to_tensor(np.ascontiguousarray(value, np.float32))
    if faults:
        raise UserError(f"{path}: does not fit config.json: {'; '.join(faults[:3])}{'; ...' * (len(faults) > 3)}")
    encoder.set_state_dict(state)
    if hasattr(encoder, "pooler") and "pooler.dense.weight" not in state:
        encoder.pooler = None  # random weights would be worse than none
    return encoder


def sentence_settings(directory: str) -> dict[str, Any]:
    """Return what a sentence-transformers directory says of pooling, width and length; {} where it is none.

    Raises UserError for modules that are not supported: its vectors would be others.
    """
    path = os.path.join(directory, "modules.json")
    if not os.path.isfile(path):
        return {}
    content, part = read_json(path), object_of({"type": text(), "path": text()}, others=True)
    if not list_of(part).fits(content):
        raise UserError(f"{path}: holds {shown(content)}, expected {list_of(part).expected}")
    modules = [(module["type"].rsplit(".", 1)[-1], module["path"]) for module in content]
    unknown = [kind for kind, _ in modules if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        raise UserError(f"{path}: the module {unknown[0]} is not supported; known are Transformer, Pooling, Normalize")
    settings: dict[str, Any] = {"output_emb_size": 0}
    for kind, place in modules:
        if kind == "Pooling":
            pooling = read_fields(os.path.join(directory, place, "config.json"), {}, others=True)
            modes = [key.removeprefix("pooling_mode_") for key, value in pooling.items()
                     if key.startswith("pooling_mode_") and value is True]
            names = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max"}
            if len(modes) != 1 or modes[0] not in names:
                raise UserError(f"{directory}: pooling by {', '.join(modes) or 'nothing'} is not supported")
            settings["pooling"] = names[modes[0]]
    for path in glob.glob(os.path.join(directory, "sentence_*_config.json")):
        field = whole(3, 8192).or_none().optional()
        if length := read_fields(path, {"max_seq_length": field}, others=True).get("max_seq_length"):
            settings["max_seq_length"] = length
    return settings


def claims(name: str) -> bool:
    """Tell whether the name is a directory with such weights."""
    return os.path.isdir(name) and weights_file(name) is not None


def load(name: str, dropout: float | None, texts: Iterable[str]) -> Pretrained:
    """Return the encoder of a directory."""
    quiet()
    source = os.path.abspath(name)
    found = loaded(name, lambda: load_encoder(source, dropout_rates(dropout)), source)
    found.settings = sentence_settings(name)
    return found
