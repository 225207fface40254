"""Recall@k and MRR of ranked lists. No paddle here."""

from collections.abc import Hashable, Sequence

RECALL_AT = (1, 5, 10, 20, 50)


def hit_ranks(query: Hashable, texts: Sequence[Hashable], positives: Sequence[Hashable]) -> list[int]:
    """Return the ranks (from 1), ascending, at which a query's positives stand among the texts recalled for it.

    A query that recalls itself is not counted: its own text is passed over and the ranks behind it move up,
    unless the text is among its positives. A text that stands twice counts where it stands first. What stands for a
    text may be the text itself or a number of it.
    """
    targets = set(positives)
    if targets.isdisjoint(texts):  # most of the long lists of a large file
        return []
    distinct = list(dict.fromkeys(texts))
    own = distinct.index(query) if query not in targets and query in distinct else len(distinct)
    places = sorted(distinct.index(target) for target in targets.intersection(distinct))
    return [place + (place < own) for place in places]


def recall_at(hits: Sequence[Sequence[int]], k: int, totals: Sequence[int] | None = None) -> list[float]:
    """Return Recall@k of each query, from 0 to 1.

    hits: ranks of each query's positives. Without totals the recipe's meaning: 1 where a query has at least one
    positive among the first k. With totals (positives of each query) the share of its positives there.
    """
    if totals is None:
        return [float(bool(ranks) and ranks[0] <= k) for ranks in hits]
    return [sum(1 for r in ranks if r <= k) / n for ranks, n in zip(hits, totals)]


def mrr_at(hits: Sequence[Sequence[int]], k: int) -> list[float]:
    """Return RR@k of each query: 1 / rank of the first positive, 0 beyond k (Voorhees 1999, TREC-8 QA)."""
    return [1 / ranks[0] if ranks and ranks[0] <= k else 0.0 for ranks in hits]


def percent(values: Sequence[float]) -> float:
    """Return the mean in percent, rounded as the recipe prints it; 0 of no queries."""
    return round(100 * sum(values) / len(values), 3) if values else 0.0


def recalls(hits: Sequence[Sequence[int]], recall_num: int) -> dict[str, float]:
    """Return {'recall@1': percent, ...} for 1, 5, 10, 20, 50 up to recall_num."""
    return {f"recall@{k}": percent(recall_at(hits, k)) for k in RECALL_AT if k <= recall_num}


def ranked_alike(one: Sequence[tuple[Hashable, float]], two: Sequence[tuple[Hashable, float]], rounding: float) -> bool:
    """Tell whether two rankings, best first, are the same but for scores rounded otherwise.

    Scores a rank differ by `rounding` at most, and so do those of a text in both. Equal ones may change places; a text
    in one ranking alone is hardly above the last: it was cut off in the other.
    """
    if len(one) != len(two) or any(abs(a - b) > rounding for (_, a), (_, b) in zip(one, two)):
        return False
    last = min(row[-1][1] for row in (one, two)) + 2 * rounding if one else 0.0
    return all(abs(score - theirs[text]) <= rounding if text in theirs else score <= last
               for row, theirs in ((one, dict(two)), (two, dict(one))) for text, score in row)
