"""Queries typed by hand: the nearest texts with their scores, on the terminal."""

import argparse
import sys
from collections.abc import Iterator, Sequence

from semindex import runtime
from semindex.encode.text_encoder import TextEncoder
from semindex.errors import UserError
from semindex.search.directory import TextIndex
from semindex.search.recall_files import Inputs
from semindex.text.corpus import read_corpus
from semindex.text.counted import counted
from semindex.text.streams import given_texts
from semindex.text.tables import read_rows


def read_typed(args: argparse.Namespace) -> Inputs:
    """Return the corpus; the queries come later. UserError for several processes, which cannot share a terminal."""
    if args.interactive and runtime.world_size() > 1:
        raise UserError("--interactive: one process is enough; start it without paddle.distributed.launch")
    corpus, lines = read_corpus(args.corpus_file, args.skip_bad_lines)
    runtime.say(f"{args.corpus_file}: {counted(len(corpus), 'text')}{lines.notes()}")
    return Inputs(given_texts("--query", args.query or []), corpus, [])


def _typed(skip_bad_lines: bool) -> Iterator[str]:
    """Yield the lines of a terminal, which is asked, or of a pipe; until the end of the input."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield from (fields[0] for _, fields in read_rows("-", (1,), skip_bad_lines, what="a query"))
        return
    import readline  # noqa: F401  (input() edits lines and remembers them once it is imported)

    while True:
        try:
            yield input("query> ").strip()
        except EOFError:
            print()
            return


def print_nearest(index: TextIndex, encoder: TextEncoder, queries: Sequence[str], k: int) -> None:
    """Print the k nearest texts of each query, a line each: place, score, text."""
    ids, scores = index.index.search(encoder.side("query")(queries), k)
    for query, row, values in zip(queries, ids.tolist(), encoder.scores(scores).tolist()):
        print(query)
        for place, (text, score) in enumerate(zip(row, values), 1):
            if text >= 0:
                print(f"{place:4}  {score:.4f}  {index.corpus[text]}")
    sys.stdout.flush()


def answer(index: TextIndex | None, encoder: TextEncoder, queries: Sequence[str], args: argparse.Namespace) -> None:
    """Print what is nearest to the queries given, then to those typed. index: None off rank 0."""
    if index is None:
        return
    if queries:
        print_nearest(index, encoder, queries, args.recall_num)
    for line in _typed(args.skip_bad_lines) if args.interactive else ():
        if line:
            print_nearest(index, encoder, [line], args.recall_num)
