"""The vector index: exact and hnsw behind one interface, and the directory it is saved in. No paddle here."""

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from data import Corpus
from deploy.python.serving.whole import whole_directory
from options import UserError

# Up to here exact search answers a query at a time within 0.2 ms of hnsw, misses nothing, and needs no build,
# which would pay only after 90,000 queries (benchmarks/index_crossover.py; docs/results.md).
EXACT_UP_TO = 20_000
# Of an index that is thrown away afterwards, a build pays only beyond this many queries in batches, of any corpus:
# 32,647 where it has 100,000 texts, about 24,000 where it has millions (the same table).
EXACT_UP_TO_QUERIES = 24_000
FORMAT = 1


@dataclass
class IndexSettings:
    """How to build and search. None: the index chooses.

    kind: auto, exact or hnsw; m: links a node; ef: candidates in search; ef_construction: candidates while
    building; capacity: of hnsw, grown where the corpus is larger; threads: 0 is all cores, 1 is reproducible.
    """

    kind: str = "auto"
    m: int | None = None
    ef: int | None = None
    ef_construction: int | None = None
    capacity: int = 1
    threads: int = 0

    @classmethod
    def from_flags(cls, args: Any) -> "IndexSettings":
        """Take them from the flags of options.add_index."""
        return cls(args.index_type, args.hnsw_m, args.hnsw_ef, args.hnsw_ef_construction, args.hnsw_max_elements,
                   args.hnsw_threads)


def _top(scores: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (ids, scores) of the k best of each row, best first, equal scores by id."""
    if scores.shape[1] > k:
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        scores, ids = np.take_along_axis(scores, best, 1), np.take_along_axis(ids, best, 1)
    order = np.lexsort((ids, -scores))
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)


class ExactIndex:
    """Inner product with every vector. vectors: float32 [texts, dimension]."""

    kind, file = "exact", "vectors.npy"

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return self.vectors.shape[1]

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int64, cosines float32), both [queries, min(k, texts)], best first."""
        _check_width(queries, self.dimension)
        k = min(k, len(self))
        all_ids = np.empty([len(queries), k], np.int64)
        all_scores = np.empty([len(queries), k], np.float32)
        for row in range(0, len(queries), 256):
            block = queries[row : row + 256]
            ids = np.empty([len(block), 0], np.int64)
            scores = np.empty([len(block), 0], np.float32)
            for start in range(0, len(self), 65_536):
                part = block @ self.vectors[start : start + 65_536].T
                places = np.broadcast_to(np.arange(start, start + part.shape[1]), part.shape)
                ids, scores = _top(np.concatenate([scores, part], 1), np.concatenate([ids, places], 1), k)
            all_ids[row : row + 256], all_scores[row : row + 256] = ids, scores
        return all_ids, all_scores

    def save(self, path: str) -> None:
        """Write the vectors."""
        np.save(path, self.vectors)

    @classmethod
    def load(cls, path: str, meta: dict[str, Any]) -> "ExactIndex":
        """Read what save wrote, memory-mapped."""
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        if vectors.shape != (meta["count"], meta["dimension"]) or vectors.dtype != np.float32:
            raise UserError(f"{path}: holds {vectors.dtype} {list(vectors.shape)}, index.json says otherwise")
        return cls(vectors)

    def parameters(self) -> dict[str, Any]:
        """Return what index.json tells of the build."""
        return {}


class HnswIndex:
    """A graph of neighbours (Malkov and Yashunin 2016, arXiv 1603.09320) by hnswlib, inner product."""

    kind, file = "hnsw", "index.bin"

    def __init__(self, graph: Any, settings: IndexSettings) -> None:
        self.graph, self.settings = graph, settings

    def __len__(self) -> int:
        return self.graph.get_current_count()

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return self.graph.dim

    @classmethod
    def build(cls, vectors: np.ndarray, settings: IndexSettings) -> "HnswIndex":
        """Build the graph; the label of a vector is its row."""
        import hnswlib

        graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
        graph.init_index(max_elements=max(settings.capacity, len(vectors)), M=settings.m or 32,
                         ef_construction=settings.ef_construction or 200, random_seed=100)
        graph.add_items(vectors, np.arange(len(vectors)), num_threads=settings.threads or -1)
        if graph.get_current_count() != len(vectors):
            raise UserError(f"the index took {graph.get_current_count()} of {len(vectors)} vectors")
        return cls(graph, settings)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int64, cosines float32), both [queries, min(k, texts)], best first.

        hnswlib gives up on all queries where one reaches fewer than k texts (a graph of several parts);
        then the candidate list is widened, and in the end those queries are searched exactly.
        """
        _check_width(queries, self.dimension)
        k = min(k, len(self))
        ef = max(self.settings.ef or max(200, 2 * k), k)
        for width in (ef, 4 * ef, 16 * ef):
            self.graph.set_ef(min(width, max(len(self), ef)))
            try:
                ids, distances = self.graph.knn_query(queries, k=k, num_threads=self.settings.threads or -1)
            except RuntimeError as error:
                if "contiguous" not in str(error):
                    raise
                continue
            return ids.astype(np.int64), 1.0 - distances
        return self.exact().search(queries, k)

    def exact(self) -> ExactIndex:
        """Return the same vectors behind exact search, in the order of their labels."""
        return ExactIndex(np.array(self.graph.get_items(np.arange(len(self))), np.float32))

    def save(self, path: str) -> None:
        """Write hnswlib's file."""
        self.graph.save_index(path)

    @classmethod
    def load(cls, path: str, meta: dict[str, Any]) -> "HnswIndex":
        """Read what save wrote; the caller has checked the file's checksum: hnswlib itself trusts any bytes."""
        import hnswlib

        graph = hnswlib.Index(space="ip", dim=meta["dimension"])
        graph.load_index(path, max_elements=meta["count"])
        if graph.get_current_count() != meta["count"]:
            raise UserError(f"{path}: holds {graph.get_current_count()} vectors, index.json says {meta['count']}")
        return cls(graph, IndexSettings("hnsw", **meta["parameters"]))

    def parameters(self) -> dict[str, Any]:
        """Return what index.json tells of the build."""
        return {"m": self.graph.M, "ef_construction": self.graph.ef_construction}


