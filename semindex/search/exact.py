"""Exact search: the inner product with every vector."""

import os
from typing import Any

import numpy as np

from semindex.errors import UserError
from semindex.search.index import IndexSettings, VectorIndex, load_ids
from semindex.search.rows import load_rows
from semindex.search.selection import nearest
from semindex.text.counted import counted


class ExactIndex(VectorIndex):
    """Inner product with every vector: misses nothing, and needs no build."""

    kind = "exact"

    def __init__(self, dimension: int, settings: IndexSettings | None = None) -> None:
        super().__init__(dimension, settings)
        # Rows beyond `count` are room for more; rows and their ids are in no order once something was removed.
        self.rows = np.empty([0, dimension], np.float32)
        self.row_ids = np.empty(0, np.int64)
        self.count = 0
        self.borrowed = False  # rows and ids belong to whoever built the index, who may go on using them

    @classmethod
    def build(cls, vectors: np.ndarray, settings: IndexSettings | None = None,
              ids: np.ndarray | None = None) -> "ExactIndex":
        """Make an index of vectors without copying them; see VectorIndex.build."""
        index = cls(vectors.shape[1], settings)
        rows = vectors if vectors.dtype == np.float32 else np.asarray(vectors, np.float32)
        row_ids = index._checked(rows, ids)
        index._borrow(rows, row_ids)
        return index

    def _borrow(self, rows: np.ndarray, row_ids: np.ndarray) -> None:
        self.rows, self.row_ids, self.count, self.borrowed = rows, row_ids, len(rows), True

    @property
    def ids(self) -> np.ndarray:
        """See VectorIndex."""
        return np.sort(self.row_ids[: self.count])

    def __len__(self) -> int:
        return self.count

    def _own(self, room: int) -> None:
        """See that the rows are this index's own, and that there is room for so many more."""
        wanted = self.count + room
        if wanted > len(self.rows) or self.borrowed:
            size = max(wanted, 2 * self.count if room else self.count)
            rows, ids = np.empty([size, self.dimension], np.float32), np.empty(size, np.int64)
            rows[: self.count], ids[: self.count] = self.rows[: self.count], self.row_ids[: self.count]
            self.rows, self.row_ids, self.borrowed = rows, ids, False

    def _add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        self._own(len(ids))
        new = slice(self.count, self.count + len(ids))
        self.rows[new], self.row_ids[new] = vectors, ids
        self.count += len(ids)

    def _remove(self, ids: np.ndarray) -> None:
        self._own(0)
        gone = np.isin(self.row_ids[: self.count], ids)
        kept = self.count - len(ids)
        holes = np.flatnonzero(gone[:kept])  # the last rows move where something was removed
        moved = kept + np.flatnonzero(~gone[kept:])
        self.rows[holes], self.row_ids[holes] = self.rows[moved], self.row_ids[moved]
        self.count = kept

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        def product(block: np.ndarray, part: slice, out: np.ndarray) -> None:
            np.matmul(block, np.asarray(self.rows[part]).T, out=out)

        return nearest(queries, self.row_ids[: self.count], k, product)

    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """See VectorIndex."""
        order = np.argsort(self.row_ids[: self.count])
        return self.rows[order[np.searchsorted(self.row_ids[: self.count], ids, sorter=order)]]

    def exact(self) -> "ExactIndex":
        """Return itself."""
        return self

    def save(self, directory: str) -> list[str]:
        """Write vectors.npy, and ids.npy where the ids are not 0 to n - 1."""
        np.save(os.path.join(directory, "vectors.npy"), self.rows[: self.count])
        ids = self.row_ids[: self.count]
        if (ids == np.arange(self.count)).all():
            return ["vectors.npy"]
        np.save(os.path.join(directory, "ids.npy"), ids)
        return ["vectors.npy", "ids.npy"]

    @classmethod
    def load(cls, directory: str, meta: dict[str, Any]) -> "ExactIndex":
        """Read what save wrote, memory-mapped; UserError where it is not what index.json says."""
        path = os.path.join(directory, "vectors.npy")
        vectors = load_rows(path, meta["count"], meta["dimension"])
        row_ids = load_ids(os.path.join(directory, "ids.npy"), len(vectors))
        if len(row_ids) != len(vectors):
            raise UserError(f"{path}: holds {counted(len(vectors), 'vector')} for {counted(len(row_ids), 'id')}; build "
                            "the index again with --rebuild_index")
        index = cls(meta["dimension"])
        index._borrow(vectors, row_ids)
        return index
