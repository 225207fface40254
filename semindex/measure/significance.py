"""How sure a mean over queries is, and whether two systems differ on the same queries. No paddle here."""

from dataclasses import dataclass

import numpy as np

RESAMPLES, LEVEL = 10_000, 0.95


@dataclass
class Interval:
    """A mean and its bootstrap interval at LEVEL."""

    mean: float
    low: float
    high: float


@dataclass
class Difference(Interval):
    """The mean of paired differences; p: of the paired randomisation test, two-sided."""

    p: float


def interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Return the mean over queries with its percentile bootstrap interval (Efron 1979). values: [queries]."""
    from scipy.stats import bootstrap

    mean = float(values.mean())
    if len(values) < 2 or (values == values[0]).all():  # nothing to draw from
        return Interval(mean, mean, mean)
    found = bootstrap((values,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile",
                      batch=max(1, 10_000_000 // len(values)), rng=np.random.default_rng(seed)).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


def difference(values: np.ndarray, base: np.ndarray, seed: int = 0) -> Difference:
    """Compare two systems on the same queries: values - base, both [queries].

    p: of the paired randomisation test (Smucker et al. 2007, CIKM): how often as large a mean comes about when the
    signs of the differences are drawn at random.
    """
    from scipy.stats import permutation_test

    gaps = values - base
    found = interval(gaps, seed)
    if not gaps.any() or len(gaps) < 2:  # one query shows nothing, whichever way it goes
        return Difference(found.mean, found.low, found.high, 1.0)
    p = permutation_test((gaps,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True,
                         n_resamples=RESAMPLES, batch=max(1, 10_000_000 // len(gaps)),
                         rng=np.random.default_rng(seed)).pvalue
    return Difference(found.mean, found.low, found.high, float(p))
