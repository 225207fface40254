"""A FAQ split for training, calibration and test."""

import itertools
from collections.abc import Sequence

import numpy as np

from semindex.errors import UserError
from semindex.faq.entries import Entry
from semindex.text.tables import read_rows


def read_unanswered(paths: Sequence[str], entries: Sequence[Entry], skip_bad_lines: bool = False) -> list[list[str]]:
    """Return the questions of each file; UserError for one that the FAQ asks, or that stands twice."""
    known = {text for entry in entries for text in entry.questions}
    found = list[list[str]]()
    for path in paths:
        found.append([])
        for number, (text, *_) in read_rows(path, (1, 2), skip_bad_lines, what="a question"):
            if text in known:
                raise UserError(f"{path}:{number}: '{text}' is a question of the FAQ, or stands twice; take it out")
            known.add(text)
            found[-1].append(text)
    return found


def split_faq(entries: Sequence[Entry], unanswered: Sequence[Sequence[str]], dev: int, test: int, seed: int,
              json: bool = False) -> tuple[list[str], ...]:
    """Return the lines of faq.tsv (json: of faq.jsonl), train.csv, dev.tsv and test.tsv.

    An entry keeps its standard question and at least one similar one: those with fewer than dev + test + 1 similar
    questions hold fewer out, dev first. Of each list of unanswered questions one half goes to dev, the other to test.
    """
    rng = np.random.default_rng(seed)
    faq, train, sides = list[str](), list[str](), (list[str](), list[str]())
    for entry in entries:
        similar = entry.questions[1:]  # each once: what is held out is not to stand in the FAQ too
        others = [similar[i] for i in rng.permutation(len(similar))]
        for side, wanted in zip(sides, (dev, test)):
            count = max(0, min(wanted, len(others) - 1))
            side += [f"{text}\t{entry.question}\n" for text in others[:count]]
            others = others[count:]
        kept = [text for text in similar if text in set(others)]
        found = Entry(entry.question, entry.answer, entry.category, kept)
        faq.append(found.as_json() if json else found.as_row())
        train += [f"{one}\t{two}\n" for one, two in itertools.combinations([entry.question, *kept], 2)]
    for texts in unanswered:
        order = rng.permutation(len(texts))
        for side, some in zip(sides, (order[: len(order) // 2], order[len(order) // 2 :])):
            side += [f"{texts[i]}\t\n" for i in some]
    return faq, train, *sides
