"""Encoders made anew, loaded from a checkpoint and saved into one."""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

import paddle
from paddle import nn

from models import flag_checks, weights
from models.semantic_index import SemanticIndex
from models.settings import FORMAT_OF_EPSILON, MAX_SEQ_LENGTH, SETTINGS, EncoderSettings, read_settings, write_settings
from models.static_encoder import StaticModel, read_static
from models.weights import huggingface, sentence_transformers
from models.weights.configuration import CONFIG, longest_text, read_config
from models.weights.paddlenlp import quiet
from models.weights.state_files import read_state
from semindex import manifest
from semindex.errors import UserError
from semindex.files import checksum, digest
from semindex.runtime import say, warn
from semindex.text.paddlenlp_tokenizer import PaddlenlpTokenizer
from semindex.text.tokenizer import TextTokenizer
from semindex.text.tokenizer_file import read_tokenizer

WEIGHTS = "model_state.pdparams"
# What a checkpoint from before manifests may hold.
OLDER = {WEIGHTS, SETTINGS, "config.json", "optimizer.pdopt", "training_state.json", "head.pdparams", "vocab.txt",
         "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json", "vocab.json",
         "merges.txt", "sentencepiece.bpe.model", "spiece.model"}


def locate(params_path: str) -> tuple[str, str]:
    """Return (directory, weights file) of a --params_path, which may name either; UserError where there is none."""
    directory, weights = os.path.split(params_path)
    if os.path.isdir(params_path):
        directory, weights = params_path, WEIGHTS
    file = os.path.join(directory, weights)
    if os.path.isdir(params_path):
        file = huggingface.weights_file(directory) or file
    if not os.path.exists(params_path):
        raise UserError(f"{params_path}: no such checkpoint")
    if not os.path.isfile(file):
        raise UserError(f"{params_path}: not a checkpoint, it holds no {WEIGHTS}")
    return directory or ".", file


def fingerprint(params_path: str | None, model: SemanticIndex, tokenizer: TextTokenizer) -> str:
    """Return a SHA-256 over weights, shape, settings and vocabulary: encoders with the same one give the same vectors.

    params_path: where the model was loaded from, None where that is no checkpoint.
    """
    found = hashlib.sha256()
    if params_path:
        directory, file = locate(params_path)
        files = [*huggingface.weights_files(file), *sentence_transformers.weights_files(directory)]
        found = digest(files[0])
        for other in files[1:]:
            found.update(checksum(other).encode())
    else:
        for value in model.state_dict().values():
            found.update(value.numpy().tobytes())
    settings = {key: value for key, value in asdict(model.settings).items()
                if key in ("pooling", "pooling_layer", "output_emb_size", "max_seq_length")
                or (key, value) == ("similarity", "dot") or key in ("projection_activation", "truncate_dim") and value}
    shape = {key: value for key, value in model.ptm.config.to_dict().items()
             if isinstance(value, (int, float, str)) and not re.search("dropout|version|path|prob", key)}
    for part in (settings, shape, *tokenizer.identity(), *model.settings.prompts.identity()):
        found.update(json.dumps(part, sort_keys=True, ensure_ascii=False).encode())
    return found.hexdigest()


def _shape(value: Any) -> list[int] | str:
    return list(value.shape) if isinstance(value, paddle.Tensor) else type(value).__name__


def load_weights(model: nn.Layer, file: str, may_lack: tuple[str, ...] = ()) -> None:
    """Fill the model from a state dict; UserError names what is missing, unexpected or of another shape.

    may_lack: prefixes of parameters that keep their initial values, with a note, when the file lacks them.
    """
    state, own = read_state(file), model.state_dict()
    missing = [name for name in own if name not in state]
    fresh = [name for name in missing if name.startswith(may_lack)] if may_lack else []
    unexpected = [name for name in state if name not in own]
    shapes = [f"{name} {_shape(state[name])} instead of {list(own[name].shape)}"
              for name in own if name in state and _shape(state[name]) != list(own[name].shape)]
    faults = [(shapes, "of another shape"), ([name for name in missing if name not in fresh], "missing"),
              (unexpected, "unexpected")]
    texts = [f"{len(names)} {what} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
             for names, what in faults if names]
    if texts:
        raise UserError(f"{file}: does not fit the encoder: parameters {'; '.join(texts)}; "
                        "was it trained with another --model_name_or_path or --output_emb_size?")
    for name, value in state.items():
        if value.dtype != own[name].dtype:  # weights of 16 bit into an encoder of 32, and the other way round
            state[name] = value.astype(own[name].dtype)
    model.set_state_dict(state)
    if fresh:
        say(f"not in {file}, initialised anew: {', '.join(fresh)}")