Index = ExactIndex | HnswIndex


def _check_width(queries: np.ndarray, dimension: int) -> None:
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise UserError(f"queries of shape {list(queries.shape)} for an index of width {dimension}; "
                        "was the index built with another encoder?")


def build_index(vectors: np.ndarray, settings: IndexSettings, queries: int | None = None) -> Index:
    """Build the index that the settings ask for.

    vectors: float32 [texts, dimension]. queries: how many will be asked, in batches, before the index is thrown away;
    None where it is kept.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    kind = settings.kind
    if kind == "auto":
        few = len(vectors) <= EXACT_UP_TO or queries is not None and queries <= EXACT_UP_TO_QUERIES
        wanted = any((settings.m, settings.ef, settings.ef_construction))  # who gives a graph's flags wants a graph
        kind = "exact" if few and not wanted else "hnsw"
    return ExactIndex(vectors) if kind == "exact" else HnswIndex.build(vectors, settings)


def recall_of_index(index: Index, queries: np.ndarray, k: int) -> float:
    """Return the share of exact search's k nearest texts that the index finds, from 0 to 1."""
    found, _ = index.search(queries, k)
    truth, _ = (index.exact() if isinstance(index, HnswIndex) else index).search(queries, k)
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth)]))


@dataclass
class TextIndex:
    """An index with its texts. Distinct texts are indexed once; corpus.inverse tells which one each row holds."""

    index: Index
    corpus: Corpus
    encoder: str = ""
    source: str = ""

    def save(self, directory: str) -> None:
        """Write index, texts and index.json into a directory that is absent, empty or holds an index.

        Raises UserError for a directory that holds something else.
        """
        check_directory(directory)
        with whole_directory(directory) as partial:
            self.index.save(os.path.join(partial, self.index.file))
            self.corpus.save(os.path.join(partial, "texts.txt"))
            np.save(os.path.join(partial, "rows.npy"), self.corpus.inverse)
            names = [self.index.file, "texts.txt", "rows.npy"]
            meta = {
                "format": FORMAT, "kind": self.index.kind, "space": "ip", "dimension": self.index.dimension,
                "count": len(self.index), "parameters": self.index.parameters(), "encoder": self.encoder,
                "corpus": self.corpus.fingerprint, "source": self.source,
                "checksums": {name: _checksum(os.path.join(partial, name)) for name in names},
            }
            meta["seal"] = _seal(meta)
            with open(os.path.join(partial, "index.json"), "w", encoding="utf-8") as file:
                json.dump(meta, file, ensure_ascii=False, indent=2)

    @classmethod
    def load(cls, directory: str, settings: IndexSettings | None = None) -> "TextIndex":
        """Read an index directory; UserError where anything differs from what was written.

        settings: of the search (ef, threads); what was built stays as it is.
        """
        meta = read_meta(directory)
        for name, checksum in meta["checksums"].items():
            path = os.path.join(directory, name)
            if not os.path.isfile(path):
                raise UserError(f"{path}: missing; build the index again with --rebuild_index")
            if _checksum(path) != checksum:
                raise UserError(f"{path}: truncated or altered (its checksum differs from index.json); "
                                "build the index again with --rebuild_index")
        kind: Any = {"exact": ExactIndex, "hnsw": HnswIndex}[meta["kind"]]
        index = kind.load(os.path.join(directory, kind.file), meta)
        if isinstance(index, HnswIndex) and settings:
            index.settings.ef, index.settings.threads = settings.ef, settings.threads
        corpus = Corpus.load(os.path.join(directory, "texts.txt"))
        corpus.inverse = np.load(os.path.join(directory, "rows.npy"), allow_pickle=False)
        if len(corpus) != len(index):
            raise UserError(f"{directory}: {len(corpus)} texts for {len(index)} vectors")
        return cls(index, corpus, meta["encoder"], meta["source"])


def check_directory(directory: str) -> bool:
    """Return whether the directory holds an index; UserError where it holds something else or cannot be written."""
    if os.path.isfile(os.path.join(directory, "index.json")):
        return True
    if os.path.isdir(directory) and os.listdir(directory) or os.path.isfile(directory):
        raise UserError(f"--index_dir {directory}: is there, but is no index; name another directory")
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise UserError(f"--index_dir {directory}: cannot be made ({error.strerror})") from None
    return False


def read_meta(directory: str) -> dict[str, Any]:
    """Return index.json of a directory, checked for form; UserError where it is no index or is damaged."""
    path = os.path.join(directory, "index.json")
    if not os.path.isfile(path):
        raise UserError(f"{directory}: no index (no index.json)")
    try:
        with open(path, encoding="utf-8") as file:
            meta = json.load(file)
        if meta["format"] > FORMAT or meta["kind"] not in ("exact", "hnsw") or meta["space"] != "ip":
            raise UserError(f"{path}: written by another version of this project")
        if meta["seal"] != _seal(meta):
            raise ValueError("it was altered")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); build the index again with --rebuild_index") from None
    return meta


def _seal(meta: dict[str, Any]) -> str:
    """Return a checksum over index.json's own content: hnswlib would believe an altered dimension."""
    content = {key: value for key, value in meta.items() if key != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _checksum(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
