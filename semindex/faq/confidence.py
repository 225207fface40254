"""How sure an answer is, and from which confidence on it is given: both from labelled questions. NumPy and SciPy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from semindex.errors import UserError
from semindex.faq.ranking import EntryRanking, scores_of
from semindex.fields import check_fields, list_of, real
from semindex.measure.choosing import folds
from semindex.search.fusion import Fused

FEATURES = ("score", "lead", "first")  # of each source
PENALTY, SMALLEST = 1.0, 1e-12  # smallest: a deviation that is told from none
STATES = ("answer", "suggest", "none")
NUMBERS = list_of(real(-1e30, 1e30))
FIELDS = {"mean": NUMBERS, "deviation": NUMBERS, "weights": NUMBERS, "bias": real(-1e30, 1e30),
          "answer": real(0, 1.0000001), "suggest": real(0, 1.0000001)}


def features(fused: Fused, sources: Mapping[str, EntryRanking]) -> np.ndarray:
    """Return what tells right first entries from wrong ones, float64 [queries, 3 * sources]: of each source the entry's
    score, its lead over the best other entry, and whether the source has it first."""
    first = fused.ids[:, 0] if fused.ids.shape[1] else np.full(len(fused.ids), -1, np.int64)
    columns = list[np.ndarray]()
    for ranking in sources.values():
        mine, others = scores_of(ranking, first)
        columns += [mine, mine - others, (mine > others).astype(np.float64)]
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Confidence:
    """A logistic regression of whether the first entry is right, and two thresholds on its probability.

    From `answer` on an answer is given, from `suggest` on questions are suggested, below there is none.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    answer: float = 1.0000001  # no probability reaches it
    suggest: float = 1.0000001

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return the probability that each first entry is right, float64 [queries]. rows: see features."""
        scaled = (rows - np.array(self.mean)) / np.array(self.deviation)
        return 1 / (1 + np.exp(-np.clip(scaled @ np.array(self.weights) + self.bias, -500, 500)))

    def states(self, probabilities: np.ndarray) -> list[str]:
        """Return the state of each query: answer, suggest or none."""
        return [STATES[0 if p >= self.answer else 1 if p >= self.suggest else 2] for p in probabilities.tolist()]

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, path: str, content: Any, count: int) -> "Confidence":
        """Read what as_json gave; UserError that names the field of the file that is wrong. count: of features."""
        about = check_fields(f"{path}: thresholds", content, FIELDS, advice="make it again with calibrate.py")
        lists = {name: tuple(about[name]) for name in ("mean", "deviation", "weights")}
        if any(len(value) != count for value in lists.values()) or min(lists["deviation"]) <= SMALLEST:
            raise UserError(f"{path}: thresholds: {count} numbers above {SMALLEST} were expected in deviation, and as "
                            "many in mean and weights; make it again with calibrate.py")
        if about["suggest"] > about["answer"]:
            raise UserError(f"{path}: thresholds: suggest {about['suggest']:g} is above answer {about['answer']:g}: "
                            "there would be answers and no suggestion; make it again with calibrate.py")
        return cls(**lists, bias=about["bias"], answer=about["answer"], suggest=about["suggest"])


def fit(rows: np.ndarray, right: np.ndarray) -> Confidence:
    """Fit the regression, weights with a penalty of PENALTY / 2 * w ** 2. rows: see features; right: bool [queries]."""
    from scipy.optimize import minimize

    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    deviation = np.where(deviation > SMALLEST, deviation, 1.0)
    scaled, signs = (rows - mean) / deviation, np.where(right, 1.0, -1.0)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (scaled @ at[:-1] + at[-1])
        slopes = -signs / (1 + np.exp(np.clip(margins, -500, 500)))
        value = np.logaddexp(0, -margins).sum() + PENALTY / 2 * (at[:-1] ** 2).sum()
        return value, np.append(scaled.T @ slopes + PENALTY * at[:-1], slopes.sum())

    size = rows.shape[1] + 1  # bounded: where all are right, the bias would go to infinity
    found = minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", bounds=[(-30, 30)] * size)
    return Confidence(tuple(mean.tolist()), tuple(deviation.tolist()), tuple(found.x[:-1].tolist()), float(found.x[-1]))


def cross_fitted(rows: np.ndarray, right: np.ndarray, seed: int) -> np.ndarray:
    """Return each query's probability by a regression that has not seen it, float64 [queries]."""
    found = np.zeros(len(rows))
    for part in folds(len(rows), seed):
        found[part] = fit(rows[~part], right[~part])(rows[part])
    return found


@dataclass
class Curve:
    """Precision against coverage. thresholds, descending; precision: share of right ones from there up; coverage: share
    of all questions there; each float64 [steps]."""

    thresholds: np.ndarray
    precision: np.ndarray
    coverage: np.ndarray


def curve(probabilities: np.ndarray, right: np.ndarray) -> Curve:
    """Return the curve over every probability that occurs."""
    order = np.argsort(-probabilities, kind="stable")
    ranked, hits = probabilities[order], np.cumsum(right[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal probabilities share a fate
    counts = np.flatnonzero(last) + 1
    return Curve(ranked[last], hits[last] / counts, counts / len(right))


def threshold(found: Curve, precision: float, questions: int) -> float:
    """Return the lowest threshold from which on the precision is at least the one wanted; above 1 where none is.

    questions: how many the curve is of. So few answers that one wrong one would break the precision show nothing: 95 %
    wants 20 of them.
    """
    enough = found.coverage * questions * (1 - precision) > 1 - 1e-9
    good = np.flatnonzero((found.precision >= precision) & enough) if precision < 1 else \
        np.flatnonzero(found.precision >= 1)
    return float(found.thresholds[good[-1]]) if len(good) else 1.0000001


def thresholds(probabilities: np.ndarray, right: np.ndarray, near: np.ndarray, precision: float,
               suggested: float) -> tuple[float, float]:
    """Return from which probability on to answer, and from which on to suggest.

    near: bool [queries], whether a right entry is among the suggestions; suggested: how probable that is to be, by a
    regression over the questions that are not answered.
    """
    answer = threshold(curve(probabilities, right), precision, len(right))
    rest = probabilities < answer
    if near[rest].all() or not near[rest].any():
        return answer, 0.0 if near[rest].all() else answer
    odds = _log_odds(probabilities[rest])
    found = fit(odds[:, None], near[rest])
    if found.weights[0] <= 0:  # what is surer holds the right entry no more often
        return answer, answer
    wanted = float(_log_odds(np.array([suggested]))[0])
    at = found.mean[0] + found.deviation[0] * (wanted - found.bias) / found.weights[0]
    return answer, min(answer, float(1 / (1 + np.exp(-np.clip(at, -500, 500)))))


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    inside = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return np.log(inside / (1 - inside))
