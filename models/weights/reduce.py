"""A smaller encoder from a larger one: fewer layers, and a vocabulary of what the user's texts need."""

import itertools
import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from models.weights import Pretrained
from models.weights.unigram import cut_pieces, kept_pieces
from semindex.errors import UserError
from semindex.text.tokenizer_file import FileTokenizer

WORDS = "embeddings.word_embeddings.weight"
WINDOW = 4096  # texts tokenised at once


def _rebuilt(encoder: Any, changes: dict[str, int], state: dict[str, Any]) -> Any:
    """Return an encoder of the same kind with other sizes and given weights."""
    from paddlenlp.transformers import AutoModel

    config = encoder.config
    for name, value in changes.items():
        setattr(config, name, value)
    config.architectures = [type(encoder).__name__]
    other = AutoModel.from_config(config)
    other.set_state_dict(state)
    if getattr(encoder, "pooler_missing", False):
        other.pooler_missing = True
    return other


def keep_layers(found: Pretrained, layers: int) -> list[int]:
    """Keep some layers, spread evenly, the first and the last among them; return which, from 0.

    As DistilBERT starts from every second one (Sanh et al. 2019, arXiv 1910.01108). Raises UserError where there are
    not so many.
    """
    encoder = found.encoder
    there = encoder.config.num_hidden_layers
    if not 1 <= layers <= there:
        raise UserError(f"--layers {layers}: the encoder has {there} layers")
    chosen = [int(place) for place in np.linspace(0, there - 1, layers).round()] if layers > 1 else [there - 1]
    state = {}
    for name, value in encoder.state_dict().items():
        parts = name.split(".")
        if parts[:2] == ["encoder", "layers"]:
            if int(parts[2]) not in chosen:
                continue
            parts[2] = str(chosen.index(int(parts[2])))
        state[".".join(parts)] = value
    found.encoder = _rebuilt(encoder, {"num_hidden_layers": layers}, state)
    return chosen


def _windows(texts: Iterable[str]) -> Iterator[list[str]]:
    several = iter(texts)
    while window := list(itertools.islice(several, WINDOW)):
        yield window


def keep_vocabulary(found: Pretrained, texts: Iterable[str], prompts: Iterable[str] = ()) -> tuple[int, int, int]:
    """Keep the pieces that texts are cut into, see unigram.kept_pieces; return (before, after, texts seen).

    prompts: what may stand before a text; each text counts with each of them. Raises UserError for a tokenizer that is
    no Unigram tokenizer.json.
    """
    tokenizer = found.make_tokenizer(8192)
    if not isinstance(tokenizer, FileTokenizer):
        raise UserError("--vocabulary_texts: only encoders with a Unigram tokenizer.json can be cut")
    content = json.loads(tokenizer.content)
    used, count = np.zeros(found.encoder.config.vocab_size, bool), 0
    for window in _windows(texts):
        count += len(window)
        for prompt in dict.fromkeys(("", *prompts)):
            used[tokenizer.prompted(prompt)(window).flat] = True
    kept = kept_pieces(content, np.flatnonzero(used).tolist())
    state = found.encoder.state_dict()
    before = state[WORDS].shape[0]
    state[WORDS] = state[WORDS][kept]
    pad = int(np.searchsorted(kept, tokenizer.pad_id))
    found.encoder = _rebuilt(found.encoder, {"vocab_size": len(kept), "pad_token_id": pad}, state)
    found.make_tokenizer = partial(FileTokenizer, json.dumps(cut_pieces(content, kept), ensure_ascii=False), pad_id=pad,
                                   special=tokenizer.special, where=tokenizer.where)
    return before, len(kept), count


def cut_differently(before: FileTokenizer, after: FileTokenizer, texts: Iterable[str]) -> int:
    """Return how many texts are cut into other pieces by the smaller tokenizer."""
    different = 0
    for window in _windows(texts):
        rows = zip(before.rust.encode_batch(window), after.rust.encode_batch(window))
        different += sum(one.tokens != two.tokens for one, two in rows)
    return different
