"""Metrics of dumped vectors: passages searched, or candidates ranked, by inner product. No paddle here."""

import os
from argparse import Namespace

import numpy as np

from semindex import manifest
from semindex.errors import UserError
from semindex.measure import trec as trec_metrics
from semindex.measure.report import check_queries
from semindex.runtime import warn
from semindex.search.exact import ExactIndex
from semindex.text import trec
from semindex.text.counted import counted

BLOCK = 1024  # queries searched at once


class Dump:
    """What run_ann_data_gen.py --inference wrote: vectors, memory-mapped, and ids.

    passages, queries: float32 [n, width]; documents: the id of each passage's document; query_ids: of each query.
    trust: see manifest. Raises UserError for files that are missing, altered or do not belong together.
    """

    def __init__(self, directory: str, trust: bool = False) -> None:
        manifest.check(directory, "vectors", trust)
        self.passages, self.documents = _read(directory, "passages.npy", "passage_ids.txt")
        self.queries, self.query_ids = _read(directory, "queries.npy", "query_ids.txt")
        if self.passages.shape[1] != self.queries.shape[1]:
            raise UserError(f"{directory}: passages.npy is {self.passages.shape[1]} wide, queries.npy "
                            f"{self.queries.shape[1]}; were they written by one encoder?")
        numbers: dict[str, int] = {}
        self.owner = np.array([numbers.setdefault(name, len(numbers)) for name in self.documents], np.int64)
        self.names = list(numbers)

    def full_run(self, rows: list[int], depth: int) -> trec.Run:
        """Return {query id: {document id: score}} of the `depth` best documents, each by its best passage."""
        most = int(np.bincount(self.owner).max())
        index = ExactIndex.build(self.passages)
        run: trec.Run = {}
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            found, scores = index.search(np.asarray(self.queries[block], np.float32), depth * most)
            for row, places, values in zip(block, found.tolist(), scores.tolist()):
                best: dict[str, float] = {}
                for place, value in zip(places, values):
                    if place >= 0 and len(best) < depth:
                        best.setdefault(self.names[self.owner[place]], value)
                run[self.query_ids[row]] = best
        return run

    def rerank(self, rows: list[int], depth: int, candidates: dict[str, list[str]]) -> trec.Run:
        """Return the same of each query's candidates alone; those that have no vector are passed over."""
        order = np.argsort(self.owner, kind="stable")
        edges: np.ndarray = np.asarray(np.searchsorted(self.owner[order], np.arange(len(self.names) + 1)))
        number = {name: place for place, name in enumerate(self.names)}
        run: trec.Run = {}
        for row in rows:
            names = [name for name in candidates.get(self.query_ids[row], []) if name in number]
            query = np.asarray(self.queries[row], np.float32)
            scores = {name: float((self.passages[order[edges[number[name]] : edges[number[name] + 1]]] @ query).max())
                      for name in names}
            if scores:
                best = trec_metrics.ordered(scores)[:depth]
                run[self.query_ids[row]] = {name: scores[name] for name in best}
        return run


def _read(directory: str, vectors: str, ids: str) -> tuple[np.ndarray, list[str]]:
    """Return the vectors of a file and the id of each, which is the first word of its line."""
    path = os.path.join(directory, vectors)
    for name in (vectors, ids):
        if not os.path.isfile(os.path.join(directory, name)):
            raise UserError(f"--vectors_dir {directory}: holds no {name}; run_ann_data_gen.py --inference writes it")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: damaged ({error})") from None
    if array.ndim != 2 or array.dtype.kind != "f":
        raise UserError(f"{path}: holds {array.dtype} {list(array.shape)}, expected float32 [texts, width]")
    with open(os.path.join(directory, ids), encoding="utf-8") as file:
        names = [line.rstrip("\n").split("\t")[0] for line in file]
    if len(names) != len(array):
        raise UserError(f"{directory}: {vectors} holds {counted(len(array), 'vector')}, {ids} "
                        f"{counted(len(names), 'id')}; were they written together?")
    return array, names


def of_vectors(args: Namespace) -> dict[str, dict[str, list[float]]]:
    """Return the values of dumped vectors: of each directory, each metric, each query of the qrels."""
    trec_metrics.check(args.metrics)
    qrels = trec.read_qrels(args.qrels_file, args.skip_bad_lines)
    candidates = trec.read_candidates(args.candidates_file, args.skip_bad_lines) if args.candidates_file else None
    deepest = max((int(name.partition("@")[2] or 0) for name in args.metrics), default=0)
    if deepest > args.depth:
        warn(f"--depth {args.depth}: metrics go down to {deepest}, no more documents are ranked than the depth says")
    values = {}
    for directory in args.vectors_dir:
        dump = Dump(directory, args.trust_files)
        rows = [row for row, name in enumerate(dump.query_ids) if name in qrels]
        run = dump.full_run(rows, args.depth) if candidates is None else dump.rerank(rows, args.depth, candidates)
        check_queries(directory, run, args.qrels_file, qrels)
        found = trec_metrics.per_query(run, qrels, args.metrics)
        values[directory] = {name: list(row.values()) for name, row in found.items()}
    return values
