"""In-batch negatives: every other pair's positive is a negative of the query."""

import math

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn


class InBatchNegative(nn.Layer):
    """Softmax cross-entropy over the batch's cosines, a margin taken off the positive's.

    The recipe's loss: CE(scale * (E_q E_t^T - margin * I), diagonal), mean over queries; the softmax of
    Henderson et al. 2017 (arXiv 1705.00652) with the additive margin of Yang et al. 2019 (arXiv 1902.08564).

    margin: taken off the positive's cosine. scale: the inverse of the temperature. symmetric: the mean of
    query-to-positive and positive-to-query. gap: where given, a negative whose cosine is above the positive's
    by more than `gap` is taken for an unlabelled positive and masked.
    """

    name = "in_batch_negative"

    def __init__(self, margin: float = 0.2, scale: float = 30.0, symmetric: bool = False,
                 gap: float | None = None) -> None:
        super().__init__()
        self.margin, self.scale, self.symmetric, self.gap = margin, scale, symmetric, gap

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar.

        vectors: of queries, positives and any columns of hard negatives, each float32 [samples, dimension],
        unit length. mask: bool [samples, samples * (columns - 1)], true at false negatives, which are left out.
        """
        query, candidates = vectors[0], paddle.concat(vectors[1:])
        samples = len(query)
        similarity = paddle.matmul(query, candidates, transpose_y=True)
        positive = paddle.eye(samples, len(candidates))
        if self.gap is not None:
            own = paddle.diagonal(similarity).unsqueeze(1).detach()
            suspect = paddle.logical_and(similarity.detach() > own + self.gap, positive == 0)
            mask = suspect if mask is None else paddle.logical_or(mask, suspect)
        logits = self.scale * (similarity - self.margin * positive)
        if mask is not None:
            logits = paddle.where(mask, paddle.full_like(logits, -1e9), logits)
        labels = paddle.arange(samples)
        loss = F.cross_entropy(logits, labels)
        if self.symmetric:
            loss = (loss + F.cross_entropy(logits[:, :samples].t(), labels)) / 2
        return loss

    def stuck(self, samples: int, columns: int) -> float:
        """Return the loss at which all vectors are one: ln(candidates) for margin 0, in nats."""
        return math.log1p((samples * (columns - 1) - 1) * math.exp(self.scale * self.margin))
