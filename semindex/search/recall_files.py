"""What goes into a recall and what comes out: queries, corpus, result file."""

import argparse
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from semindex import runtime
from semindex.errors import UserError
from semindex.files import atomic_file, output_path
from semindex.search.fusion import Fused
from semindex.text.corpus import Corpus, read_corpus
from semindex.text.counted import counted
from semindex.text.results import write_recall_result
from semindex.text.tables import ReadReport, group_pairs, read_pairs
from semindex.text.trec import read_documents, read_queries, write_run


@dataclass
class Inputs:
    """What is asked and where it is looked for: distinct texts, and the ids that a TREC run names them by.

    query_ids: of each query, one or several. document_ids: of each row of the corpus file, None where texts have
    their number in the file, from 1.
    """

    queries: list[str]
    corpus: Corpus
    query_ids: list[list[str]]
    document_ids: Corpus | None = None

    def __post_init__(self) -> None:
        # rows of equal texts stand together
        self._rows: np.ndarray = np.argsort(self.corpus.inverse, kind="stable")
        self._starts = np.searchsorted(self.corpus.inverse[self._rows], np.arange(len(self.corpus) + 1)).reshape(-1)

    def documents_of(self, text: int) -> list[str]:
        """Return the ids of a text, in file order: of all documents that read so."""
        rows = self._rows[self._starts[text] : self._starts[text + 1]]
        return [str(rows[0] + 1)] if self.document_ids is None else [self.document_ids[row] for row in rows]

    def run(self, found: Iterable[Iterable[tuple[int, float]]], depth: int) -> Iterator[tuple[str, Any]]:
        """Yield (query id, [(document id, score), ...]) of (text, score) of each query, `depth` documents at most."""
        for names, row in zip(self.query_ids, found):
            every = ((name, score) for text, score in row for name in self.documents_of(text))
            best = list(itertools.islice(every, depth))
            for name in names:
                yield name, best


def read_inputs(args: argparse.Namespace, separator: str = " ") -> Inputs:
    """Return the queries and the corpus, once the places of the results are known to be writable.

    separator: stands between url, title and body of a document with ids.
    """
    results = [args.trec_run_file] if args.queries_file else [result_path(args), args.trec_run_file]
    runtime.on_rank_0(lambda: check_outputs(*results))
    inputs = (_with_ids if args.queries_file else _texts)(args, separator)
    if len(inputs.corpus) < args.recall_num:
        runtime.warn(f"--recall_num {args.recall_num}: the corpus has only "
                     f"{counted(len(inputs.corpus), 'text')}, no more can be recalled")
    return inputs


def _texts(args: argparse.Namespace, _: str) -> Inputs:
    pairs, lines = read_pairs(args.similar_text_pair_file, (1, 2, 3), args.skip_bad_lines)
    queries = list(group_pairs(pairs))
    corpus, corpus_lines = read_corpus(args.corpus_file, args.skip_bad_lines)
    runtime.say(f"{args.similar_text_pair_file}: {counted(len(queries), 'query', 'queries')}{lines.notes()}")
    doubles = len(corpus.inverse) - len(corpus)
    runtime.say(f"{args.corpus_file}: {counted(len(corpus), 'text')}"
                + f", {counted(doubles, 'duplicate')} left out" * (doubles > 0) + corpus_lines.notes())
    return Inputs(queries, corpus, [[str(number)] for number in range(1, len(queries) + 1)])


def _with_ids(args: argparse.Namespace, separator: str) -> Inputs:
    asked: dict[str, list[str]] = {}
    for name, text in read_queries(args.queries_file, args.skip_bad_lines):
        asked.setdefault(text, []).append(name)
    lines, names, empty = ReadReport(args.corpus_file), list[str](), 0

    def texts() -> Iterator[str]:
        nonlocal empty
        for name, text in read_documents(args.corpus_file, separator, args.skip_bad_lines, lines):
            if text:
                names.append(name)
                yield text
            else:
                empty += 1

    corpus = Corpus.from_texts(texts())
    if not names:
        raise UserError(f"{args.corpus_file}: no document has a text")
    ids = Corpus.from_texts(names)
    if len(ids) < len(names):
        again = names[int(np.argmax(ids.inverse != np.arange(len(names))))]
        raise UserError(f"{args.corpus_file}: the id {again} stands twice; ids must differ")
    runtime.say(f"{args.queries_file}: {counted(sum(map(len, asked.values())), 'query', 'queries')}")
    runtime.say(f"{args.corpus_file}: {counted(len(names), 'document')}"
                + f", {empty} without a text left out" * (empty > 0) + lines.notes())
    return Inputs(list(asked), corpus, list(asked.values()), ids)


def result_path(args: argparse.Namespace) -> str:
    """Return the path of the result file."""
    return os.path.join(args.recall_result_dir, args.recall_result_file)


def check_outputs(*paths: str | None) -> None:
    """See that each file can be written, before hours go into what it is to hold; UserError where not."""
    for path in filter(None, paths):
        try:
            target = output_path(path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.isfile(target) or not os.path.lexists(target):  # a pipe's reader would take this for its end
                with atomic_file(path, keep=True):
                    pass
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def write_results(args: argparse.Namespace, inputs: Inputs, found: Sequence[Sequence[tuple[int, float]]],
                  name: str) -> None:
    """Write what was found for each query, (text, score) best first, and say how many lines.

    Without ids the result file, lines of query<TAB>text<TAB>score; where asked for, a TREC run by the name of a system.
    """
    if not args.queries_file:
        path, corpus = result_path(args), inputs.corpus
        rows = ((query, [(corpus[text], score) for text, score in row]) for query, row in zip(inputs.queries, found))
        runtime.say(f"{path}: {counted(write_recall_result(path, rows), 'line')}")
    if args.trec_run_file:
        count = write_run(args.trec_run_file, inputs.run(found, args.recall_num), name)
        runtime.say(f"{args.trec_run_file}: {counted(count, 'line')}")


def pairs_of(ids: np.ndarray, scores: np.ndarray) -> list[list[tuple[int, float]]]:
    """Return (text, score) of each query, best first, without the places (-1) that nothing was found for."""
    counts = (ids >= 0).sum(axis=1).tolist()  # -1 stands at the end alone
    return [list(zip(row[:count], values)) for row, values, count in zip(ids.tolist(), scores.tolist(), counts)]


def explain(inputs: Inputs, found: Fused, sources: Sequence[str]) -> None:
    """Print where each text stands in each source that found it: query, text, score, source, rank, its own score."""
    for query, ids, scores, ranks, parts in zip(inputs.queries, found.ids.tolist(), found.scores.tolist(),
                                                found.ranks.tolist(), found.parts.tolist()):
        for text, score, own, values in zip(ids, scores, ranks, parts):
            for source, rank, value in zip(sources, own, values):
                if text >= 0 and rank:
                    print(query, inputs.corpus[text], f"{score:.6f}", source, rank, f"{value:.6f}", sep="\t")


def ranked(queries: Sequence[str], ids: np.ndarray, scores: np.ndarray,
           corpus: Corpus) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Yield (query, [(text, score), ...]), best first. scores: as TextEncoder.scores gives them, for a file."""
    for query, row, values in zip(queries, ids.tolist(), scores.tolist()):
        yield query, [(corpus[i], value) for i, value in zip(row, values)]
