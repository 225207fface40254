"""Which method of recall serves best on labelled queries: a fusion only where a paired test says so. NumPy, SciPy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from semindex.measure.significance import Difference, difference
from semindex.search.fusion import Fusion
from semindex.search.methods import DEPTH, SOURCES, Method

FOLDS, LEVEL = 5, 0.05
WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the keyword source


def candidates(depth: int = DEPTH) -> list[Method]:
    """Return the fusions that are tried: each kind, with the keyword source's weight from 0.05 to 0.9."""
    return [Method("hybrid", Fusion(kind, weights=(round(1 - weight, 2), weight)), depth)
            for kind in ("rrf", "minmax", "zscore") for weight in WEIGHTS]


def folds(count: int, seed: int) -> list[np.ndarray]:
    """Return FOLDS parts of so many queries, drawn at random, bool [count] each; fewer of fewer queries."""
    parts = max(1, min(FOLDS, count))
    place = np.random.default_rng(seed).permutation(count) % parts
    return [place == number for number in range(parts)]


@dataclass
class Choice:
    """What was chosen. means: of each method; part: the better of the two sources; gain: of the fusion over it."""

    method: Method
    means: dict[str, float]
    part: str
    gain: Difference


def choose(values: Callable[[Method], np.ndarray], seed: int, depth: int = DEPTH) -> Choice:
    """Return the method to take. values: from a method to its metric of each query, float64 [queries], more is better.

    The gain of fusing is measured on queries that had no part in choosing how (cross-fitted over FOLDS parts), against
    the better of the two sources, by a paired randomisation test; below LEVEL the fusion that is best over all queries
    is taken, else the source.
    """
    alone = {name: values(Method(name)) for name in SOURCES}
    part = max(SOURCES, key=lambda name: alone[name].mean())
    methods = candidates(depth)
    table = np.stack([values(method) for method in methods])  # [methods, queries]
    fused = np.empty(table.shape[1])
    for fold in folds(table.shape[1], seed):
        known = ~fold if len(fold) > 1 and not fold.all() else fold
        fused[fold] = table[table[:, known].mean(axis=1).argmax()][fold]
    gain = difference(fused, alone[part], seed)
    best = methods[int(table.mean(axis=1).argmax())]
    chosen = best if gain.mean > 0 and gain.p < LEVEL else Method(part, depth=depth)
    means = {name: float(row.mean()) for name, row in alone.items()} | {"hybrid": float(fused.mean())}
    return Choice(chosen, means, part, gain)
