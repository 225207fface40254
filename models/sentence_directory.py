"""A checkpoint to a directory that sentence-transformers loads, read back and compared with the model."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from models import loading
from models.encoders import dynamic
from models.export import AGREEMENT, SAMPLES, check_output_path, versions
from models.model_card import model_card
from models.semantic_index import SemanticIndex
from models.weights.huggingface import SINGLE, huggingface_name, is_linear
from models.weights.sentence_transformers import ACTIVATIONS, KIND, MODULES, PROMPTS
from models.weights.tensors import write_tensors
from semindex import manifest
from semindex.directories import atomic_directory
from semindex.errors import UserError
from semindex.runtime import warn
from semindex.text.prompts import SIDES
from semindex.text.tokenizer import TextTokenizer
from semindex.text.tokenizer_file import SPECIAL_FILE, FileTokenizer

FLAG = "--format sentence-transformers"
# paddlenlp's classes, and transformers' model_type and class.
NAMES = {"BertModel": ("bert", "BertModel"), "ErnieModel": ("ernie", "ErnieModel"),
         "RobertaModel": ("roberta", "RobertaModel")}
XLM_ROBERTA = ("xlm-roberta", "XLMRobertaModel")  # RoBERTa whose tokenizer is of pieces with scores
# Functions that paddle and transformers call by the same name.
HIDDEN_ACTS = ("gelu", "relu", "tanh", "sigmoid", "silu")
COPIED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
          "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size",
          "initializer_range")
Linear = tuple[np.ndarray, np.ndarray | None, str]  # weight [out, in], bias [out], one of ACTIVATIONS' values


def tokenizer_file(model: SemanticIndex, tokenizer: TextTokenizer) -> FileTokenizer:
    """Return the tokenizer as a tokenizer.json; UserError for an encoder that such a directory cannot express."""
    encoder, settings = model.ptm, model.settings
    config, name, found = encoder.config, type(encoder).__name__, tokenizer.as_file()
    last = settings.pooling_layer in (-1, config.num_hidden_layers)
    if name not in NAMES:
        raise UserError(f"{FLAG}: a {name} has no form there that gives the same vectors; {', '.join(NAMES)} have; "
                        "--format paddle or onnx writes any encoder")
    faults = {
        "an encoder for inner products (--similarity dot) ends in a layer norm; only those for cosines are written":
            settings.similarity != "cosine",
        f"--pooling_layer {settings.pooling_layer}: transformers gives the last layer alone": not last,
        f"hidden_act {config.hidden_act}: not known to be the same there": config.hidden_act not in HIDDEN_ACTS,
        f"pool_act {getattr(config, 'pool_act', 'tanh')}: the pooler there has tanh":
            settings.pooling == "pooler" and getattr(config, "pool_act", "tanh") != "tanh",
        "task_id is not 0, which transformers takes": getattr(config, "use_task_id", False) and config.task_id != 0,
        "type_vocab_size is 0, which transformers does not know": not config.type_vocab_size,
        "its tokenizer is no WordPiece and has no tokenizer.json": not isinstance(found, FileTokenizer),
    }
    for fault, there in faults.items():
        if there:
            raise UserError(f"{FLAG}: {fault}; --format paddle or onnx writes any encoder")
    assert isinstance(found, FileTokenizer)
    return found


def encoder_config(model: SemanticIndex, tokenizer: FileTokenizer) -> dict[str, Any]:
    """Return config.json as transformers reads it."""
    config = model.ptm.config
    kind, name = NAMES[type(model.ptm).__name__]
    if kind == "roberta" and json.loads(tokenizer.content)["model"].get("type") == "Unigram":
        kind, name = XLM_ROBERTA
    content = {"architectures": [name], "model_type": kind} | {key: getattr(config, key) for key in COPIED}
    if getattr(config, "use_task_id", False):
        content |= {"use_task_id": True, "task_type_vocab_size": config.task_type_vocab_size}
    return content | {"layer_norm_eps": model.ptm.embeddings.layer_norm._epsilon, "pad_token_id": model.pad_id,
                      "position_embedding_type": "absolute", "torch_dtype": "float32"}


def encoder_weights(model: SemanticIndex) -> dict[str, np.ndarray]:
    """Return the encoder's parameters as transformers names and keeps them; a pooler of zeros is none."""
    state = {name: value.astype("float32").numpy() for name, value in model.ptm.state_dict().items()}
    pooler = any(value.any() for name, value in state.items() if name.startswith("pooler."))
    return {huggingface_name(name): np.ascontiguousarray(value.T if is_linear(name, value) else value)
            for name, value in state.items() if pooler or not name.startswith("pooler.")}


def linear_layers(model: SemanticIndex) -> list[Linear]:
    """Return what stands between the pooling and the unit vector: the pooler's layer, and the linear one.

    Where vectors are cut, the last of them gives the first numbers alone: no reader has to know of it.
    """
    settings, found = model.settings, []
    if settings.pooling == "pooler":
        found.append(_linear(model.ptm.pooler.dense, "tanh"))
    if model.emb_reduce_linear is not None:
        found.append(_linear(model.emb_reduce_linear, settings.projection_activation))
    if settings.truncate_dim:
        if not found:
            found.append((np.eye(model.width, dtype=np.float32), None, ""))
        weight, bias, activation = found.pop()
        kept = slice(0, settings.truncate_dim)
        found.append((np.ascontiguousarray(weight[kept]), None if bias is None else bias[kept], activation))
    return found


