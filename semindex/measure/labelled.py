"""How well cosines agree with labels: their correlation, and how well a threshold tells 1 from 0."""

from collections.abc import Sequence

import numpy as np

from semindex import runtime
from semindex.encode.pairs import pair_cosines
from semindex.encode.text_encoder import TextEncoder

THRESHOLD = "f1_threshold"  # the one that a checkpoint keeps


def correlations(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return {'spearman': rho, 'pearson': r}, from -100 to 100; of ties rho takes the mean rank. Both [pairs]."""
    from scipy.stats import pearsonr, spearmanr

    return {"spearman": round(100 * float(spearmanr(scores, labels).statistic), 3),
            "pearson": round(100 * float(pearsonr(scores, labels).statistic), 3)}


def at_threshold(scores: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, float]:
    """Return accuracy, F1, precision and recall in percent where scores from the threshold up stand for the label 1.

    scores: [pairs]; labels: 0 or 1, [pairs]. A precision of no pairs is 0.
    """
    said, true = np.asarray(scores, np.float64) >= threshold, labels > 0
    both = int((said & true).sum())
    found = {"accuracy": (said == true).mean(), "f1": 2 * both / max(1, said.sum() + true.sum()),
             "precision": both / max(1, said.sum()), "recall": both / max(1, true.sum())}
    return {name: round(100 * float(value), 3) for name, value in found.items()}


def binary_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return what the best thresholds reach, in percent, and which they are.

    scores: [pairs]; labels: 0 or 1, [pairs], both kinds. accuracy, accuracy_threshold: the best accuracy; f1,
    precision, recall, f1_threshold: of the best F1; average_precision: the sum over thresholds of precision times the
    recall gained, no threshold chosen. A threshold is the middle between two neighbouring scores, or the lowest score;
    for the accuracy also just above the highest one. Equal scores are never told apart. As sentence-transformers'
    BinaryClassificationEvaluator.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = np.asarray(scores, np.float64)[order]
    positive = labels[order] > 0
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last place of each score
    said, true = last + 1, np.cumsum(positive)[last]
    positives, total = int(positive.sum()), len(ranked)
    middles = np.append((ranked[last[:-1]] + ranked[last[:-1] + 1]) / 2, ranked[-1])
    precision, recall = true / said, true / max(1, positives)
    f1 = 2 * true / (said + positives)
    best = int(f1.argmax())
    correct = np.concatenate([[total - positives], 2 * true - said + total - positives])
    most = int(correct.argmax())
    cuts = np.concatenate([[np.nextafter(ranked[0], np.inf)], middles])
    shares = {"accuracy": correct[most] / total, "f1": f1[best], "precision": precision[best], "recall": recall[best],
              "average_precision": (precision * np.diff(recall, prepend=0)).sum()}
    return {name: round(100 * float(value), 3) for name, value in shares.items()} | {
        "accuracy_threshold": float(cuts[most]), THRESHOLD: float(middles[best])}


class CorrelationEvaluator:
    """Correlation of a dev file's cosines with its labels, for use during training. Every rank calls it."""

    metrics, main_metric = ["spearman", "pearson"], "spearman"

    def __init__(self, pairs: Sequence[Sequence[str]], labels: np.ndarray) -> None:
        self.pairs, self.labels = pairs, labels

    def __call__(self, encoder: TextEncoder) -> dict[str, float]:
        """Return {metric: value}, in percent; thresholds, which are cosines, are there too."""
        runtime.say("evaluating")
        cosines = pair_cosines(encoder, self.pairs)
        return runtime.on_rank_0(lambda: self._shown(cosines))

    def _shown(self, cosines: np.ndarray) -> dict[str, float]:
        found = self.measure(cosines)
        for name, value in found.items():
            runtime.say(f"{name}={value:.4f}" if name.endswith("threshold") else f"{name}={value}")
        return found

    def measure(self, cosines: np.ndarray) -> dict[str, float]:
        """Return the metrics of the pairs' cosines, [pairs]."""
        return correlations(cosines, self.labels)


class BinaryEvaluator(CorrelationEvaluator):
    """How well a threshold on the cosine tells pairs labelled 1 from those labelled 0; the correlations too."""

    metrics = ["average_precision", "accuracy", "f1", "precision", "recall", *CorrelationEvaluator.metrics]
    main_metric = "average_precision"

    def measure(self, cosines: np.ndarray) -> dict[str, float]:
        """See CorrelationEvaluator."""
        return binary_metrics(cosines, self.labels) | super().measure(cosines)
