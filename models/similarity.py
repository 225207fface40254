"""What the heads share: cosines of a batch, and the softmax over them."""

import math

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor


def cosines(vectors: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return cosines of queries with all candidates, and which are a query's own positive.

    vectors: of queries, positives and any columns of hard negatives, each float32 [samples, dimension], unit
    length. Both results are [samples, samples * (columns - 1)], the second one 0 and 1; the positives come first.
    """
    query, candidates = vectors[0], paddle.concat(vectors[1:])
    return paddle.matmul(query, candidates, transpose_y=True), paddle.eye(len(query), len(candidates))


def softmax_over_batch(vectors: list[Tensor], margin: float, scale: float, mask: Tensor | None,
                       symmetric: bool = False, gap: float | None = None) -> Tensor:
    """Return the mean cross-entropy of each query's positive among all candidates.

    CE(scale * (E_q E_t^T - margin * I), diagonal): the softmax of Henderson et al. 2017 (arXiv 1705.00652) with
    the additive margin of Yang et al. 2019 (arXiv 1902.08564). vectors: see cosines. mask: bool, true at false
    negatives, which are left out. symmetric: the mean of query-to-positive and positive-to-query. gap: where given,
    a negative whose cosine is above the positive's by more than `gap` is masked too.
    """
    similarity, positive = cosines(vectors)
    samples = len(similarity)
    loss = _softmax_of_rows(similarity, positive, mask, margin, scale, gap)
    if symmetric:
        back = None if mask is None else mask[:, :samples].t()
        square = positive[:, :samples]
        loss = (loss + _softmax_of_rows(similarity[:, :samples].t(), square, back, margin, scale, gap)) / 2
    return loss


def _softmax_of_rows(similarity: Tensor, positive: Tensor, mask: Tensor | None, margin: float, scale: float,
                     gap: float | None) -> Tensor:
    """Return the mean cross-entropy of the diagonal within each row."""
    if gap is not None:
        own = paddle.diagonal(similarity).unsqueeze(1).detach()
        suspect = paddle.logical_and(similarity.detach() > own + gap, positive == 0)
        mask = suspect if mask is None else paddle.logical_or(mask, suspect)
    logits = scale * (similarity - margin * positive)
    if mask is not None:
        logits = paddle.where(mask, paddle.full_like(logits, -1e9), logits)
    return F.cross_entropy(logits, paddle.arange(len(logits)))


def softmax_of_equal_vectors(samples: int, columns: int, margin: float, scale: float) -> float:
    """Return softmax_over_batch's value where all vectors are one: ln(candidates) for margin 0, in nats."""
    others = samples * (columns - 1) - 1
    return float(np.logaddexp(0.0, math.log(others) + scale * margin)) if others else 0.0
