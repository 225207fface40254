"""Token ids of texts of unequal length, and batches of them."""

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

    def pad(self, rows: np.ndarray, pad_id: int) -> np.ndarray:
        """Return the ids of some texts, int64 [len(rows), longest of them], padded on the right."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        inside = np.arange(lengths.max()) < lengths[:, None]
        batch = np.full(inside.shape, pad_id, np.int64)
        places = np.repeat(self.starts[rows] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        batch[inside] = self.flat[places]
        return batch

    def padded_chunks(self, rows: np.ndarray, size: int, pad_id: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Cut some texts into chunks of similar length, each padded to its own longest.

        Returns the chunks and the order that puts their rows, end to end, back: out[order] is as `rows`.
        """
        by_length = np.argsort(self.lengths[rows], kind="stable")
        chunks = [self.pad(rows[by_length[i : i + size]], pad_id) for i in range(0, len(rows), size)]
        order = np.empty_like(by_length)
        order[by_length] = np.arange(len(rows))
        return chunks, order
