"""Approximate search by hnswlib's graph of neighbours."""

import os
from typing import Any

import numpy as np

from semindex.errors import UserError
from semindex.search.index import IndexSettings, VectorIndex

FILE, REMOVED = "index.bin", "removed.npy"


class HnswIndex(VectorIndex):
    """A graph of neighbours (Malkov and Yashunin 2016, arXiv 1603.09320) by hnswlib, inner product."""

    kind = "hnsw"

    def __init__(self, dimension: int, settings: IndexSettings | None = None) -> None:
        super().__init__(dimension, settings)
        self.graph: Any = None
        self._ids = np.empty(0, np.int64)
        self._removed = np.empty(0, np.int64)  # nodes that stay in the graph as a way to others

    @property
    def ids(self) -> np.ndarray:
        """See VectorIndex."""
        return self._ids

    def _new_graph(self, size: int) -> Any:
        import hnswlib

        graph = hnswlib.Index(space="ip", dim=self.dimension)
        graph.init_index(max_elements=max(self.settings.capacity, size), M=self.settings.m or 32,
                         ef_construction=self.settings.ef_construction or 200, random_seed=100)
        return graph

    @property
    def threads(self) -> int:
        """Threads as hnswlib wants them said."""
        return self.settings.threads or -1

    def _add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        if np.isin(ids, self._removed).any():  # hnswlib would bend the old node to the new place, and lose others
            self._rebuild()
        if self.graph is None:
            self.graph = self._new_graph(len(ids))
        nodes = self.graph.get_current_count() + len(ids)
        if nodes > self.graph.get_max_elements():
            self.graph.resize_index(max(nodes, 2 * self.graph.get_max_elements()))
        self.graph.add_items(vectors, ids, num_threads=self.threads)
        if self.graph.get_current_count() != nodes:
            raise UserError(f"the index took {self.graph.get_current_count()} of {nodes} vectors")
        self._ids = np.sort(np.concatenate([self._ids, ids]))

    def _remove(self, ids: np.ndarray) -> None:
        for number in ids.tolist():
            self.graph.mark_deleted(number)
        self._ids = np.setdiff1d(self._ids, ids, assume_unique=True)
        self._removed = np.concatenate([self._removed, ids])
        if len(self._removed) > len(self._ids):  # a search would pass over more nodes than it may return
            self._rebuild()

    def _rebuild(self) -> None:
        """Build the graph anew from what can be found."""
        vectors, self._removed = self.vectors_of(self._ids), np.empty(0, np.int64)
        self.graph = self._new_graph(len(self._ids))
        if len(self._ids):
            self.graph.add_items(vectors, self._ids, num_threads=self.threads)

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        # hnswlib gives up on all queries where one reaches fewer than k texts (a graph of several parts); then the
        # candidate list is widened, and in the end those queries are searched exactly.
        ef = max(self.settings.ef or max(200, 2 * k), k)
        for width in (ef, 4 * ef, 16 * ef):
            self.graph.set_ef(min(width, max(self.graph.get_current_count(), ef)))
            try:
                ids, distances = self.graph.knn_query(queries, k=k, num_threads=self.threads)
            except RuntimeError as error:
                if "contiguous" not in str(error):
                    raise
                continue
            ids, scores = ids.astype(np.int64), 1.0 - distances
            order = np.lexsort((ids, -scores))
            return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)
        return self.exact().search(queries, k)

    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """See VectorIndex."""
        if not len(ids):
            return np.empty([0, self.dimension], np.float32)
        return np.array(self.graph.get_items(ids), np.float32)

    def save(self, directory: str) -> list[str]:
        """Write hnswlib's file, and removed.npy where something was removed."""
        if self.graph is None:
            self.graph = self._new_graph(1)
        self.graph.save_index(os.path.join(directory, FILE))
        if not len(self._removed):
            return [FILE]
        np.save(os.path.join(directory, REMOVED), self._removed)
        return [FILE, REMOVED]

    @classmethod
    def load(cls, directory: str, meta: dict[str, Any]) -> "HnswIndex":
        """Read what save wrote; the caller has checked the file's checksum: hnswlib itself trusts any bytes."""
        import hnswlib

        index = cls(meta["dimension"], IndexSettings("hnsw", **meta["parameters"]))
        path, removed = os.path.join(directory, FILE), os.path.join(directory, REMOVED)
        if os.path.isfile(removed):
            index._removed = np.load(removed, allow_pickle=False)
        index.graph = hnswlib.Index(space="ip", dim=index.dimension)
        index.graph.load_index(path, max_elements=max(1, meta["count"] + len(index._removed)))
        index._ids = np.setdiff1d(np.array(index.graph.get_ids_list(), np.int64), index._removed)
        if len(index) != meta["count"]:
            raise UserError(f"{path}: holds {len(index)} vectors, index.json says {meta['count']}")
        return index

    def parameters(self) -> dict[str, Any]:
        """Return what index.json tells of the build."""
        return {"m": self.settings.m or 32, "ef_construction": self.settings.ef_construction or 200}
