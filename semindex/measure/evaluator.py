"""What measures an encoder while it is trained: one protocol for all of them."""

from collections.abc import Sequence
from typing import Protocol

from semindex.encode.text_encoder import TextEncoder


class Evaluator(Protocol):
    """Called with the encoder on every process; returns its metrics, and the same ones on every process.

    metrics: the names it can give. main_metric: the one that chooses the best checkpoint; larger is better.
    """

    @property
    def metrics(self) -> Sequence[str]:
        """Names of the metrics."""

    @property
    def main_metric(self) -> str:
        """Name of the metric that chooses."""

    def __call__(self, encoder: TextEncoder) -> dict[str, float]:
        """Return {metric: value}, in percent."""
