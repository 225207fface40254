"""Encoders from a local Hugging Face or sentence-transformers directory: safetensors, BERT's names, no network."""

import os
import re
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from models.weights import Pretrained
from models.weights.configuration import FIELDS, longest_text
from models.weights.paddlenlp import dropout_rates, loaded, quiet
from models.weights.sentence_transformers import KIND, linear_weights, sentence_settings
from models.weights.tensors import read_tensors
from semindex import manifest
from semindex.errors import UserError
from semindex.fields import file_name, mapping_of, read_fields
from semindex.text.tokenizer_file import read_tokenizer, written_length

SINGLE, SHARDS = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# Hugging Face's names of a BERT-like encoder's modules, and paddlenlp's; those of a layer stand below LAYERS.
LAYERS = ("encoder.layer.", "encoder.layers.")
IN_LAYER = {
    "attention.self.query": "self_attn.q_proj", "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj", "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1", "intermediate.dense": "linear1", "output.dense": "linear2",
    "output.LayerNorm": "norm2",
}
OUTSIDE = {"embeddings.LayerNorm": "embeddings.layer_norm"}
# What transformers takes for a field that config.json leaves out, where paddlenlp takes something else.
DEFAULTS = {"Bert": {"vocab_size": 30_522, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0}}
DEFAULTS |= {"Ernie": DEFAULTS["Bert"] | {"use_task_id": False},
             "Roberta": {"vocab_size": 50_265, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 1}}


def weights_file(directory: str) -> str | None:
    """Return what holds Hugging Face's weights of a BERT-like encoder: a safetensors file, or the index of several.

    None for a directory without. paddlenlp writes files of that name too, with names of its own inside. Raises
    UserError where PyTorch's pickle alone is there.
    """
    if os.path.isfile(os.path.join(directory, "model_state.pdparams")):
        return None
    for name in (SINGLE, SHARDS):
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            return path if any(".attention.self.query." in found for found in _names(path)) else None
    for name in PICKLES:
        if os.path.isfile(os.path.join(directory, name)):
            raise UserError(f"{directory}: holds {name} and no safetensors; a pickle may run anything and is not "
                            "opened: where transformers is installed, "
                            "AutoModel.from_pretrained(DIR).save_pretrained(OTHER) writes safetensors")
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
    return _renamed(match[1], LAYERS[0], LAYERS[1], IN_LAYER, OUTSIDE) if match else None


def huggingface_name(name: str) -> str:
    """Return Hugging Face's name of paddlenlp's parameter of BERT, ERNIE or RoBERTa: the way back."""
    inside, outside = ({ours: theirs for theirs, ours in table.items()} for table in (IN_LAYER, OUTSIDE))
    return _renamed(name, LAYERS[1], LAYERS[0], inside, outside)


def _renamed(name: str, old: str, new: str, inside: dict[str, str], outside: dict[str, str]) -> str:
    """Rename a parameter, `module.weight`. old, new: what the names of layers begin with."""
    module, _, last = name.rpartition(".")
    if not name.startswith(old):
        return f"{outside.get(module, module)}.{last}"
    number, _, part = module.removeprefix(old).partition(".")
    return f"{new}{number}.{inside.get(part, part)}.{last}"


def is_linear(name: str, value: Any) -> bool:
    """Tell whether a parameter is a linear layer's matrix: PyTorch keeps it as [out, in], paddle as [in, out]."""
    return value.ndim == 2 and "embeddings" not in name


