"""What goes into a recall and what comes out: queries, corpus, result file."""

import argparse
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from semindex import runtime
from semindex.errors import UserError
from semindex.files import atomic_file, output_path
from semindex.text.corpus import Corpus, read_corpus
from semindex.text.results import write_recall_result
from semindex.text.tables import group_pairs, read_pairs


def read_inputs(args: argparse.Namespace) -> tuple[list[str], Corpus]:
    """Return the distinct queries and the corpus, once the place of the result is known to be writable."""
    runtime.on_rank_0(lambda: check_outputs(result_path(args), getattr(args, "trec_run_file", None)))
    pairs, lines = read_pairs(args.similar_text_pair_file, (1, 2, 3), args.skip_bad_lines)
    queries = list(group_pairs(pairs))
    corpus, corpus_lines = read_corpus(args.corpus_file, args.skip_bad_lines)
    runtime.say(f"{args.similar_text_pair_file}: {len(queries)} queries{lines.notes()}")
    doubles = len(corpus.inverse) - len(corpus)
    runtime.say(f"{args.corpus_file}: {len(corpus)} texts" + f", {doubles} duplicates left out" * (doubles > 0)
                + corpus_lines.notes())
    if len(corpus) < args.recall_num:
        runtime.warn(f"--recall_num {args.recall_num}: the corpus has only {len(corpus)} texts, all are recalled")
    return queries, corpus


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


def write_result(args: argparse.Namespace, found: Iterable[tuple[str, Iterable[tuple[str, float]]]]) -> None:
    """Write lines of query<TAB>text<TAB>cosine and say how many."""
    path = result_path(args)
    runtime.say(f"{path}: {write_recall_result(path, found)} lines")


def ranked(queries: Sequence[str], ids: np.ndarray, scores: np.ndarray,
           corpus: Corpus) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Yield (query, [(text, cosine), ...]), best first."""
    for query, row, values in zip(queries, ids.tolist(), scores.tolist()):
        yield query, [(corpus[i], value) for i, value in zip(row, values)]
