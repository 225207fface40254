"""How well cosines agree with labels."""

from collections.abc import Sequence

import numpy as np

from semindex import runtime
from semindex.encode.pairs import pair_cosines
from semindex.encode.text_encoder import TextEncoder


class SpearmanEvaluator:
    """Rank correlation of a dev file's cosines with its labels, for use during training. Every rank calls it."""

    metrics, main_metric = ["spearman"], "spearman"

    def __init__(self, pairs: Sequence[Sequence[str]], labels: np.ndarray) -> None:
        self.pairs, self.labels = pairs, labels

    def __call__(self, encoder: TextEncoder) -> dict[str, float]:
        """Return {'spearman': Spearman's rho, from -100 to 100}; ties get their mean rank."""
        runtime.say("evaluating")
        cosines = pair_cosines(encoder, self.pairs)
        return runtime.on_rank_0(lambda: self._measure(cosines))

    def _measure(self, cosines: np.ndarray) -> dict[str, float]:
        from scipy.stats import spearmanr

        rho = round(100 * float(spearmanr(cosines, self.labels).statistic), 3)
        runtime.say(f"spearman={rho}")
        return {"spearman": rho}
