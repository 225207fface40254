"""Hard negatives: what a search ranks high and is no known positive; whose search it is does not matter. No paddle."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from semindex.errors import UserError
from semindex.text.counted import counted

# From a block of query numbers to (documents int64, scores float32), both [queries, k], best first; -1 for none.
Search = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# From pairs, int64 [n, 2] of query and document, to their scores, float32 [n].
Scores = Callable[[np.ndarray], np.ndarray]
# From pairs and documents of each, int64 [n, k], to which of these are likely positives of the query, bool [n, k].
Likely = Callable[[np.ndarray, np.ndarray], np.ndarray]
BLOCK = 2048  # queries at once


@dataclass
class MiningRules:
    """Which of the ranked documents may be negatives, and how many are taken.

    negatives: of each pair; rank_min, rank_max: ranks to take from, the first is 0, rank_max excluded. margin: at
    least so far below the positive's score; relative_margin: at least that share of the positive's absolute score
    below it, which is right for negative scores too. sampling: random, any of them; top, the best ranked ones.
    """

    negatives: int = 20
    rank_min: int = 0
    rank_max: int = 200
    margin: float | None = None
    relative_margin: float | None = None
    sampling: str = "random"
    seed: int = 0


@dataclass
class Mined:
    """documents: int32 [pairs, negatives], -1 where fewer were found; scores: float32 likewise.

    counts: of what; a document that several pairs of a query meet counts for each of them.
    """

    documents: np.ndarray
    scores: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)


class Known:
    """What must not become a negative: a query's positives, and texts equal to one of them or to the query.

    pairs: int64 [pairs, 2] of query and document; groups: [documents + queries], equal for equal texts. filled: the
    documents that may be drawn at random, all where left out.
    """

    def __init__(self, pairs: np.ndarray, groups: np.ndarray, documents: int, filled: np.ndarray | None = None) -> None:
        self.groups, self.documents = groups, documents
        self.filled = np.arange(documents) if filled is None else filled
        self.base = int(groups.max()) + 1
        own = pairs[:, 0] * self.base + groups[pairs[:, 1]]
        queries = np.unique(pairs[:, 0])
        self.keys = np.unique(np.concatenate([own, queries * self.base + groups[documents + queries]]))
        self.exact = np.unique(pairs[:, 0] * documents + pairs[:, 1])

    @classmethod
    def connected(cls, pairs: np.ndarray, groups: np.ndarray, documents: int,
                  filled: np.ndarray | None = None) -> "Known":
        """Make one for which all texts that pairs connect, through whatever others, are positives of one another."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        size = int(groups.max()) + 1
        ends = groups[pairs + [documents, 0]]
        links = coo_matrix((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), (size, size))
        return cls(pairs, connected_components(links, directed=False)[1][groups], documents, filled)

    def marks(self, queries: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return bool masks [queries, k]: which documents are positives, and which only equal one or the query."""
        keys = queries[:, None] * self.base + self.groups[documents]
        known = np.isin(keys, self.keys, assume_unique=False)
        positive = np.isin(queries[:, None] * self.documents + documents, self.exact)
        return positive, known & ~positive


def mine(pairs: np.ndarray, search: Search, known: Known, rules: MiningRules,
         score_of: Scores | None = None, fill: bool = False,
         dropped: Callable[[str, np.ndarray, np.ndarray, np.ndarray], None] | None = None,
         guide: Likely | None = None) -> Mined:
    """Choose the negatives of each pair.

    pairs: int64 [pairs, 2] of query and positive document. score_of: from pairs to their scores, float32; needed for
    the margins. fill: where a pair finds too few, draw documents at random that are no known positives. dropped: called
    with a reason, and of each document that is likely a positive, though no known one, the pair, itself, its score.
    guide: another encoder's judgement, beside the margins: training.guide.Guide.for_mining.
    Raises UserError where the rules leave nothing at all, or fill finds nothing.
    """
    order = np.argsort(pairs[:, 0], kind="stable")
    queries, first = np.unique(pairs[order, 0], return_index=True)
    edges = np.append(first, len(order))
    documents = np.full([len(pairs), rules.negatives], -1, np.int32)
    scores = np.full([len(pairs), rules.negatives], np.nan, np.float32)
    counts = dict.fromkeys(("pairs", "ranked", "known positives", "equal texts", "within the margin", "negatives",
                            "pairs with fewer", "filled at random"), 0)
    counts["pairs"] = len(pairs)
    if guide is not None:
        counts["guide"] = 0
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        found, values = search(block)
        found, values = found[:, rules.rank_min : rules.rank_max], values[:, rules.rank_min : rules.rank_max]
        positive, equal = known.marks(block, np.maximum(found, 0))
        real = found >= 0
        positive, equal = positive & real, equal & real
        rows = order[edges[start] : edges[start + len(block)]]
        of = np.searchsorted(block, pairs[rows, 0])
        for name, mask in (("ranked", real), ("known positives", positive), ("equal texts", equal)):
            counts[name] += int(mask.sum(1)[of].sum())
        allowed = (real & ~positive & ~equal)[of]
        if rules.margin is not None or rules.relative_margin is not None:
            assert score_of is not None
            target = score_of(pairs[rows])[:, None]
            limit = np.full_like(target, np.inf)
            if rules.margin is not None:
                limit = np.minimum(limit, target - rules.margin)
            if rules.relative_margin is not None:
                limit = np.minimum(limit, target - np.abs(target) * rules.relative_margin)
            near = allowed & (values[of] > limit)
            counts["within the margin"] += int(near.sum())
            allowed &= ~near
            if dropped is not None:
                place, rank = np.nonzero(near)
                dropped("within the margin", rows[place], found[of][place, rank], values[of][place, rank])
        if guide is not None:
            near = allowed & guide(pairs[rows], np.maximum(found[of], 0))
            counts["guide"] += int(near.sum())
            allowed &= ~near
            if dropped is not None:
                place, rank = np.nonzero(near)
                dropped("guide", rows[place], found[of][place, rank], values[of][place, rank])
        if dropped is not None:
            place, rank = np.nonzero(equal[of])
            dropped("equal text", rows[place], found[of][place, rank], values[of][place, rank])
        chosen = _choose(allowed, rules, start)
        taken = np.take_along_axis(allowed, chosen, 1)
        width = chosen.shape[1]
        documents[rows, :width] = np.where(taken, np.take_along_axis(found[of], chosen, 1), -1)
        scores[rows, :width] = np.where(taken, np.take_along_axis(values[of], chosen, 1), np.nan)
    lacking = documents < 0
    counts["negatives"] = int((~lacking).sum())
    counts["pairs with fewer"] = int(lacking.any(1).sum())
    if fill and lacking.any():
        _fill(documents, pairs, known, np.random.default_rng([rules.seed, 1]), guide)
        counts["filled at random"] = int(lacking.sum())
    elif not counts["negatives"]:
        raise UserError("no negative is left: widen --rank_max or a margin, the guide's too, or give a larger corpus")
    return Mined(documents, scores, counts)


def _choose(allowed: np.ndarray, rules: MiningRules, block: int) -> np.ndarray:
    """Return which of the allowed places to take of each row, int64 [rows, negatives or fewer], those first."""
    width = min(rules.negatives, allowed.shape[1])
    if rules.sampling == "top":
        order = np.broadcast_to(np.arange(allowed.shape[1], dtype=np.float32), allowed.shape)
    else:
        order = np.random.default_rng([rules.seed, 0, block]).random(allowed.shape, np.float32)
    return np.argsort(np.where(allowed, order, np.inf), axis=1, kind="stable")[:, :width]


def _fill(documents: np.ndarray, pairs: np.ndarray, known: Known, rng: np.random.Generator,
          guide: Likely | None) -> None:
    """Put documents drawn at random where there is none, in place."""
    tries = 20 * documents.shape[1]
    for turn in range(2 * tries):
        rows, columns = np.nonzero(documents < 0)
        if not len(rows):
            return
        rows, first = np.unique(rows, return_index=True)  # one of each pair at a time
        drawn = rng.choice(known.filled, len(rows))
        positive, equal = known.marks(pairs[rows, 0], drawn[:, None])
        good = ~(positive | equal)[:, 0]
        if turn < tries:  # the same twice, or a likely positive, only where there is hardly another
            good &= ~(documents[rows] == drawn[:, None]).any(1)
            if guide is not None:
                good &= ~guide(pairs[rows], drawn[:, None])[:, 0]
        documents[rows[good], columns[first][good]] = drawn[good]
    raise UserError("a query has next to no document that is not a positive of it: the collection is too small")


def report(counts: dict[str, int]) -> str:
    """Return a line that tells what mining found and dropped."""
    dropped = sum(counts.get(name, 0) for name in ("known positives", "equal texts", "within the margin", "guide"))
    by_guide = f", {counts['guide']} by the guide" if "guide" in counts else ""
    equal = counted(counts["equal texts"], "text")
    text = (f"{counted(counts['pairs'], 'pair')}, {counted(counts['ranked'], 'ranked document')}: {dropped} dropped as "
            f"positives or likely so ({counted(counts['known positives'], 'known positive')}, {equal} equal to one, "
            f"{counts['within the margin']} within the margin{by_guide}); {counted(counts['negatives'], 'negative')} "
            "taken")
    if counts["pairs with fewer"]:
        text += f"; {counted(counts['pairs with fewer'], 'pair')} found fewer than wanted"
    if counts["filled at random"]:
        text += f", {counted(counts['filled at random'], 'negative')} drawn at random"
    return text
