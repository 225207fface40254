"""The vector index: what every engine offers, the registry of engines, and which one is chosen. No paddle here."""

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from semindex.errors import UserError
from semindex.fields import Field
from semindex.registry import ENGINES
from semindex.search.milvus_settings import MilvusSettings
from semindex.search.rows import BLOCK, let_go
from semindex.text.corpus import Corpus

# Up to here exact search answers a query at a time within 0.6 ms of hnsw, misses nothing, and needs no build,
# which in batches pays for no number of queries (benchmarks/index_crossover.py; docs/results.md).
EXACT_UP_TO = 20_000
# Of an index that is thrown away afterwards, a build pays only beyond this many queries in batches, of any corpus:
# about 370,000 where it has a million texts or ten (computed, the same page).
EXACT_UP_TO_QUERIES = 150_000
# Texts up to which an index that is built anew as texts come and go is int8: as fast as a graph, and built in seconds.
INT8_UP_TO = 200_000
MOST = 2**63 - 2  # the largest id: one more is still an int64


@dataclass
class IndexSettings:
    """How to build and search. None: the index chooses.

    kind: auto, or the name of an engine; m: links a node; ef: candidates in search; ef_construction: candidates while
    building; capacity: of hnsw, grown where the corpus is larger; threads: 0 is all cores, 1 is reproducible; milvus:
    where an index of kind milvus is.
    """

    kind: str = "auto"
    m: int | None = None
    ef: int | None = None
    ef_construction: int | None = None
    capacity: int = 1
    threads: int = 0
    milvus: MilvusSettings | None = None

    @classmethod
    def from_flags(cls, args: Any) -> "IndexSettings":
        """Take them from the flags of flags.add_index."""
        return cls(args.index_type, args.hnsw_m, args.hnsw_ef, args.hnsw_ef_construction, args.hnsw_max_elements,
                   args.hnsw_threads, MilvusSettings.from_flags(args))


@dataclass
class Content:
    """What vectors are of, for an engine that keeps them under names of their own.

    texts: of each vector, None where there are none; encoder: the fingerprint of what encoded them; categories: of each
    text; kept: whether the index is to be saved; full_text: whether the texts will be searched by keyword too.
    """

    texts: Sequence[str] | Corpus | None = None
    encoder: str = ""
    categories: Sequence[str] | None = None
    kept: bool = True
    full_text: bool = False


