"""From questions found to the entries they belong to, and how they stand there. NumPy only."""

from dataclasses import dataclass

import numpy as np

from semindex.search.fusion import Ranking


@dataclass
class EntryRanking(Ranking):
    """Entries of a FAQ, best first. ids: entries; questions: the best question of each, int64 [queries, depth]."""

    questions: np.ndarray


def rank_entries(found: Ranking, owners: np.ndarray, temperature: float = 0.0) -> EntryRanking:
    """Return the entries that questions belong to, equal scores by entry. owners: of each question its entry, int64.

    An entry's score is that of its best question; with a temperature the smooth maximum over those that were found,
    t * log(sum(exp(score / t))): an entry that a query resembles in several ways beats one that it resembles in one
    (see docs/faq.md for the gain).
    """
    queries = len(found.ids)
    rows, columns = np.nonzero(found.ids >= 0)
    questions, scores = found.ids[rows, columns], found.scores[rows, columns].astype(np.float64)
    entries = owners[questions]
    span = int(entries.max(initial=0)) + 1
    # the first of equal keys is the best: a query's questions stand in order
    keys, first, place = np.unique(rows * span + entries, return_index=True, return_inverse=True)
    best = scores[first]
    if temperature > 0:
        spread = np.bincount(place.reshape(-1), np.exp((scores - best[place.reshape(-1)]) / temperature), len(keys))
        totals = best + temperature * np.log(spread)
    else:
        totals = best
    owner, entry = keys // span, keys % span
    order = np.lexsort((entry, -totals, owner))
    sizes = np.bincount(owner, minlength=queries)
    position = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    shape = queries, int(sizes.max(initial=0))
    result = EntryRanking(np.full(shape, -1, np.int64), np.zeros(shape, np.float32), np.full(shape, -1, np.int64))
    at = owner[order], position
    result.ids[at], result.scores[at], result.questions[at] = entry[order], totals[order], questions[first][order]
    return result


def scores_of(ranking: Ranking, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how an entry stands in each query's ranking, and the best of the others, both float64 [queries].

    entries: int64 [queries]. What is not there has the lowest score of the query, or 0 where nothing was found.
    """
    found = ranking.ids >= 0
    scores = np.where(found, ranking.scores, np.inf).astype(np.float64)
    low = scores.min(axis=1, initial=np.inf)
    low = np.where(np.isfinite(low), low, 0.0)
    own = found & (ranking.ids == entries[:, None])
    mine = np.where(own, scores, -np.inf).max(axis=1, initial=-np.inf)
    others = np.where(found & ~own, scores, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(np.isfinite(mine), mine, low), np.where(np.isfinite(others), others, low)
