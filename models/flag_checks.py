"""Flags of the encoder against what a checkpoint, or the encoder itself, says."""

import os
from typing import Any

from models.semantic_index import SemanticIndex
from models.settings import EncoderSettings
from models.weights.configuration import CONFIG, longest_text, read_config
from semindex.encode.truncation import choose
from semindex.errors import UserError

PROMPTS = ("query_prompt", "passage_prompt", "query_prompt_on_both")


def check_flags(flags: dict[str, Any], stored: EncoderSettings, where: str) -> None:
    """Refuse flags that say other than the checkpoint; a shorter or longer max_seq_length is the user's choice."""
    if flags.get("infer_with_fc_pooler") and stored.pooling != "pooler":
        raise UserError(f"--infer_with_fc_pooler contradicts the checkpoint {where}, whose pooling is "
                        f"{stored.pooling}; leave the flag out")
    for name in ("output_emb_size", "pooling", "pooling_layer", "similarity", *PROMPTS):
        given = flags.get(name)
        if given is not None and given != getattr(stored, name):
            raise UserError(f"--{name} {given!r} contradicts the checkpoint {where}, made with "
                            f"{getattr(stored, name)!r}; leave the flag out")


def check_shape(name: str | None, config: Any, stored: EncoderSettings, where: str) -> None:
    """Refuse a --model_name_or_path of another encoder than the checkpoint holds."""
    if name is None or name == stored.encoder:
        return
    if os.path.isfile(os.path.join(name, CONFIG)):
        given = read_config(name)
        keys = ("hidden_size", "num_hidden_layers", "vocab_size")
        if all(given.get(key, getattr(config, key)) == getattr(config, key) for key in keys):
            return
    elif os.path.basename(name) == os.path.basename(stored.encoder.rstrip("/")):
        return  # the same encoder, named with another path
    raise UserError(f"--model_name_or_path {name} contradicts the checkpoint {where}, made with "
                    f"{stored.encoder}; leave the flag out")


def check_lengths(settings: EncoderSettings, flags: dict[str, Any], config: Any) -> None:
    """Raise UserError where texts or queries may have more tokens than the encoder has positions."""
    longest = longest_text(config)
    queries = flags.get("max_query_length") or settings.max_query_length
    for name, length in (("max_seq_length", settings.max_seq_length), ("max_query_length", queries)):
        if longest is not None and length > longest:
            raise UserError(f"--{name} {length}: {settings.encoder} reads at most {longest} tokens")


def check_truncation(model: SemanticIndex) -> None:
    """Warn of a width that the encoder was not trained for; the whole width is no truncation."""
    settings = model.settings
    settings.truncate_dim = choose(settings.truncate_dim, model.width, settings.matryoshka_dims, settings.similarity,
                                   settings.principal_axes)
