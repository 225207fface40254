"""A search that all processes share: each has an index of its own rows, rank 0 asks all and merges what they find."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from semindex import runtime
from semindex.errors import UserError
from semindex.search.index import Content, IndexSettings, VectorIndex, build_index, choose


def merge(found: list[tuple[np.ndarray, np.ndarray]], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best (ids, scores) of each query of what several indexes found, best first, equal scores by id.

    found: of each index ids, int64, and scores, float32, both [queries, any], best first, equal scores by id; the ids
    of an index lie below those of the next one.
    """
    ids, scores = (np.concatenate(parts, 1) for parts in zip(*found))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # sorted runs: a stable sort merges them
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)


COPIED = 1 << 30  # bytes of all vectors up to which each process has a copy of them, and searches for some queries


class Shards:
    """Vectors in shards, one a process, each behind an index that is built when it is first asked.

    Few vectors that are searched exactly are copied to every process instead, which then searches for its share of the
    queries: the best of each query are looked for once, not in every shard.

    vectors: float32 [own rows, dimension], this process's; rows: which of all `count` these are. queries: see
    build_index. Every rank makes one; `on_rank_0` then lets rank 0 search while the others answer.
    """

    def __init__(self, vectors: np.ndarray, rows: slice, count: int, settings: IndexSettings, queries: int) -> None:
        self.vectors, self.rows, self.ranks = vectors, rows, runtime.world_size()
        sizes = runtime.gather_rows(np.array([[len(vectors)]], np.int64), [1] * self.ranks)
        self.sizes = [int(size.item()) for size in sizes]
        # What suits them all is chosen by how many there are of all. Without a word a shard takes this process's
        # share of the cores: a process each with all of them would be in each other's way.
        shared = self.ranks > 1
        self.settings = replace(settings, kind=choose(settings, count, queries), capacity=1 if shared else
                                settings.capacity, threads=settings.threads or (runtime.threads() if shared else 0))
        self._copied = shared and self.settings.kind == "exact" and 4 * count * vectors.shape[1] <= COPIED
        self._index: VectorIndex | None = None
        self._answering = False

    def on_rank_0(self, work: Callable[[], Any]) -> Any:
        """Do work that searches on rank 0, and answer it elsewhere; as runtime.on_rank_0 else. Every rank calls it."""
        if self.ranks == 1:
            return work()
        if runtime.rank() > 0:
            while (asked := runtime.share(None)) is not None:
                getattr(self, asked[0])(*asked[1:])
            return runtime.on_rank_0(work)
        result, failure = None, None
        self._answering = True
        try:
            result = work()
        except (UserError, OSError) as error:
            failure = error
        finally:
            self._answering = False
        runtime.share(None)

        def told() -> Any:
            if failure is not None:
                raise failure
            return result

        return runtime.on_rank_0(told)

    def _ask(self, *asked: Any) -> None:
        if self.ranks > 1 and runtime.rank() == 0:
            assert self._answering, "a search outside of on_rank_0: nobody answers"
            runtime.share(asked)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int64, inner products float32), both [queries, min(k, count)], as VectorIndex.search does."""
        self._ask("search", queries, k)
        if self._index is None:
            vectors = np.concatenate(runtime.gather_rows(self.vectors, self.sizes)) if self._copied else self.vectors
            self._index = build_index(vectors, self.settings, content=Content(kept=False))
        if self._copied:
            ends = [len(queries) * rank // self.ranks for rank in range(self.ranks + 1)]
            own = queries[ends[runtime.rank()] : ends[runtime.rank() + 1]]
            ids, scores = (np.concatenate(runtime.gather_rows(found, np.diff(ends).tolist()))
                           for found in self._index.search(own, k))
            return ids, scores
        ids, scores = self._index.search(queries, k)
        if self.ranks == 1:
            return ids, scores
        ids += self.rows.start
        widths, counts = [min(k, size) for size in self.sizes], [len(queries)] * self.ranks
        all_ids, all_scores = (runtime.gather_rows(np.pad(found, ((0, 0), (0, max(widths) - found.shape[1]))), counts)
                               for found in (ids, scores))
        if runtime.rank() > 0:
            return ids, scores
        return merge([(one[:, :width], two[:, :width]) for one, two, width in zip(all_ids, all_scores, widths)], k)

    def products(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the inner product of each query with one row of all, float32 [queries]. rows: int64 [queries]."""
        self._ask("products", queries, rows)
        own = np.flatnonzero((rows >= self.rows.start) & (rows < self.rows.stop))
        found = np.zeros([len(rows), 1], np.float32)
        found[own, 0] = np.einsum("ij,ij->i", queries[own], self.vectors[rows[own] - self.rows.start])
        parts = runtime.gather_rows(found, [len(rows)] * self.ranks)
        return np.sum(parts, axis=0)[:, 0]  # of all but one process zeros
