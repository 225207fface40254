"""A corpus: distinct texts held as bytes, so that memory grows with the text and not with Python objects."""

import array
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from semindex.text.tables import ReadReport, read_rows


class Corpus:
    """Distinct texts in order of first appearance, held as UTF-8 bytes: 10 million are no 10 million objects.

    inverse: int64 [rows of the file], the text of each row. fingerprint: SHA-256 over the distinct texts.
    """

    def __init__(self, buffer: np.ndarray, ends: np.ndarray, inverse: np.ndarray) -> None:
        self.buffer, self.ends, self.inverse = buffer, ends, inverse
        self.fingerprint = hashlib.sha256(buffer.tobytes() if buffer.size < 2**20 else buffer.data).hexdigest()

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> str:
        start = self.ends[i - 1] if i else 0
        return self.buffer[start : self.ends[i] - 1].tobytes().decode("utf-8")

    def slice(self, start: int, stop: int) -> list[str]:
        """Return texts start to stop (exclusive)."""
        low = self.ends[start - 1] if start else 0
        high = self.ends[min(stop, len(self)) - 1]
        return self.buffer[low : high - 1].tobytes().decode("utf-8").split("\n")

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), 4096):
            yield from self.slice(start, start + 4096)

    def first_rows(self) -> np.ndarray:
        """Return the file row, from 0, at which each distinct text stands first."""
        return np.unique(self.inverse, return_index=True)[1]

    @classmethod
    def from_texts(cls, texts: Iterator[str] | Sequence[str]) -> "Corpus":
        """Make one from any texts without line breaks."""
        data, ends, hashes = bytearray(), array.array("q"), array.array("q")
        digest = hashlib.blake2b
        for text in texts:
            raw = text.encode("utf-8") + b"\n"
            data += raw
            ends.append(len(data))
            hashes.append(int.from_bytes(digest(raw, digest_size=8).digest(), "little", signed=True))
        buffer, all_ends = np.frombuffer(data, np.uint8), np.frombuffer(ends, np.int64)
        # Texts of one 64-bit hash count as one: the chance of a false match in 10 million is 3e-6.
        _, first, inverse = np.unique(np.frombuffer(hashes, np.int64), return_index=True, return_inverse=True)
        if len(first) == len(all_ends):
            return cls(buffer, all_ends, np.arange(len(all_ends)))
        order = np.argsort(first)  # np.unique sorts by hash; the file's order is wanted
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        lengths = np.diff(all_ends, prepend=0)
        keep = np.zeros(len(all_ends), bool)
        keep[first] = True
        return cls(buffer[np.repeat(keep, lengths)], np.cumsum(lengths[keep]), place[inverse.reshape(-1)])

    @classmethod
    def load(cls, path: str) -> "Corpus":
        """Read what `save` wrote; memory-mapped."""
        buffer = np.memmap(path, np.uint8, "r")
        ends = np.flatnonzero(buffer == 10) + 1
        return cls(buffer, ends, np.arange(len(ends)))

    def save(self, path: str) -> None:
        """Write the distinct texts, one a line."""
        self.buffer.tofile(path)


class TextFile(Corpus):
    """Texts of a file, one a line, memory-mapped; unlike a Corpus's they may be equal."""

    def __init__(self, path: str) -> None:
        self.buffer = np.memmap(path, np.uint8, "r") if os.path.getsize(path) else np.empty(0, np.uint8)
        self.ends = np.flatnonzero(self.buffer == 10) + 1

    def some(self, rows: Iterable[int]) -> list[str]:
        """Return the texts of some rows."""
        return [self[int(row)] for row in rows]


def read_corpus(path: str, skip_bad_lines: bool = False) -> tuple[Corpus, ReadReport]:
    """Stream a file of one text a line into a Corpus."""
    lines = ReadReport(path)
    return Corpus.from_texts(fields[0] for _, fields in read_rows(path, (1,), skip_bad_lines, lines)), lines
