"""Metrics of ranked lists and the recall_result format. No paddle here."""

import itertools
import math
import operator
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data import Lines, open_binary, read_rows
from deploy.python.serving.whole import whole_file
from options import UserError

RECALL_AT = (1, 5, 10, 20, 50)


def hit_ranks(ranking: Mapping[str, Sequence[str]], positives: Mapping[str, Sequence[str]]) -> list[list[int]]:
    """Return, for each query of `positives`, the ranks (from 1) at which its positives stand, ascending.

    A query that recalls itself is not counted: its own text is passed over and the ranks behind it move up,
    unless the text is among its positives. A text that stands twice counts where it stands first.
    """
    found: list[list[int]] = []
    for query, wanted in positives.items():
        targets = set(wanted)
        texts = ranking.get(query, ())
        if targets.isdisjoint(texts):  # most of the long lists of a large file
            found.append([])
            continue
        distinct = list(dict.fromkeys(texts))
        own = distinct.index(query) if query not in targets and query in distinct else len(distinct)
        places = sorted(distinct.index(target) for target in targets.intersection(distinct))
        found.append([place + (place < own) for place in places])
    return found


def recall_at(hits: Sequence[Sequence[int]], k: int, totals: Sequence[int] | None = None) -> float:
    """Return Recall@k, from 0 to 1, the mean over queries.

    hits: ranks of each query's positives. Without totals the recipe's meaning: the share of queries with at
    least one positive among the first k. With totals (positives of each query) the share of all positives.
    """
    if not hits:
        return 0.0
    if totals is None:
        return sum(1 for ranks in hits if ranks and ranks[0] <= k) / len(hits)
    return sum(sum(1 for r in ranks if r <= k) / n for ranks, n in zip(hits, totals)) / len(hits)


def mrr_at(hits: Sequence[Sequence[int]], k: int) -> float:
    """Return MRR@k: the mean of 1 / rank of the first positive, 0 beyond k (Voorhees 1999, TREC-8 QA)."""
    return sum(1 / ranks[0] for ranks in hits if ranks and ranks[0] <= k) / len(hits) if hits else 0.0


def recalls(hits: Sequence[Sequence[int]], recall_num: int, totals: Sequence[int] | None = None) -> dict[str, float]:
    """Return {'recall@1': percent, ...} for 1, 5, 10, 20, 50 up to recall_num, rounded as the recipe prints it."""
    return {f"recall@{k}": round(100 * recall_at(hits, k, totals), 3) for k in RECALL_AT if k <= recall_num}


def _read_flawless(path: str) -> dict[str, list[str]] | None:
    """Return what read_recall_result does for a file without any flaw, some times as fast; None for another file."""
    try:
        with open_binary(path) as file:
            raw = file.read().removesuffix(b"\n") + b"\n"
        array = np.frombuffer(raw, np.uint8)
        marks = array[(array == 9) | (array == 10)]
        if raw.startswith(b"\xef\xbb\xbf") or len(marks) % 3 or (marks.reshape(-1, 3) != [9, 9, 10]).any():
            return None
        content = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    fields = list(map(str.strip, content.replace("\n", "\t").split("\t")))
    fields.pop()  # behind the last line
    queries, texts = fields[0::3], fields[1::3]
    try:
        cosines = list(map(float, fields[2::3]))
    except ValueError:
        return None
    ranking: dict[str, list[str]] = {}
    start = 0
    for query, same in itertools.groupby(queries):
        stop = start + len(list(same))
        found, values = texts[start:stop], cosines[start:stop]
        seen = set(found)
        if not query or query in ranking or len(seen) < len(found) or "" in seen:
            return None
        # To rise by less than 1e-6 is no flaw, but rare; infinities of both signs add up to no number.
        if any(map(operator.gt, values[1:], values)) or math.isnan(sum(values)):
            return None
        ranking[query] = found
        start = stop
    return ranking


def read_recall_result(path: str, skip_bad_lines: bool = False) -> tuple[dict[str, list[str]], Lines]:
    """Read lines of query<TAB>recalled text<TAB>cosine into {query: texts, best first}.

    Raises UserError with file:line for a text that a query recalls twice, a cosine that rises within a query,
    and a query whose lines are not together: such a file was shuffled, joined or cut. With skip_bad_lines
    those lines are counted and skipped.
    """
    lines = Lines(path)
    flawless = _read_flawless(path) if os.path.isfile(path) else None
    if flawless is not None:
        return flawless, lines
    ranking: dict[str, list[str]] = {}
    query: str | None = None
    last, texts, seen = 0.0, list[str](), set[str]()
    for number, (asked, text, score) in read_rows(path, (3,), skip_bad_lines, lines,
                                                  "query<TAB>recalled text<TAB>cosine"):
        fault = None
        try:
            cosine = float(score)
        except ValueError:
            cosine = float("nan")
        if cosine != cosine:
            fault = f"'{score}' is not a cosine"
        elif asked != query:
            if asked in ranking:
                fault = f"lines of the query '{asked}' stand apart: the file was shuffled or joined"
            else:
                query, texts, seen = asked, [text], {text}
                ranking[asked] = texts
                last = cosine
                continue
        elif text in seen:
            fault = f"the query '{asked}' recalls '{text}' twice"
        elif cosine > last + 1e-6:
            fault = f"the cosine rises from {last} to {cosine}: the file was shuffled"
        if fault is None:
            texts.append(text)
            seen.add(text)
            last = cosine
        elif skip_bad_lines:
            lines.bad += 1
        else:
            raise UserError(f"{path}:{number}: {fault}; write the file anew with recall.py "
                            "or pass --skip_bad_lines")
    return ranking, lines


def write_recall_result(path: str, rankings: Iterable[tuple[str, Iterable[tuple[str, float]]]]) -> int:
    """Write lines of query<TAB>text<TAB>cosine, best first; return how many. Whole or not at all."""
    count = 0
    with whole_file(path) as file:
        for query, found in rankings:
            for text, score in found:
                file.write(f"{query}\t{text}\t{score}\n")
                count += 1
    return count


def write_trec_run(path: str, rows: Iterable[Iterable[int]], scores: Iterable[Iterable[float]],
                   name: str = "semantic_index") -> None:
    """Write a TREC run. rows, scores: [queries, k]; ids count queries and corpus rows from 1 in the files' order."""
    with whole_file(path) as file:
        for query, (found, values) in enumerate(zip(rows, scores), 1):
            for rank, (row, score) in enumerate(zip(found, values), 1):
                file.write(f"{query} Q0 {row + 1} {rank} {score} {name}\n")