def older_files(path: str) -> set[str] | None:
    """Return the files of a checkpoint from before manifests, see directories.Older."""
    ours = all(os.path.isfile(os.path.join(path, name)) for name in (WEIGHTS, SETTINGS))
    return {name for name in os.listdir(path) if name in OLDER} if ours else None


def check_files(directory: str, trust: bool = False) -> None:
    """Raise UserError where a checkpoint's files are not what was written; warn of one from before checksums.

    trust: see manifest.check.
    """
    kind = (manifest.read(directory) or {}).get("kind")
    if kind == sentence_transformers.KIND:  # an export that is read as any other such directory
        manifest.check(directory, kind, trust)
    elif manifest.check(directory, "checkpoint", trust) is None and os.path.isfile(os.path.join(directory, SETTINGS)):
        warn(f"{directory}: from before there were checksums, its files are not checked")


def _make(auto_model: Any, config: Any, where: str) -> Any:
    """Return the encoder of a configuration; whatever paddlenlp raises becomes one line."""
    try:
        return auto_model.from_config(config)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{os.path.join(where, CONFIG)}: no encoder can be made of it "
                        f"({type(error).__name__}: {reason:.200})") from None


def load(params_path: str, flags: dict[str, Any], head_dropout: float = 0.1) -> tuple[SemanticIndex, TextTokenizer]:
    """Load encoder and tokenizer of a checkpoint, in evaluation mode.

    flags: the encoder flags of flags.add_encoder and `dropout`, None or absent where not given. A directory
    without semantic_index.json (weights published with the recipe) needs model_name_or_path beside it.
    Raises UserError for contradictions and for weights that do not fit.
    """
    from paddlenlp.transformers import AutoConfig, AutoModel

    quiet()
    directory, file = locate(params_path)
    check_files(directory, bool(flags.get("trust_files")))
    settings = read_settings(directory)
    name = flags.get("model_name_or_path")
    if settings is None and huggingface.weights_file(directory):
        if name and os.path.realpath(name) != os.path.realpath(directory):
            raise UserError(f"--model_name_or_path {name}: {params_path} is a whole encoder by itself; "
                            "leave the flag out")
        model, tokenizer = assemble(directory, _as_published(directory, flags), flags, head_dropout=head_dropout)
        model.eval()
        return model, tokenizer
    if settings is None:
        if not name:
            raise UserError(f"{params_path}: holds no {SETTINGS}; pass --model_name_or_path with the encoder's name")
        model, tokenizer = create(name, flags, head_dropout=head_dropout)
    else:
        flag_checks.check_flags(flags, settings, directory)
        config: Any = read_static(directory, file)
        make = StaticModel if config else partial(_make, AutoModel, where=directory)
        if config is None:
            read_config(directory, file)
            try:
                config = AutoConfig.from_pretrained(os.path.abspath(directory))
            except Exception as error:
                raise UserError(_incomplete(directory, error)) from None
        if settings.format < FORMAT_OF_EPSILON and type(config).__name__ == "ErnieConfig":
            config.layer_norm_eps = 1e-12
        flag_checks.check_shape(name, config, settings, directory)
        if flags.get("dropout") is not None:
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = flags["dropout"]
        for key in ("max_seq_length", "truncate_dim"):
            if flags.get(key) is not None:
                setattr(settings, key, flags[key])
        flag_checks.check_lengths(settings, flags, config)
        model = SemanticIndex(make(config), settings, head_dropout)
        flag_checks.check_truncation(model)
        tokenizer = _checkpoint_tokenizer(directory, settings.max_seq_length)
        settings.prompts.check_room(tokenizer)
    load_weights(model, file)
    model.eval()
    return model, tokenizer


def _as_published(directory: str, flags: dict[str, Any]) -> weights.Pretrained:
    """Return the encoder of a published directory for inference: what it does not say is no random layer.

    UserError for flags that contradict what a sentence-transformers directory says, and for a linear layer that none
    has trained.
    """
    found = weights.load(directory, flags.get("dropout"), ())
    if found.settings:
        flag_checks.check_flags(flags, EncoderSettings(directory, **found.settings), directory)
        return found
    if flags.get("output_emb_size"):
        raise UserError(f"--output_emb_size {flags['output_emb_size']}: {directory} has no linear layer; train one, "
                        "with --model_name_or_path, or leave the flag out")
    longest = longest_text(found.encoder.config) or EncoderSettings.max_seq_length
    found.settings = {"output_emb_size": 0, "pooling": "mean",
                      "max_seq_length": min(EncoderSettings.max_seq_length, longest)}
    if flags.get("pooling") is None:
        say(f"{directory}: does not say how tokens become a vector: by their mean, --pooling is another way")
    return found