class KeywordSearch(Protocol):
    """Keyword search over the texts of an index."""

    def search(self, queries: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int64, scores float32), both [queries, k or fewer], best first; id -1 behind the last one."""


class VectorIndex(ABC):
    """Vectors, each under an id of its own, and the nearest of them by inner product.

    An engine is one subclass: registry.ENGINES names it, CONTRIBUTING.md shows how to add one. Ids are whole numbers
    from 0 up. What was removed is never found again; an id that was removed may be added again.
    """

    kind: ClassVar[str]
    fields: ClassVar[dict[str, Field]] = {}  # of parameters(), as index.json is to have them

    def __init__(self, dimension: int, settings: IndexSettings | None = None) -> None:
        self.dimension, self.settings = dimension, settings or IndexSettings()

    @classmethod
    def build(cls, vectors: np.ndarray, settings: IndexSettings | None = None,
              ids: np.ndarray | None = None) -> "VectorIndex":
        """Make an index of vectors, float32 [n, dimension]; ids: int64 [n], 0 to n - 1 where left out."""
        index = cls(vectors.shape[1], settings)
        index.add(vectors, ids)
        return index

    @classmethod
    def build_content(cls, vectors: np.ndarray, settings: IndexSettings, content: Content) -> "VectorIndex":
        """Make an index of the vectors of some content, under 0 to n - 1; most engines need to know nothing of it."""
        return cls.build(vectors, settings)

    def use(self, settings: IndexSettings | None) -> None:
        """Take up how to search (ef, threads) from the settings, where there are any; what was built stays as it is."""
        if settings:
            self.settings.ef, self.settings.threads = settings.ef, settings.threads

    def discard(self) -> None:  # noqa: B027  most engines have nothing elsewhere
        """Remove what is kept outside of the directory that save wrote; nothing, where all is in it."""

    @property
    def keyword(self) -> KeywordSearch | None:
        """The keyword search of what holds the vectors, None where there is none: search.keyword is everybody's."""
        return None

    @property
    @abstractmethod
    def ids(self) -> np.ndarray:
        """The ids that can be found, int64, ascending."""

    @abstractmethod
    def _add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        """Add vectors whose form and ids were checked."""

    @abstractmethod
    def _remove(self, ids: np.ndarray) -> None:
        """Remove ids that are there, each once."""

    @abstractmethod
    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what `search` does; k is at most the number of ids."""

    @abstractmethod
    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """Return the vectors of some ids, float32 [len(ids), dimension]."""

    @abstractmethod
    def save(self, directory: str) -> list[str]:
        """Write the index into a directory; return the names of its files."""

    @classmethod
    @abstractmethod
    def load(cls, directory: str, meta: dict[str, Any]) -> "VectorIndex":
        """Read what `save` wrote, its checksums compared before. meta: dimension, count and parameters()."""

    def parameters(self) -> dict[str, Any]:
        """Return what index.json tells of the build."""
        return {}

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, vectors: np.ndarray, ids: np.ndarray | None = None) -> np.ndarray:
        """Add vectors, float32 [n, dimension], and return their ids, int64 [n].

        ids: those behind the largest one where left out. Raises UserError for an id that is there or stands twice, a
        negative one, and vectors of another width or that are not finite.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        ids = self._checked(vectors, ids)
        if len(ids):
            self._add(vectors, ids)
        return ids

    def remove(self, ids: np.ndarray) -> None:
        """Remove vectors by their ids. Raises UserError, and removes none, for an id that is not there."""
        ids = np.unique(whole_ids(ids))
        lacking = ids[~np.isin(ids, self.ids)]
        if len(lacking):
            raise UserError(f"the id {lacking[0]} is not in the index")
        if len(ids):
            self._remove(ids)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int64, inner products float32), both [queries, min(k, len)], best first, equal ones by id.

        Raises UserError for queries of another width.
        """
        self._check(queries)
        k = max(0, min(k, len(self)))
        if not k or not len(queries):
            return np.empty([len(queries), k], np.int64), np.empty([len(queries), k], np.float32)
        return self._search(np.ascontiguousarray(queries, np.float32), k)

    def exact(self) -> "VectorIndex":
        """Return the same vectors behind exact search."""
        from semindex.search.exact import ExactIndex

        return ExactIndex.build(self.vectors_of(self.ids), ids=self.ids)

    def _checked(self, vectors: np.ndarray, ids: np.ndarray | None) -> np.ndarray:
        """Return the ids that vectors may be added under, int64 [n]; UserError as `add` says."""
        self._check(vectors)
        own = self.ids
        largest = int(own[-1]) if len(own) else -1
        ids = checked_ids(ids, len(vectors), largest, lambda some: np.isin(some, own), "vectors")
        for start in range(0, len(vectors), BLOCK):
            finite = np.isfinite(vectors[start : start + BLOCK]).all()
            let_go(vectors)
            if not finite:
                raise UserError("a vector is not finite: the encoder is damaged")
        return ids

    def _check(self, vectors: np.ndarray) -> None:
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise UserError(f"vectors of shape {list(vectors.shape)} for an index of width {self.dimension}; "
                            "was the index built with another encoder?")


def whole_ids(ids: Any) -> np.ndarray:
    """Return ids as int64; UserError where they are no whole numbers: a cast would make others of them."""
    given = np.asarray(ids)
    if given.size and (given.dtype.kind not in "iu" or given.dtype == np.uint64 and given.max() > MOST):
        raise UserError(f"ids of type {given.dtype}: ids are whole numbers from 0 to {MOST}")
    return given.astype(np.int64, copy=False)


def checked_ids(ids: Any, count: int, largest: int, known: Callable[[np.ndarray], np.ndarray],
                what: str) -> np.ndarray:
    """Return the ids that so many things may be added under, int64 [count].

    ids: None: those behind the largest one. known: which of some ids are there. Raises UserError as VectorIndex.add.
    """
    ids = np.arange(largest + 1, largest + 1 + count, dtype=np.int64) if ids is None else whole_ids(ids)
    if ids.shape != (count,):
        raise UserError(f"{count} {what} need as many ids, not {list(ids.shape)}")
    if len(ids) and ids.min() < 0:
        raise UserError(f"the id {ids.min()} is negative; ids are whole numbers from 0 up")
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise UserError(f"the id {twice[0]} stands twice among those to add; ids must differ")
    there = ids[known(ids)]
    if len(there):
        raise UserError(f"the id {there[0]} is in the index already; remove it first")
    return ids


def load_ids(path: str, default: int) -> np.ndarray:
    """Return the ids that an engine saved, int64 [n]; without the file those of an index that never changed.

    default: how many that index holds. Raises UserError for a file of another kind.
    """
    if not os.path.isfile(path):
        return np.arange(default, dtype=np.int64)
    ids = np.load(path, allow_pickle=False)
    if ids.ndim != 1 or ids.dtype != np.int64:
        raise UserError(f"{path}: holds {ids.dtype} {list(ids.shape)}, no ids; build the index again with "
                        "--rebuild_index")
    return ids


def engine(kind: str) -> type[VectorIndex]:
    """Return the class of an engine; UserError for a name that ENGINES lacks."""
    if kind not in ENGINES:
        raise UserError(f"index type {kind}: unknown; known are {', '.join(ENGINES)}")
    module, name = ENGINES[kind].split(":")
    return getattr(importlib.import_module(module), name)


def choose(settings: IndexSettings, texts: int, queries: int | None = None, anew: bool = False) -> str:
    """Return the name of the engine for so many texts; queries: see build_index; anew: it is built again and again."""
    if settings.kind != "auto":
        return settings.kind
    few = texts <= EXACT_UP_TO or queries is not None and queries <= EXACT_UP_TO_QUERIES
    wanted = any((settings.m, settings.ef, settings.ef_construction))  # who gives a graph's flags wants a graph
    if few and not wanted:
        return "exact"
    return "int8" if anew and texts <= INT8_UP_TO and not wanted else "hnsw"


def build_index(vectors: np.ndarray, settings: IndexSettings, queries: int | None = None,
                content: Content | None = None) -> VectorIndex:
    """Build the index that the settings ask for.

    vectors: float32 [texts, dimension]. queries: how many will be asked, in batches, before the index is thrown away;
    None where it is kept. content: what the vectors are of.
    """
    chosen = engine(choose(settings, len(vectors), queries))
    return chosen.build_content(vectors, settings, content or Content(kept=queries is None))


def recall_of_index(index: VectorIndex, queries: np.ndarray, k: int) -> float:
    """Return the share of exact search's k nearest texts that the index finds, from 0 to 1."""
    found, _ = index.search(queries, k)
    truth, _ = index.exact().search(queries, k)
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth)]))
