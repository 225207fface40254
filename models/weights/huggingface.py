"""Encoders from a local Hugging Face or sentence-transformers directory: safetensors, BERT's names, no network."""

import os
import re
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from models.weights import Pretrained
from models.weights.configuration import FIELDS
from models.weights.paddlenlp import dropout_rates, loaded, quiet
from models.weights.sentence_transformers import projection, sentence_settings
from semindex.errors import UserError
from semindex.fields import file_name, mapping_of, read_fields
from semindex.text.tokenizer_file import read_tokenizer

SINGLE, SHARDS = "model.safetensors", "model.safetensors.index.json"
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
    """Return what holds Hugging Face's weights of a BERT-like encoder: a safetensors file, or the index of several.

    None for a directory without. paddlenlp writes files of that name too, with names of its own inside.
    """
    if os.path.isfile(os.path.join(directory, "model_state.pdparams")):
        return None
    for name in (SINGLE, SHARDS):
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            return path if any(".attention.self.query." in found for found in _names(path)) else None
    return None


def weights_files(path: str) -> list[str]:
    """Return the safetensors files of what weights_file names; UserError where one is missing."""
    if not path.endswith(SHARDS):
        return [path]
    table = read_fields(path, {"weight_map": mapping_of(file_name())}, others=True)["weight_map"]
    files = [os.path.join(os.path.dirname(path), name) for name in sorted(set(table.values()))]
    for file in files:
        if os.path.basename(file) == SHARDS or not os.path.isfile(file):
            raise UserError(f"{path}: names {os.path.basename(file)}, which is missing; copy the whole directory")
    return files


def _names(path: str) -> set[str]:
    from safetensors import SafetensorError, safe_open

    found: set[str] = set()
    for file in weights_files(path):
        try:
            with safe_open(file, framework="numpy") as content:
                found.update(content.keys())
        except SafetensorError as error:
            raise UserError(f"{file}: damaged ({error})") from None
    return found


def paddle_name(name: str) -> str | None:
    """Return paddlenlp's name of a parameter of BERT, ERNIE, RoBERTa or ELECTRA, None for what the encoder lacks."""
    match = re.search(r"(?:^|\.)((?:embeddings|encoder|pooler)\..*)", name)
    if not match:
        return None
    name = match[1]
    for pattern, ours in RENAMES:
        name = re.sub(pattern, ours, name)
    return name


def _config(directory: str, pad_id: int | None, rates: dict[str, float]) -> Any:
    """Return paddlenlp's configuration of a directory. XLM-RoBERTa is RoBERTa with a vocabulary of its own."""
    from paddlenlp.transformers import AutoConfig, RobertaConfig

    content = read_fields(os.path.join(directory, "config.json"), FIELDS, others=True)
    if str((content.get("architectures") or [""])[-1]).startswith("XLMRoberta"):
        config = RobertaConfig(**{name: content[name] for name in FIELDS
                                  if name in content and name not in ("architectures", "model_type")} | rates)
    else:
        config = AutoConfig.from_pretrained(directory, **rates)
    kind = getattr(config, "position_embedding_type", None) or "absolute"
    if kind != "absolute":
        raise UserError(f"{directory}: position_embedding_type {kind} is not supported")
    if pad_id is not None and config.pad_token_id != pad_id:
        if type(config).__name__ == "RobertaConfig":  # its positions are counted from there
            raise UserError(f"{directory}: config.json says that the padding is {config.pad_token_id}, the tokenizer's "
                            f"files say {pad_id}")
        config.pad_token_id = pad_id  # of multilingual-e5 config.json keeps BERT's 0, which is <s> there
    return config


def load_encoder(directory: str, rates: dict[str, float]) -> Any:
    """Return the paddlenlp encoder with the directory's weights; nothing is written there.

    rates: dropout of the configuration to override. Raises UserError where weights are missing or of another shape,
    a pooler's apart, or the configuration asks for what paddlenlp's encoder does not do.
    """
    from paddlenlp.transformers import AutoModel
    from safetensors.numpy import load_file

    path = weights_file(directory)
    assert path is not None
    tokenizer = read_tokenizer(directory, 8)
    encoder = AutoModel.from_config(_config(directory, tokenizer.pad_id if tokenizer else None, rates))
    theirs = {paddle_name(name): (name, value) for file in weights_files(path)
              for name, value in load_file(file).items()}
    fill(encoder, theirs, path)
    return encoder


def fill(encoder: Any, theirs: dict[str | None, tuple[str, np.ndarray]], path: str) -> None:
    """Give a paddlenlp encoder weights in PyTorch's form; UserError where they are not its own.

    theirs: by paddlenlp's name, (their name, value); a linear layer's are [out, in]. Without a pooler's it is zero, and
    marked as `pooler_missing`: random weights would be worse than none.
    """
    import paddle

    state, faults = {}, []
    for name, own in encoder.state_dict().items():
        if name not in theirs:
            if name.startswith("pooler."):
                state[name] = paddle.zeros_like(own)
                encoder.pooler_missing = True
            else:
                faults.append(f"{name} is missing")
            continue
        value = theirs[name][1]
        value = value.T if value.ndim == 2 and "embeddings" not in name else value  # paddle keeps them as [in, out]
        if list(value.shape) != list(own.shape):
            faults.append(f"{theirs[name][0]} is {list(value.shape)} instead of {list(own.shape)}")
        state[name] = paddle.to_tensor(np.ascontiguousarray(value, np.float32))
    if faults:
        raise UserError(f"{path}: does not fit config.json: {'; '.join(faults[:3])}{'; ...' * (len(faults) > 3)}")
    encoder.set_state_dict(state)


def claims(name: str) -> bool:
    """Tell whether the name is a directory with such weights."""
    return os.path.isdir(name) and weights_file(name) is not None


def load(name: str, dropout: float | None, texts: Iterable[str]) -> Pretrained:
    """Return the encoder of a directory."""
    quiet()
    source = os.path.abspath(name)
    found = loaded(name, partial(load_encoder, source, dropout_rates(dropout)), source)
    found.settings, found.projection = sentence_settings(name), projection(name)
    return found
