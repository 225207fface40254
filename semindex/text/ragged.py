"""Token ids of texts of unequal length, and batches of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass
class Ragged:
    """Token ids of many texts, end to end. flat: int32 [tokens]; starts: int64 [texts + 1]."""

    flat: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64 [texts]."""
        return np.diff(self.starts)

    def slice(self, start: int, stop: int) -> "Ragged":
        """Return texts start to stop (exclusive)."""
        starts = np.asarray(self.starts[start : stop + 1])
        return Ragged(self.flat[starts[0] : starts[-1]], starts - starts[0])

    def take(self, rows: np.ndarray) -> "Ragged":
        """Return some texts, in the order of `rows`."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.starts[rows] - starts[:-1], lengths) + np.arange(starts[-1])
        return Ragged(self.flat[places], starts)

    def followed_by(self, other: "Ragged") -> "Ragged":
        """Return these texts and then those of another one."""
        return Ragged(np.concatenate([self.flat, other.flat]),
                      np.concatenate([self.starts, self.starts[-1] + other.starts[1:]]))

    def pad(self, rows: np.ndarray, pad_id: int) -> np.ndarray:
        """Return the ids of some texts, int64 [len(rows), longest of them], padded on the right."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        inside = np.arange(lengths.max()) < lengths[:, None]
        batch = np.full(inside.shape, pad_id, np.int64)
        batch[inside] = self.flat[places_of(self.starts, rows)[0]]
        return batch

    def padded_chunks(self, rows: np.ndarray, size: int, pad_id: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Cut some texts into chunks of similar length, each padded to its own longest.

        Returns the chunks and the order that puts their rows, end to end, back: out[order] is as `rows`.
        """
        parts = list(by_length(self.lengths[rows], size))
        order = np.empty(len(rows), np.int64)
        order[np.concatenate([[], *parts]).astype(np.int64)] = np.arange(len(rows))
        return [self.pad(rows[part], pad_id) for part in parts], order


def places_of(starts: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of some rows in a flat array, and for each place the number of its row among these."""
    first = starts[rows]
    lengths = starts[rows + 1] - first
    row = np.repeat(np.arange(len(rows)), lengths)
    return np.arange(len(row)) + (first - np.cumsum(lengths) + lengths)[row], row


def by_length(lengths: np.ndarray, size: int | None, budget: int = 0) -> Iterator[np.ndarray]:
    """Yield the places of some lengths in parts of similar length, the shortest first.

    size: how many a part; None: as many as `budget` holds when all are as long as the longest, at least one.
    """
    order = np.argsort(lengths, kind="stable")
    lengths, start = lengths[order], 0
    while start < len(order):
        stop = start + (size or 1)
        if size is None:
            ahead = lengths[start : start + budget]
            stop = start + max(1, int((ahead * np.arange(1, len(ahead) + 1) <= budget).sum()))
        yield order[start:stop]
        start = stop