def _incomplete(directory: str, error: Exception) -> str:
    return (f"{directory}: incomplete checkpoint: config.json or the tokenizer's files are missing or damaged "
            f"({type(error).__name__})")


def _checkpoint_tokenizer(directory: str, max_seq_length: int) -> TextTokenizer:
    """Return the tokenizer of a checkpoint: of its tokenizer.json, else paddlenlp's."""
    found = read_tokenizer(directory, max_seq_length)
    if found is not None:
        return found
    from paddlenlp.transformers import AutoTokenizer

    try:
        return PaddlenlpTokenizer(AutoTokenizer.from_pretrained(os.path.abspath(directory)), max_seq_length)
    except Exception as error:
        raise UserError(_incomplete(directory, error)) from None


def create(name: str, flags: dict[str, Any], texts: Iterable[str] = (), head: str = "",
           head_dropout: float = 0.1) -> tuple[SemanticIndex, TextTokenizer]:
    """Build a new encoder: pretrained by name or directory, or scratch-LxW with a vocabulary from `texts`."""
    prompts = [flags[key] for key in ("query_prompt", "passage_prompt") if flags.get(key)]
    texts = itertools.chain(texts, prompts)  # a vocabulary that is made of them has both
    return assemble(name, weights.load(name, flags.get("dropout"), texts), flags, head, head_dropout)


def assemble(name: str, found: weights.Pretrained, flags: dict[str, Any], head: str = "",
             head_dropout: float = 0.1) -> tuple[SemanticIndex, TextTokenizer]:
    """Build a new encoder of what a source gave; name: where it came from, for settings and messages."""
    ptm = found.encoder
    given = {key: flags[key] for key in ("pooling", "pooling_layer", "output_emb_size", "max_seq_length", "similarity",
                                         "truncate_dim", *flag_checks.PROMPTS) if flags.get(key) is not None}
    usual: dict[str, Any] = {"pooling": "pooler", "head": head}
    if head in MAX_SEQ_LENGTH:
        longest = longest_text(ptm.config) or MAX_SEQ_LENGTH[head]
        usual["max_seq_length"] = min(MAX_SEQ_LENGTH[head], longest)
    if flags.get("similarity") == "dot":
        usual |= {"output_emb_size": ptm.config.hidden_size, "pooling": "cls"}
    usual |= found.settings
    settings = EncoderSettings(name, **usual | given)
    _choose_simcse_pooling(settings, flags)
    flag_checks.check_lengths(settings, flags, ptm.config)
    model = SemanticIndex(ptm, settings, head_dropout)
    flag_checks.check_truncation(model)
    if found.projection:
        _fill_projection(model, found.projection, name)
    tokenizer = found.make_tokenizer(settings.max_seq_length)
    settings.prompts.check_room(tokenizer)
    return model, tokenizer


def _fill_projection(model: SemanticIndex, projection: dict[str, Any], name: str) -> None:
    """Give the linear layer the weights of the source; UserError where the flags ask for another width."""
    width = projection["weight"].shape[1]
    if model.settings.output_emb_size != width:
        raise UserError(f"--output_emb_size {model.settings.output_emb_size} contradicts {name}, whose linear layer is "
                        f"{width} wide; leave the flag out")
    assert model.emb_reduce_linear is not None
    model.emb_reduce_linear.set_state_dict({key: paddle.to_tensor(value) for key, value in projection.items()})


def _choose_simcse_pooling(settings: EncoderSettings, flags: dict[str, Any]) -> None:
    """Settle what --infer_with_fc_pooler means; absent from the flags of other heads.

    Given: training and inference go through the pooler's layer. Left out: as in Gao et al. 2021 (arXiv 2104.08821,
    section 6.3) the layer serves training and inference takes [CLS] as it is. With a linear layer behind, what it
    reads must be the same in both, so there the pooler is left out of training too.
    """
    wanted = flags.get("infer_with_fc_pooler")
    if wanted is None:
        return
    if wanted:
        if flags.get("pooling") not in (None, "pooler"):
            raise UserError(f"--infer_with_fc_pooler contradicts --pooling {flags['pooling']}; leave one of them out")
        settings.pooling = "pooler"
    elif settings.pooling == "pooler" and flags.get("pooling") is None:
        settings.pooling = "cls"
        settings.training_pooling = "" if settings.output_emb_size else "pooler"


def save(model: SemanticIndex, tokenizer: TextTokenizer, directory: str) -> None:
    """Write weights, the encoder's config, the tokenizer's files and semantic_index.json into a directory."""
    paddle.save(model.state_dict(), os.path.join(directory, WEIGHTS))
    config = model.ptm.config
    config.architectures = [type(model.ptm).__name__]
    config.save_pretrained(directory)
    tokenizer.save(directory)
    write_settings(model.settings, directory)
