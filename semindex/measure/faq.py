"""Metrics of a FAQ's replies against labelled questions. No paddle here."""

import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from semindex.errors import UserError
from semindex.measure.report import check_queries
from semindex.runtime import warn
from semindex.text.tables import read_labelled, read_rows

STATES = ("answer", "suggest", "none")
BY_STATE = ("precision", "refusal precision")  # of questions that the replies choose, not of the same ones in two files


Reply = tuple[str, list[set[str]]]  # state; of each hit, best first, its entry's questions
LOST: Reply = ("", [])  # a question that nobody answered was not refused either


def read_replies(path: str) -> Iterator[tuple[str, str, list[set[str]]]]:
    """Yield (question, state, of each hit, best first, its entry's questions) of what ask.py wrote.

    Raises UserError with file:line for a line that is no reply.
    """
    for number, fields in read_rows(path, range(1, 10_000), what="a JSON object", may_lack=True):
        try:
            reply: Any = json.loads("\t".join(fields))
            row = str(reply["question"]), reply["state"], [
                {hit["question"], *hit.get("similar", ())} for hit in reply["hits"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}:{number}: no reply of ask.py ({type(error).__name__}: {error})") from None
        if row[1] not in STATES:
            raise UserError(f"{path}:{number}: state {row[1]!r}, expected one of {', '.join(STATES)}")
        yield row


def ranks_of(replies: dict[str, Reply], questions: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return the rank, from 1, at which each wanted question stands among the hits, 0 where it does not."""
    hits = [replies.get(question, LOST)[1] for question in questions]
    return [next((place for place, known in enumerate(row, 1) if target in known), 0) if target else 0
            for row, target in zip(hits, wanted)]


def measure(replies: dict[str, Reply], questions: Sequence[str],
            wanted: Sequence[str]) -> dict[str, list[float]]:
    """Return each metric's values, from 0 to 1, of the questions that it counts.

    wanted: a question of the entry that answers each question, '' where none does. answer@1 and mrr look at the hits of
    questions that have an answer, whatever the state; precision: share of answers that are right; coverage: of all
    questions, how many got an answer; refusal precision: of refusals (state none), how many were to questions without
    an answer; refusal recall: of those questions, how many were refused; false answers: how many of them were answered.
    """
    states = [replies.get(question, LOST)[0] for question in questions]
    ranks = ranks_of(replies, questions, wanted)
    rows = list(zip(states, ranks, map(bool, wanted)))
    return {
        "answer@1": [float(rank == 1) for _, rank, known in rows if known],
        "mrr": [1 / rank if rank else 0.0 for _, rank, known in rows if known],
        "precision": [float(rank == 1) for state, rank, _ in rows if state == "answer"],
        "coverage": [float(state == "answer") for state, _, _ in rows],
        "refusal precision": [float(not known) for state, _, known in rows if state == "none"],
        "refusal recall": [float(state == "none") for state, _, known in rows if not known],
        "false answers": [float(state == "answer") for state, _, known in rows if not known],
    }


def of_replies(args: Namespace) -> dict[str, dict[str, list[float]]]:
    """Return the values of reply files: of each file, each metric, each question that it counts."""
    questions, wanted = read_labelled(args.questions_file, args.skip_bad_lines)
    found = {}
    for path in args.reply_file:
        replies = {question: (state, hits) for question, state, hits in read_replies(path)}
        check_queries(path, replies, args.questions_file, questions)
        if any(wanted) and not any(ranks_of(replies, questions, wanted)):
            warn(f"{path}: no hit is a question that {args.questions_file} names; its second column holds the "
                 "FAQ's questions")
        found[path] = measure(replies, questions, wanted)
    counted = [name for name in next(iter(found.values())) if any(row[name] for row in found.values())]
    return {path: {name: row[name] for name in counted} for path, row in found.items()}  # of no questions: no metric
