"""Texts to token ids in batches: what every tokenizer here offers, and the one around paddlenlp's."""

import copy
import itertools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from semindex.text.ragged import Ragged


class _Count:
    """A number that threads add to."""

    def __init__(self) -> None:
        self.value, self._lock = 0, threading.Lock()

    def add(self, number: int) -> None:
        with self._lock:
            self.value += number


class TextTokenizer:
    """Callable from a sequence of texts to Ragged int32 ids, special tokens included, cut at max_seq_length.

    pad_id: of the padding token. prompt: stands before every text. separator: what stands between the parts of a text,
    as [SEP]; inside a text it is the special token. Threads may share one.
    """

    separator = ""

    def __init__(self, max_seq_length: int, pad_id: int) -> None:
        self.max_seq_length, self.pad_id, self.prompt = max_seq_length, pad_id, ""
        self._cut = _Count()

    def ids(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        """Return the ids of each text, special tokens included, cut at max_seq_length."""
        raise NotImplementedError

    def with_length(self, max_seq_length: int) -> "TextTokenizer":
        """Return the same tokenizer for texts of another length."""
        raise NotImplementedError

    def identity(self) -> list[Any]:
        """Return what decides the ids of a text, but for max_seq_length and prompt, as JSON can hold it."""
        raise NotImplementedError

    def save(self, directory: str) -> None:
        """Write the tokenizer's files into a checkpoint."""
        raise NotImplementedError

    def export(self, directory: str) -> dict[str, Any]:
        """Write the tokenizer's files into an exported directory; return what its manifest says of them."""
        raise NotImplementedError

    def as_file(self) -> "TextTokenizer | None":
        """Return a FileTokenizer of the same ids, which any program reads; None where it has no such form."""
        return None

    def prompted(self, prompt: str) -> "TextTokenizer":
        """Return the same tokenizer with a prompt before every text; both count the texts that are cut together."""
        if prompt == self.prompt:
            return self
        other = copy.copy(self)
        other.prompt = prompt
        return other

    @property
    def cut(self) -> int:
        """Texts seen so far that were as long as max_seq_length or longer."""
        return self._cut.value

    def __call__(self, texts: Sequence[str]) -> Ragged:
        """Tokenise; an empty text gives the special tokens alone, and the prompt."""
        ids = self.ids([self.prompt + text for text in texts] if self.prompt else texts)
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(row) for row in ids], out=starts[1:])
        self._cut.add(int((np.diff(starts) >= self.max_seq_length).sum()))
        return Ragged(np.fromiter(itertools.chain.from_iterable(ids), np.int32, starts[-1]), starts)
