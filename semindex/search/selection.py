"""The best of many scores, of which most are passed over after one comparison."""

from collections.abc import Callable

import numpy as np

ROWS = 1024  # queries of one product
CELLS = ROWS * 2048  # scores of one product: 8 MB, which stay in the cache while the best are looked for
GROUP = 16  # scores a group, at most, of which the largest alone are looked at for a first bound


def best_of(scores: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (ids, scores) of the k best of each row, best first, equal scores by id.

    scores: float32 [rows, n]; ids: int64 [rows, n], or [n] where every row has the same.
    """
    ids = np.broadcast_to(ids, scores.shape)
    if scores.shape[1] > k:
        # Place k - 1 holds the last one chosen, place k the best of those that are not.
        places = np.argpartition(-scores, (k - 1, k), axis=1)[:, : k + 1]
        chosen = np.take_along_axis(scores, places, 1)
        cut = np.flatnonzero(chosen[:, k - 1] == chosen[:, k])
        places, chosen = places[:, :k], chosen[:, :k]
        for row in cut:  # of those that equal the last one, the partition took any: the smallest ids are wanted
            equal = np.flatnonzero(scores[row] == chosen[row, -1])
            better = places[row, chosen[row] > chosen[row, -1]]
            lacking = k - len(better)
            smallest = np.argpartition(ids[row, equal], lacking - 1)[:lacking]  # no sort: all may be equal
            places[row] = np.concatenate([better, equal[smallest]])
        scores, ids = np.take_along_axis(scores, places, 1), np.take_along_axis(ids, places, 1)
    order = np.lexsort((ids, -scores))
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)


class Best:
    """The k best of each row, while scores come a block at a time.

    Most scores are below the k-th best so far: one comparison finds those that are not, and they alone are sorted in,
    many blocks' at once.
    """

    def __init__(self, rows: int, k: int) -> None:
        self.k = k
        self.ids, self.scores = np.empty([rows, 0], np.int64), np.empty([rows, 0], np.float32)
        self.waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # (row, id, score) of what passed

    def offer(self, scores: np.ndarray, ids: np.ndarray) -> None:
        """Take in a block. scores: float32 [rows, n], contiguous, not kept; ids: int64 [n]."""
        bound = self._bound(scores)
        if bound is not None and np.isfinite(bound).all():
            places = np.flatnonzero(scores >= bound[:, None])  # equal ones too: their ids may be smaller
            if len(places) <= scores.size // 8:
                rows, columns = np.divmod(places, scores.shape[1])
                self.waiting.append((rows, ids[columns], scores.reshape(-1)[places]))
                if sum(len(rows) for rows, _, _ in self.waiting) > len(scores) * self.k or not self.scores.size:
                    self._merge()
                return
        self._merge()
        own_ids, own = best_of(scores, ids, self.k)
        self._take(own_ids, own)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids, scores), [rows, min(k, offered)], as best_of orders them."""
        self._merge()
        return self.ids, self.scores

    def _bound(self, scores: np.ndarray) -> np.ndarray | None:
        """Return a score for each row that the k-th best of all so far is not below; None where it takes a sort."""
        if self.scores.shape[1] == self.k:
            return self.scores[:, -1]
        size = min(GROUP, scores.shape[1] // (2 * self.k))
        if self.scores.size or size < 2:
            return None
        groups = scores.shape[1] // size
        largest = scores[:, : groups * size].reshape(len(scores), size, groups).max(axis=1)
        return np.partition(largest, groups - self.k, axis=1)[:, groups - self.k]

    def _merge(self) -> None:
        if not self.waiting:
            return
        rows, ids, scores = (np.concatenate(parts) for parts in zip(*self.waiting))
        self.waiting = []
        order = np.argsort(rows, kind="stable")
        rows, counts = rows[order], np.bincount(rows, minlength=len(self.scores))
        places = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
        shape = [len(self.scores), counts.max()]
        own, own_ids = np.full(shape, -np.inf, np.float32), np.full(shape, np.iinfo(np.int64).max)
        own[rows, places], own_ids[rows, places] = scores[order], ids[order]
        self._take(own_ids, own)

    def _take(self, ids: np.ndarray, scores: np.ndarray) -> None:
        self.ids, self.scores = best_of(np.concatenate([self.scores, scores], 1),
                                        np.concatenate([self.ids, ids], 1), self.k)


def nearest(queries: np.ndarray, ids: np.ndarray, k: int,
            product: Callable[[np.ndarray, slice, np.ndarray], object],
            multiple: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return (ids int64, scores float32) of the k best for each query, [queries, k], best first, equal ones by id.

    ids: int64 [n], n at least k, of what is searched. product(queries, part, out) writes the scores of some queries
    with a part of it into out, float32 [queries, part]; a part begins at a multiple of `multiple`.
    """
    found, best = np.empty([len(queries), k], np.int64), np.empty([len(queries), k], np.float32)
    columns = -(-CELLS // min(len(queries), ROWS) // multiple) * multiple
    cells = np.empty(min(len(queries), ROWS) * min(columns, len(ids)), np.float32)
    for row in range(0, len(queries), ROWS):
        block = queries[row : row + ROWS]
        own = Best(len(block), k)
        for start in range(0, len(ids), columns):
            part = slice(start, min(start + columns, len(ids)))
            out = cells[: len(block) * (part.stop - start)].reshape(len(block), -1)
            product(block, part, out)
            own.offer(out, ids[part])
        found[row : row + ROWS], best[row : row + ROWS] = own.result()
    return found, best
