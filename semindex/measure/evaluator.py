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
        """Return {metric: value}, in percent; what is not among the metrics, such as a threshold, is logged alone."""


class SequentialEvaluator:
    """Several evaluators, one after the other; the first one's main metric chooses.

    Raises ValueError where two of them give a metric of one name.
    """

    def __init__(self, evaluators: Sequence[Evaluator]) -> None:
        self.evaluators = list(evaluators)
        self.metrics = [name for evaluator in evaluators for name in evaluator.metrics]
        twice = {name for name in self.metrics if self.metrics.count(name) > 1}
        if twice:
            raise ValueError(f"the evaluators give {', '.join(sorted(twice))} twice")
        self.main_metric = evaluators[0].main_metric

    def __call__(self, encoder: TextEncoder) -> dict[str, float]:
        """Return what all of them give."""
        return {name: value for evaluator in self.evaluators for name, value in evaluator(encoder).items()}
