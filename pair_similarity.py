"""Cosines of pairs of texts, and how well they agree with labels."""

from collections.abc import Sequence

import numpy as np

import runtime
from deploy.python.serving.text_encoder import TextEncoder
from encoder import dynamic, encode
from models.semantic_index import SemanticIndex
from text_tokenizer import TextTokenizer


def pair_cosines(encoder: TextEncoder, pairs: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the cosine of the first two texts of each pair, float32 [pairs]; no rows off rank 0.

    A text is encoded once, however often it stands in the pairs. Every rank must call it with the same pairs.
    """
    places: dict[str, int] = {}
    rows = np.array([[places.setdefault(text, len(places)) for text in pair[:2]] for pair in pairs], np.int64)
    vectors = encode(encoder, list(places), "encode pairs")
    if not len(vectors):
        return np.empty(0, np.float32)
    return np.einsum("ij,ij->i", vectors[rows[:, 0]], vectors[rows[:, 1]])


class DevSpearman:
    """Rank correlation of a dev file's cosines with its labels, for use during training. Every rank calls it."""

    metrics, main_metric = ["spearman"], "spearman"

    def __init__(self, pairs: Sequence[Sequence[str]], labels: np.ndarray, tokenizer: TextTokenizer) -> None:
        self.pairs, self.labels, self.tokenizer = pairs, labels, tokenizer

    def __call__(self, model: SemanticIndex) -> dict[str, float]:
        """Return {'spearman': Spearman's rho, from -100 to 100}; ties get their mean rank."""
        runtime.say("evaluating")
        cosines = pair_cosines(dynamic(model, self.tokenizer), self.pairs)
        return runtime.on_rank_0(lambda: self._measure(cosines))

    def _measure(self, cosines: np.ndarray) -> dict[str, float]:
        from scipy.stats import spearmanr

        rho = round(100 * float(spearmanr(cosines, self.labels).statistic), 3)
        runtime.say(f"spearman={rho}")
        return {"spearman": rho}