def _make(directory: str, pad_id: int | None, rates: dict[str, float]) -> Any:
    """Return paddlenlp's encoder of a directory, weights still random. XLM-RoBERTa is RoBERTa with other words."""
    from paddlenlp import transformers

    path = os.path.join(directory, "config.json")
    content = read_fields(path, FIELDS, others=True)
    name = str((content.get("architectures") or [""])[-1]).removeprefix("XLM")
    family = next((family for family in DEFAULTS if name.startswith(family)), None)
    if (kind := content.get("position_embedding_type") or "absolute") != "absolute":
        raise UserError(f"{path}: position_embedding_type {kind} is not supported")
    if family:  # the fields that are checked, and no other: torch's dtype for example is not paddle's
        make_config = getattr(transformers, f"{family}Config")
        known = {key: content[key] for key in FIELDS if content.get(key) is not None}
        config = make_config(**DEFAULTS[family] | known | {"architectures": [f"{family}Model"]} | rates)
    else:
        config = transformers.AutoConfig.from_pretrained(directory, **rates)
    if pad_id is not None and config.pad_token_id != pad_id:
        if family == "Roberta":  # its positions are counted from there
            raise UserError(f"{directory}: config.json says that the padding is {config.pad_token_id}, the tokenizer's "
                            f"files say {pad_id}")
        config.pad_token_id = pad_id  # of multilingual-e5 config.json keeps BERT's 0, which is <s> there
    return transformers.AutoModel.from_config(config)


def load_encoder(directory: str, rates: dict[str, float]) -> Any:
    """Return the paddlenlp encoder with the directory's weights; nothing is written there.

    rates: dropout of the configuration to override. Raises UserError where weights are missing or of another shape,
    a pooler's apart, or the configuration asks for what paddlenlp's encoder does not do.
    """
    path = weights_file(directory)
    assert path is not None
    tokenizer = read_tokenizer(directory, 8)
    encoder = _make(directory, tokenizer.pad_id if tokenizer else None, rates)
    theirs = {paddle_name(name): (name, value) for file in weights_files(path)
              for name, value in read_tensors(file).items()}
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
        value = value.T if is_linear(name, value) else value
        if list(value.shape) != list(own.shape):
            faults.append(f"{theirs[name][0]} is {list(value.shape)} instead of {list(own.shape)}")
        state[name] = paddle.to_tensor(np.ascontiguousarray(value, np.float32))
    if faults:
        raise UserError(f"{path}: does not fit config.json: {'; '.join(faults[:3])}{'; ...' * (len(faults) > 3)}")
    encoder.set_state_dict(state)


def _fill_pooler(encoder: Any, weights: dict[str, np.ndarray], name: str) -> None:
    """Give an encoder the pooler that stands as a module of its own; UserError where it has another width."""
    import paddle

    if weights["weight"].shape != tuple(encoder.pooler.dense.weight.shape):
        raise UserError(f"{name}: the first Dense is {list(weights['weight'].shape)}, the encoder's pooler is "
                        f"{encoder.pooler.dense.weight.shape}")
    encoder.pooler.dense.set_state_dict({key: paddle.to_tensor(value) for key, value in weights.items()})
    encoder.pooler_missing = False


def claims(name: str) -> bool:
    """Tell whether the name is a directory with such weights."""
    return os.path.isdir(name) and weights_file(name) is not None


def load(name: str, dropout: float | None, texts: Iterable[str]) -> Pretrained:
    """Return the encoder of a directory; one that export_model.py wrote is checked first."""
    quiet()
    if (manifest.read(name) or {}).get("kind") == KIND:
        manifest.check(name, KIND)
    source = os.path.abspath(name)
    found = loaded(name, partial(load_encoder, source, dropout_rates(dropout)), source)
    found.settings, found.projection = sentence_settings(name), linear_weights(name)
    if pooler := linear_weights(name, "Pooler"):
        _fill_pooler(found.encoder, pooler, name)
    if found.settings:
        config, settings = found.encoder.config, found.settings
        length = settings.setdefault("max_seq_length", written_length(source))
        settings["max_seq_length"] = min(length, longest_text(config) or length)
        if settings.get("truncate_dim", 0) >= (settings["output_emb_size"] or config.hidden_size):
            del settings["truncate_dim"]  # as sentence-transformers, which cuts nothing then
    return found
