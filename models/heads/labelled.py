"""What losses over labelled pairs share: the cosine of each pair, and which labels they read."""

from dataclasses import dataclass

import numpy as np
from paddle import Tensor

from models.heads.head import Head

FORMS = ("document", "sentence_transformers")


@dataclass(frozen=True)
class LabelRange:
    """Which labels a loss reads: the numbers from low to high, or, with binary, 0 and 1 alone."""

    low: float = -np.inf
    high: float = np.inf
    binary: bool = False

    def fits(self, labels: np.ndarray) -> np.ndarray:
        """Tell of each label whether it is one of these, bool like labels."""
        with np.errstate(over="ignore"):
            fits = np.isfinite(np.asarray(labels, np.float32)) & (labels >= self.low) & (labels <= self.high)
        return fits & np.isin(labels, (0, 1)) if self.binary else fits

    def __str__(self) -> str:
        if self.binary:
            return "0 or 1"
        return "a finite number" if np.isinf(self.low) else f"a number from {self.low:g} to {self.high:g}"


class PairHead(Head):
    """A loss over the cosines of pairs, each with a number that says how alike its texts are.

    label_range: the labels it reads.
    """

    uses_labels = True
    label_range = LabelRange()


def cosines(vectors: list[Tensor]) -> Tensor:
    """Return the cosine of each pair, [samples]. vectors: of first and second texts, unit length."""
    return (vectors[0] * vectors[1]).sum(axis=1)


def check_form(form: str) -> str:
    """Return the form; ValueError where there is no such one."""
    if form not in FORMS:
        raise ValueError(f"form {form!r}, expected one of {FORMS}")
    return form