def _linear(layer: Any, activation: str) -> Linear:
    bias = None if layer.bias is None else layer.bias.astype("float32").numpy()
    return np.ascontiguousarray(layer.weight.astype("float32").numpy().T), bias, activation


def _dump(content: Any, *place: str) -> None:
    os.makedirs(os.path.join(*place[:-1]), exist_ok=True)
    with open(os.path.join(*place), "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=2)


def write_files(model: SemanticIndex, tokenizer: FileTokenizer, directory: str) -> None:
    """Write all but the model card: the encoder, its tokenizer, and the modules behind it."""
    settings = model.settings
    _dump(encoder_config(model, tokenizer), directory, "config.json")
    write_tensors(os.path.join(directory, SINGLE), encoder_weights(model))
    tokenizer.save(directory)
    _dump(tokenizer.special, directory, SPECIAL_FILE)
    _dump({"max_seq_length": settings.max_seq_length, "do_lower_case": False}, directory, "sentence_bert_config.json")
    places = [("Transformer", ""), ("Pooling", "1_Pooling")]
    pooling = "cls" if settings.pooling == "pooler" else settings.pooling
    # The fields that every release reads; newer ones have pooling_mode, and take these for it.
    modes = {f"pooling_mode_{mode}": mode.startswith(pooling) for mode in ("cls_token", "mean_tokens", "max_tokens")}
    _dump({"word_embedding_dimension": model.ptm.config.hidden_size} | modes, directory, "1_Pooling", "config.json")
    names = {activation: name for name, activation in ACTIVATIONS.items()}
    for weight, bias, activation in linear_layers(model):
        place = f"{len(places)}_Dense"
        places.append(("Dense", place))
        _dump({"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": bias is not None,
               "activation_function": names[activation]}, directory, place, "config.json")
        state = {"linear.weight": weight} | ({} if bias is None else {"linear.bias": bias})
        write_tensors(os.path.join(directory, place, SINGLE), state)
    places.append(("Normalize", f"{len(places)}_Normalize"))
    _dump({}, directory, places[-1][1], "config.json")
    _dump([{"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{kind}"}
           for i, (kind, place) in enumerate(places)], directory, MODULES)
    query, passage = (settings.prompts.of(side) for side in SIDES)
    # encode_query and encode_document take `query` and `document`; `passage` is what E5 and others call it.
    _dump({"prompts": {"query": query, "document": passage, "passage": passage}, "default_prompt_name": None,
           "similarity_fn_name": "cosine"}, directory, PROMPTS)


def export_sentence_transformers(model: SemanticIndex, tokenizer: TextTokenizer, output_path: str, source: str,
                                 results: Mapping[str, float] | None = None) -> dict[str, tuple[float, float]]:
    """Write the directory, and compare what is read back from it with the model before it gets its name.

    source: the checkpoint. results: measured on a development set, for the model card. Returns as models.export.export.
    Raises UserError for an encoder that cannot be expressed, before any work, and where the vectors differ by more than
    AGREEMENT: nothing is left behind then.
    """
    check_output_path(output_path, KIND)
    file = tokenizer_file(model, tokenizer)
    with atomic_directory(output_path, KIND) as directory:
        write_files(model, file, directory)
        card = model_card(model, source, output_path, results or {}, versions())
        with open(os.path.join(directory, "README.md"), "w", encoding="utf-8") as text:
            text.write(card)
        manifest.write(directory, KIND, {"dimension": model.dimension, "versions": versions()})
        difference, cosine = _compare(model, tokenizer, directory)
        if not difference <= AGREEMENT:
            raise UserError(f"{FLAG}: what is read back differs from the model by {difference:.2g}, more than "
                            f"{AGREEMENT:g}; nothing was written to {output_path}")
    return {KIND: (difference, cosine)}


def _compare(model: SemanticIndex, tokenizer: TextTokenizer, directory: str) -> tuple[float, float]:
    """Return (largest difference, smallest cosine) over samples that both tokenizers cut alike; warn of the others."""
    again, file = loading.load(directory, {})
    same = [text for text in SAMPLES if list(tokenizer.ids([text])[0]) == list(file.ids([text])[0])]
    if others := [text for text in SAMPLES if text not in same]:
        warn(f"{len(others)} of {len(SAMPLES)} sample texts are cut differently by tokenizer.json, as "
             f"{others[0]!r:.60}: characters that the tokenizers library splits in a way of its own")
    ours, theirs = (np.concatenate([encoder.side(side)(same) for side in SIDES])
                    for encoder in (dynamic(model, tokenizer, 4), dynamic(again, file, 4)))
    return float(np.abs(ours - theirs).max()), float(np.einsum("ij,ij->i", ours, theirs).min())
