"""Rankings of several sources fused into one: by reciprocal ranks, or by weighted sums of their scores. NumPy only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from semindex.fields import Field, list_of, object_of, one_of, real

KINDS = ("rrf", "minmax", "zscore")
FIELDS: dict[str, Field] = {"kind": one_of(*KINDS), "k": real(0, 1e9), "weights": list_of(real(0, 1e6))}
FUSION = object_of(FIELDS)


@dataclass(frozen=True)
class Fusion:
    """How to fuse. weights: of each source, from 0 up; k: of rrf, what is added to each rank.

    rrf: the sum of weight / (k + rank), ranks from 1 (Cormack et al. 2009, SIGIR; k = 60 there). minmax, zscore: the
    sum of weight * score, each query's scores of a source brought to 0..1, or divided by their standard deviation; what
    a source did not find counts as the worst that it found (see Bruch et al. 2023, arXiv 2210.11934).
    """

    kind: str = "rrf"
    k: float = 60.0
    weights: tuple[float, ...] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.kind not in KINDS or min(self.weights, default=-1) < 0 or not any(self.weights) or self.k < 0:
            raise ValueError(f"no fusion: {self}")

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return asdict(self) | {"weights": list(self.weights)}


@dataclass
class Ranking:
    """What a source found for each query. ids: int64 [queries, depth], -1 at the end where it found fewer; scores:
    float [queries, depth], best first."""

    ids: np.ndarray
    scores: np.ndarray


@dataclass
class Fused(Ranking):
    """The fused ranking, and what each source says of each text that stands in it.

    ranks: int32 [queries, k, sources], from 1, 0 where the source did not find the text; parts: float32 of that shape,
    the source's own scores, nan there.
    """

    ranks: np.ndarray
    parts: np.ndarray


def contributions(ranking: Ranking, fusion: Fusion, weight: float) -> np.ndarray:
    """Return what each text of a source adds to its fused score, float64 [queries, depth], 0 where there is none."""
    found = ranking.ids >= 0
    if fusion.kind == "rrf":
        added = np.broadcast_to(1 / (fusion.k + 1 + np.arange(found.shape[1])), found.shape)
        return np.where(found, weight * added, 0.0)
    scores = np.where(found, ranking.scores, np.nan).astype(np.float64)
    count = np.maximum(found.sum(axis=1, keepdims=True), 1)
    filled = np.where(found, scores, 0.0)
    low = np.where(found, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    if fusion.kind == "minmax":
        width = np.where(found, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf) - low
    else:
        mean = filled.sum(axis=1, keepdims=True) / count
        width = np.sqrt(np.where(found, (filled - mean) ** 2, 0.0).sum(axis=1, keepdims=True) / count)
    with np.errstate(invalid="ignore", divide="ignore"):
        added = np.where(width > 0, (scores - low) / width, 1.0)  # equal scores: each is the best
    return np.where(found, weight * added, 0.0)


def fuse(rankings: Sequence[Ranking], fusion: Fusion, k: int, exact: np.ndarray | None = None) -> Fused:
    """Return the k best texts of each query over all sources, equal ones by id.

    A source of weight 0 brings no text in; it explains those that others found.

    exact: the text that reads as the query does, int64 [queries], -1 for none: it stands first, whatever its rank is.
    Raises ValueError where there are more or fewer weights than rankings.
    """
    if len(fusion.weights) != len(rankings):
        raise ValueError(f"{len(fusion.weights)} weights for {len(rankings)} rankings")
    queries, sources = len(rankings[0].ids), len(rankings)
    exact = np.full(queries, -1, np.int64) if exact is None else exact
    ids = np.concatenate([exact[:, None], *(ranking.ids for ranking in rankings)], axis=1)
    added = np.concatenate([np.zeros([queries, 1]), *(
        contributions(ranking, fusion, weight) for ranking, weight in zip(rankings, fusion.weights))], axis=1)
    rows, columns = np.nonzero(ids >= 0)
    names, numbers = np.unique(ids[rows, columns], return_inverse=True)
    keys, place = np.unique(rows * len(names) + numbers.reshape(-1), return_inverse=True)
    owner, texts = keys // max(len(names), 1), names[keys % max(len(names), 1)]
    place = place.reshape(-1)
    counts = np.array([True] + [weight > 0 for ranking, weight in zip(rankings, fusion.weights)
                                for _ in range(ranking.ids.shape[1])])
    wanted = np.bincount(place, counts[columns], len(texts)) > 0
    totals = np.bincount(place, weights=added[rows, columns], minlength=len(texts))
    ranks = np.zeros([len(texts), sources], np.int32)
    parts = np.full([len(texts), sources], np.nan, np.float32)
    start = 1
    for source, ranking in enumerate(rankings):
        width = ranking.ids.shape[1]
        own = (columns >= start) & (columns < start + width)
        ranks[place[own], source] = columns[own] - start + 1
        parts[place[own], source] = ranking.scores[rows[own], columns[own] - start]
        start += width
    first = texts == exact[owner]
    if first.any():
        best = np.zeros(queries)
        np.maximum.at(best, owner, totals)
        totals = np.where(first, best[owner], totals)
    order = np.lexsort((texts, ~first, -totals, owner))
    order = order[wanted[order]]
    sizes = np.bincount(owner[wanted], minlength=queries)
    depth = min(k, max(1, int(sizes.max(initial=0))))  # a column of -1 where nothing was found
    position = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # of the ordered texts, in their row
    kept = order[position < depth]
    at = owner[kept], position[position < depth]
    result = Fused(np.full([queries, depth], -1, np.int64), np.zeros([queries, depth]),
                   np.zeros([queries, depth, sources], np.int32),
                   np.full([queries, depth, sources], np.nan, np.float32))
    result.ids[at], result.scores[at], result.ranks[at], result.parts[at] = (
        texts[kept], totals[kept], ranks[kept], parts[kept])
    return result
