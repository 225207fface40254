"""Approximate search by usearch's graph of neighbours over 8-bit vectors."""

import os
from typing import Any

import numpy as np

from semindex.errors import UserError
from semindex.fields import whole
from semindex.search.int8 import Int8Index
from semindex.text.counted import counted

FILE = "index.usearch"


class HnswInt8(Int8Index):
    """A graph of neighbours by usearch: hnswlib's keeps float32 alone.

    usearch's own removal is not used: it gives the place of what was removed to what comes next, and others are no
    longer found (see Labelled).
    """

    kind = "hnsw_int8"
    more = 0.25, 8
    fields = {"m": whole(1, 2**31), "ef_construction": whole(1, 2**40)}
    each_dimension = False

    def _clear(self) -> None:
        from usearch.index import Index

        known = self.parameters()
        self.graph: Any = Index(ndim=self.dimension, metric="ip", dtype="i8", connectivity=known["m"],
                                expansion_add=known["ef_construction"], enable_key_lookups=False)

    def _append(self, codes: np.ndarray, start: int) -> None:
        self.graph.add(np.arange(start, start + len(codes), dtype=np.uint64), codes, threads=self.settings.threads)
        if len(self.graph) != start + len(codes):
            raise UserError(f"the index took {len(self.graph) - start} of {counted(len(codes), 'vector')}")

    def _candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        largest = np.abs(queries).max(axis=1, keepdims=True)
        coded = np.rint(queries / np.where(largest > 0, largest / 127, 1)).astype(np.int8)
        labels = len(self._id_of)
        wanted = min(labels, -(-count * labels // len(self._ids)))  # those that are gone take places
        # A query that reaches too few is searched exactly in the end; a wider list of candidates reaches more.
        for width in (1, 4, 16):
            self.graph.expansion_search = max((self.settings.ef or max(200, count)) * width, wanted)
            found = self.graph.search(coded, wanted, threads=self.settings.threads)
            counts = found.counts if len(coded) > 1 else np.array([len(found)])  # one query gets no batch
            keys = np.full([len(coded), wanted], -1)
            filled = np.arange(wanted) < counts[:, None]
            keys[filled] = found.keys[filled] if len(coded) > 1 else found.keys
            there = (np.where(keys < 0, -1, self._id_of[keys]) >= 0).sum(axis=1)
            if there.min() >= min(len(self._ids), count):
                break
        return keys

    def _save_codes(self, directory: str) -> list[str]:
        path = os.path.join(directory, FILE)
        try:
            self.graph.save(path)
        except RuntimeError as error:
            raise UserError(f"{path}: could not be written ({error}); make room") from None
        return [FILE]

    def _load_codes(self, directory: str, labels: int) -> None:
        path = os.path.join(directory, FILE)
        self.graph.load(path)
        if (len(self.graph), self.graph.ndim) != (labels, self.dimension):
            raise UserError(f"{path}: holds {counted(len(self.graph), 'vector')}, index.json says {labels}; build the "
                            "index again with --rebuild_index")

    def parameters(self) -> dict[str, Any]:
        """Return what index.json tells of the build."""
        return {"m": self.settings.m or 32, "ef_construction": self.settings.ef_construction or 200}
