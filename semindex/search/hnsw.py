"""Approximate search by hnswlib's graph of neighbours."""

import os
from typing import Any

import numpy as np

from semindex.errors import UserError
from semindex.fields import whole
from semindex.search.index import IndexSettings, load_ids
from semindex.search.labelled import IDS, Labelled
from semindex.text.counted import counted

FILE = "index.bin"


class HnswIndex(Labelled):
    """A graph of neighbours (Malkov and Yashunin 2016, arXiv 1603.09320) by hnswlib, inner product."""

    kind = "hnsw"
    fields = {"m": whole(1, 2**31), "ef_construction": whole(1, 2**40)}

    def __init__(self, dimension: int, settings: IndexSettings | None = None) -> None:
        super().__init__(dimension, settings)
        self.graph: Any = None

    def _new_graph(self, size: int) -> Any:
        import hnswlib

        graph = hnswlib.Index(space="ip", dim=self.dimension)
        room, links = max(self.settings.capacity, size, 1), self.settings.m or 32
        try:
            graph.init_index(max_elements=room, M=links, ef_construction=self.settings.ef_construction or 200,
                             random_seed=100)
        except (RuntimeError, MemoryError):
            needed = room * (8 * links + 4 * self.dimension + 12)
            raise UserError(f"--hnsw_m {links} and --hnsw_max_elements {room}: room for so many texts takes "
                            f"{needed / 1e9:,.1f} GB, more than there are; lower one of them") from None
        return graph

    @property
    def threads(self) -> int:
        """Threads as hnswlib wants them said."""
        return self.settings.threads or -1

    def _add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        if self.graph is None:
            self.graph = self._new_graph(len(ids))
        before = len(self._id_of)
        nodes = before + len(ids)
        if nodes > self.graph.get_max_elements():
            self.graph.resize_index(max(nodes, 2 * self.graph.get_max_elements()))
        self.graph.add_items(vectors, np.arange(before, nodes), num_threads=self.threads)
        if self.graph.get_current_count() != nodes:
            raise UserError(f"the index took {self.graph.get_current_count()} of {counted(nodes, 'vector')}")
        self._know(np.concatenate([self._id_of, ids]))

    def _mark(self, labels: np.ndarray) -> None:
        for label in labels.tolist():
            self.graph.mark_deleted(label)

    def _rebuild(self) -> None:
        vectors, ids = self.vectors_of(self._ids), self._ids
        self.graph = None
        self._know(np.empty(0, np.int64))
        if len(ids):
            self._add(vectors, ids)

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        # hnswlib gives up on all queries where one reaches fewer than k texts (a graph of several parts); then the
        # candidate list is widened, and in the end those queries are searched exactly.
        ef = max(self.settings.ef or max(200, 2 * k), k)
        for width in (ef, 4 * ef, 16 * ef):
            self.graph.set_ef(min(width, max(self.graph.get_current_count(), ef)))
            try:
                labels, distances = self.graph.knn_query(queries, k=k, num_threads=self.threads)
            except RuntimeError as error:
                if "contiguous" not in str(error):
                    raise
                continue
            ids, scores = self._id_of[labels.astype(np.int64)], 1.0 - distances
            order = np.lexsort((ids, -scores))
            return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)
        return self.exact().search(queries, k)

    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """See VectorIndex."""
        if not len(ids):
            return np.empty([0, self.dimension], np.float32)
        return np.array(self.graph.get_items(self._labels_of(ids)), np.float32)

    def save(self, directory: str) -> list[str]:
        """Write hnswlib's file, and the id of each label where they are not the same."""
        graph = self._new_graph(1) if self.graph is None else self.graph
        path = os.path.join(directory, FILE)
        graph.save_index(path)  # says nothing of a disk that is full
        if os.path.getsize(path) != graph.index_file_size():
            raise UserError(f"{path}: {os.path.getsize(path)} of {graph.index_file_size()} bytes were written; make "
                            "room")
        if (self._id_of == np.arange(len(self._id_of))).all():
            return [FILE]
        np.save(os.path.join(directory, IDS), self._id_of)
        return [FILE, IDS]

    @classmethod
    def load(cls, directory: str, meta: dict[str, Any]) -> "HnswIndex":
        """Read what save wrote; the caller has checked the file's checksum: hnswlib itself trusts any bytes."""
        import hnswlib

        known = meta["parameters"]
        index = cls(meta["dimension"], IndexSettings("hnsw", known["m"], ef_construction=known["ef_construction"]))
        path = os.path.join(directory, FILE)
        index.graph = hnswlib.Index(space="ip", dim=index.dimension)
        id_of = load_ids(os.path.join(directory, IDS), meta["count"])
        # The room that the file names may be a million; room for what is there is enough, `_add` makes more.
        index.graph.load_index(path, max_elements=max(1, len(id_of)))
        index._know(id_of)
        if len(index) != meta["count"] or index.graph.get_current_count() != len(id_of):
            raise UserError(f"{path}: holds {counted(index.graph.get_current_count(), 'vector')}, index.json says "
                            f"{meta['count']}; build the index again with --rebuild_index")
        return index

    def parameters(self) -> dict[str, Any]:
        """Return what index.json tells of the build."""
        return {"m": self.settings.m or 32, "ef_construction": self.settings.ef_construction or 200}
