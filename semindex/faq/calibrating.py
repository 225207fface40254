"""A FAQ's method, temperature and thresholds, from questions whose entries are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from semindex.errors import UserError
from semindex.faq.confidence import Curve, cross_fitted, curve, features, fit, thresholds
from semindex.faq.directory import Found
from semindex.measure.choosing import choose
from semindex.runtime import warn
from semindex.search.fusion import Ranking
from semindex.search.methods import DEPTH, Calibration, Method
from semindex.text.counted import counted

TEMPERATURES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12)
AMONG, NEAR = 10, 3  # of MRR; suggestions that are shown


class Searchable(Protocol):
    """What is calibrated: a Faq, or entries that come and go in a service."""

    def rankings(self, queries: Sequence[str], vectors: np.ndarray, depth: int) -> dict[str, Ranking]:
        """Return the questions that each source finds; see Faq.rankings."""

    def join(self, queries: Sequence[str], found: Mapping[str, Ranking], method: Method, k: int,
             temperature: float = 0.0) -> Found:
        """Return the k best entries of questions that were found; see Faq.join."""


@dataclass
class Calibrated:
    """The calibration, and the curve that its threshold was read from."""

    calibration: Calibration
    curve: Curve


def reciprocal(entries: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return 1 / rank of each wanted entry among the first AMONG, 0 behind, float64 [queries]."""
    hits = entries[:, :AMONG] == wanted[:, None]
    return np.where(hits.any(axis=1), 1 / (1 + hits.argmax(axis=1)), 0.0)


def judged(entries: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whether the first entry is the wanted one, and whether one of the first NEAR is, both bool [queries].

    entries: int64 [queries, depth], -1 where fewer were found; wanted: -1 of a question without an entry, never found.
    """
    found = (entries == wanted[:, None]) & (entries >= 0)
    return found[:, 0], found[:, :NEAR].any(axis=1)


def calibrate(faq: Searchable, encoder: str, corpus: str, questions: Sequence[str], vectors: np.ndarray,
              wanted: Sequence[int], precision: float, suggested: float, seed: int,
              method: Method | None = None) -> Calibrated:
    """Choose how to rank entries and when to answer.

    encoder, corpus: fingerprints that the calibration is tied to.
    vectors: of the questions, float32 [questions, dimension]; wanted: the entry of each, -1 where there is none.
    precision: wanted of answers; suggested: share of suggestions that are to hold the right entry; method: what is
    taken without a choice. Probabilities behind the thresholds come from regressions that have not seen the question.
    Raises UserError where fewer than 20 questions have an entry.
    """
    right = np.array(wanted, np.int64)
    known = right >= 0
    if known.sum() < 20:
        raise UserError(f"{known.sum()} questions with an answer: too few to calibrate on, at least 20 are needed")
    found = faq.rankings(questions, vectors, DEPTH)

    def values(method: Method, temperature: float) -> np.ndarray:
        return reciprocal(faq.join(questions, found, method, AMONG, temperature).fused.ids, right)[known]

    temperature = max(TEMPERATURES, key=lambda t: values(Method("dense"), t).mean())
    choice = choose(lambda method: values(method, temperature), seed)
    taken = method or choice.method
    result = faq.join(questions, found, taken, AMONG, temperature)
    ids = result.fused.ids
    hits, near = judged(ids, right)
    rows = features(result.fused, result.sources)
    sure = cross_fitted(rows, hits, seed)
    answer, suggest = thresholds(sure, hits, near, precision, suggested)
    fitted = fit(rows, hits)
    about = fitted.as_json() | {"answer": answer, "suggest": suggest}
    answered = (sure >= answer) | (result.exact >= 0)  # as a question that reads as one of the FAQ's is
    measured: dict[str, Any] = {
        "questions": len(right), "with an answer": int(known.sum()), "wanted precision": precision,
        "answer@1": _share(hits[known]), f"mrr@{AMONG}": _share(reciprocal(ids, right)[known]),
        "precision": _share(hits[answered]), "coverage": _share(answered),
        "coverage of questions with an answer": _share(answered[known]),
        "answered without an answer": _share(answered[~known]),
        f"mrr@{AMONG} of each method": {name: round(mean, 4) for name, mean in choice.means.items()},
        "gain of hybrid": round(choice.gain.mean, 4), "p": round(choice.gain.p, 4),
    }
    if known.all():
        warn("no question without an answer is among them: nobody knows how often such questions will be answered")
    if count := int((result.exact >= 0).sum()):
        warn(f"{counted(count, 'question')} of {len(right)} read as one of the FAQ's: they are found too easily to "
             "tell how sure others are; hold them out of the FAQ (split_faq.py does)")
    calibration = Calibration(taken, encoder, corpus, measured, temperature, about)
    return Calibrated(calibration, curve(sure, hits))


def _share(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None
