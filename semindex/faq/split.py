"""A FAQ split for training, calibration and test."""

import itertools
from collections.abc import Sequence

import numpy as np

from semindex.errors import UserError
from semindex.faq.entries import Entry
from semindex.text.same_text import plain
from semindex.text.tables import read_rows


def read_unanswered(paths: Sequence[str], entries: Sequence[Entry], skip_bad_lines: bool = False) -> list[list[str]]:
    """Return the questions of each file; UserError for one that the FAQ asks, or that stands twice."""
    known = set(forms([text for entry in entries for text in entry.questions]))
    found = list[list[str]]()
    for path in paths:
        found.append([])
        rows = [(number, " ".join(fields[0].split())) for number, fields in
                read_rows(path, (1, 2), skip_bad_lines, what="a question", may_lack=True)]
        for (number, text), form in zip(rows, forms([text for _, text in rows])):
            if form in known:
                raise UserError(f"{path}:{number}: '{text}' reads as a question of the FAQ, or stands twice; take it "
                                "out")
            known.add(form)
            found[-1].append(text)
    return found


def forms(texts: Sequence[str]) -> list[str]:
    """Return how each text reads, the text itself where nothing would be left of it."""
    return [form or text for form, text in zip(plain(texts), texts)]


def split_faq(entries: Sequence[Entry], unanswered: Sequence[Sequence[str]], dev: int, test: int, seed: int,
              json: bool = False) -> tuple[list[str], ...]:
    """Return the lines of faq.tsv (json: of faq.jsonl), train.csv, dev.tsv and test.tsv.

    An entry keeps its standard question and at least one similar one: those with fewer than dev + test + 1 similar
    questions hold fewer out, dev first. Questions that read alike stay together, and one that reads as the standard
    question is not held out: it would be found by reading alone. Of each list of unanswered questions one half goes to
    dev, the other to test.
    """
    rng = np.random.default_rng(seed)
    faq, train, sides = list[str](), list[str](), (list[str](), list[str]())
    for entry in entries:
        similar, groups = entry.questions[1:], dict[str, list[str]]()
        for text, form in zip(similar, forms(similar)):
            groups.setdefault(form, []).append(text)
        groups.pop(forms([entry.question])[0], None)
        alike = list(groups.values())
        others = [alike[i] for i in rng.permutation(len(alike))]
        held = set[str]()
        for side, wanted in zip(sides, (dev, test)):
            count = max(0, min(wanted, len(others) - 1))
            side += [f"{some[0]}\t{entry.question}\n" for some in others[:count]]
            held |= {text for some in others[:count] for text in some}
            others = others[count:]
        kept = [text for text in similar if text not in held]
        found = Entry(entry.question, entry.answer, entry.category, kept)
        faq.append(found.as_json() if json else found.as_row())
        train += [f"{one}\t{two}\n" for one, two in itertools.combinations([entry.question, *kept], 2)]
    for texts in unanswered:
        order = rng.permutation(len(texts))
        for side, some in zip(sides, (order[: len(order) // 2], order[len(order) // 2 :])):
            side += [f"{texts[i]}\t\n" for i in some]
    return faq, train, *sides
