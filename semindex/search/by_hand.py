"""Queries typed by hand: the nearest texts with their scores, on the terminal."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Protocol

from semindex import runtime
from semindex.errors import UserError
from semindex.search.fusion import Fused
from semindex.search.methods import Method
from semindex.search.recall_files import Inputs
from semindex.text.corpus import Corpus, read_corpus
from semindex.text.counted import counted
from semindex.text.streams import given_texts
from semindex.text.tables import read_rows


class Recall(Protocol):
    """From queries to what is recalled, None off rank 0."""

    method: Method

    def __call__(self, queries: Sequence[str], k: int) -> Fused | None:
        """Return the k best texts of each query."""


def read_typed(args: argparse.Namespace) -> Inputs:
    """Return the corpus; the queries come later. UserError for several processes, which cannot share a terminal."""
    if args.interactive and runtime.world_size() > 1:
        raise UserError("--interactive: one process is enough; start it without paddle.distributed.launch")
    corpus, lines = read_corpus(args.corpus_file, args.skip_bad_lines)
    runtime.say(f"{args.corpus_file}: {counted(len(corpus), 'text')}{lines.notes()}")
    return Inputs(given_texts("--query", args.query or []), corpus, [])


def typed(skip_bad_lines: bool, prompt: str = "query> ") -> Iterator[str]:
    """Yield the lines of a terminal, which is asked, or of a pipe; until the end of the input."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield from (fields[0] for _, fields in read_rows("-", (1,), skip_bad_lines, what="a query"))
        return
    import readline  # noqa: F401  (input() edits lines and remembers them once it is imported)

    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            print()
            return
        try:
            yield from given_texts("what was typed", [line] if line else [])
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)


def print_nearest(recall: Recall, corpus: Corpus, queries: Sequence[str], args: argparse.Namespace) -> None:
    """Print the texts of each query, a line each: place, score, text; with --explain where each source has it."""
    found = recall(queries, args.recall_num)
    if found is None:
        return
    sources = recall.method.sources
    for query, ids, scores, ranks, parts in zip(queries, found.ids.tolist(), found.scores.tolist(),
                                                found.ranks.tolist(), found.parts.tolist()):
        print(query)
        for place, (text, score, own, values) in enumerate(zip(ids, scores, ranks, parts), 1):
            if text >= 0:
                every = zip(sources, own, values)
                where = ", ".join(f"{name} {rank} ({value:.4f})" for name, rank, value in every if rank)
                print(f"{place:4}  {score:.4f}  {corpus[text]}" + f"   {where or 'same text'}" * args.explain)
    sys.stdout.flush()


def answer(recall: Recall, corpus: Corpus, queries: Sequence[str], args: argparse.Namespace) -> None:
    """Print what is recalled for the queries given, then for those typed."""
    if queries:
        print_nearest(recall, corpus, queries, args)
    for line in typed(args.skip_bad_lines) if args.interactive else ():
        if line:
            print_nearest(recall, corpus, [line], args)
