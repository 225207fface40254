"""An encoder's config.json, checked before anything is made of it: family, sizes, and that its weights can be there."""

import glob
import os
import re
from typing import Any

from semindex.errors import UserError
from semindex.fields import file_name, list_of, read_fields, real, text, truth, whole

CONFIG, LEGACY = "config.json", "model_config.json"
FAMILIES = ("Bert", "Ernie", "Roberta", "XLMRoberta", "Electra", "RoFormer")
# Far above every encoder there is, far below what a mistyped digit asks for.
FIELDS = {name: field.optional() for name, field in {
    "architectures": list_of(text()).or_none(), "hidden_size": whole(1, 65_536), "num_hidden_layers": whole(1, 1000),
    "num_attention_heads": whole(1, 1024), "vocab_size": whole(1, 10_000_000), "intermediate_size": whole(1, 1_000_000),
    "embedding_size": whole(1, 65_536), "max_position_embeddings": whole(3, 1_000_000),
    "type_vocab_size": whole(0, 1000), "pad_token_id": whole(0, 10_000_000).or_none(),
    "hidden_dropout_prob": real(0, 1), "attention_probs_dropout_prob": real(0, 1), "initializer_range": real(0, 100),
    "layer_norm_eps": real(0, 1), "hidden_act": text(), "model_type": text(), "use_task_id": truth(),
    "task_type_vocab_size": whole(1, 1000), "position_embedding_type": text(),
}.items()}


def read_config(directory: str, weights: str | None = None) -> dict[str, Any]:
    """Return config.json of an encoder's directory, checked; {} where paddlenlp's older model_config.json stands.

    weights: their file, the directory's own where left out. Raises UserError where a field is of a wrong type or out
    of range, where two contradict each other, for another architecture, and for sizes that the weights cannot have.
    """
    path = os.path.join(directory, CONFIG)
    if not os.path.isfile(path):
        old = os.path.join(directory, LEGACY)
        if os.path.isfile(old):
            content = read_fields(old, {"init_class": file_name()}, others=True)
            _check_family(old, content["init_class"])
        return {}
    config = read_fields(path, FIELDS, others=True)
    names = config.get("architectures") or [config.get("init_class")]
    _check_family(path, names[-1])
    width, heads = config.get("hidden_size", 768), config.get("num_attention_heads", 12)
    if width % heads:
        raise UserError(f"{path}: hidden_size is {width}, expected a multiple of num_attention_heads, {heads}")
    if (config.get("pad_token_id") or 0) >= config.get("vocab_size", 1 << 30):
        raise UserError(f"{path}: pad_token_id is {config['pad_token_id']}, expected one below vocab_size, "
                        f"{config['vocab_size']}")
    _check_size(path, config, [weights] if weights else weights_files(directory))
    return config


def longest_text(config: Any) -> int | None:
    """Return how many tokens an encoder of a paddlenlp configuration reads at most, None where nothing limits it."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and type(config).__name__ == "RobertaConfig":  # its positions begin behind the padding's
        return positions - (config.pad_token_id or 0) - 1
    return positions


def weights_files(directory: str) -> list[str]:
    """Return the files of weights of a directory, one or several."""
    return sorted(path for form in ("model*.safetensors", "model_state*.pdparams")
                  for path in glob.glob(os.path.join(glob.escape(directory), form)))


def _check_family(path: str, name: Any) -> None:
    if not isinstance(name, str):
        raise UserError(f"{path}: names no architecture; add for example \"architectures\": [\"BertModel\"]")
    if not re.fullmatch(rf"({'|'.join(FAMILIES)})(Model|For[A-Z]\w*|LMHeadModel|Discriminator|Generator)", name):
        raise UserError(f"{path}: the architecture {name:.60} is not supported; known to be right are "
                        f"{', '.join(f'{family}Model' for family in FAMILIES)}")


def _check_size(path: str, config: dict[str, Any], files: list[str]) -> None:
    """Raise UserError where the matrices alone, of 16 bits a number, are larger than the files."""
    sizes = ("hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size", "max_position_embeddings")
    if not files or any(name not in config for name in sizes):
        return
    width, layers, words, inner, positions = (config[name] for name in sizes)
    rows = words + (positions if "RoFormer" not in str(config.get("architectures")) else 0)
    wanted = rows * config.get("embedding_size", width) + layers * (4 * width * width + 2 * width * inner)
    held = sum(os.path.getsize(file) for file in files)
    if 2 * wanted > held:
        asked = ", ".join(f"{name} {config[name]}" for name in sizes)
        raise UserError(f"{path}: asks for {wanted:,} parameters ({asked}), and {files[0]} of {held:,} bytes holds at "
                        "most half as many as bytes; it was cut, or the two do not belong together")
