"""What the heads share: cosines of a batch, a block of rows at a time, and the softmax over them."""

import math
from collections.abc import Callable

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor
from paddle.distributed.fleet.utils import recompute

# Cosines worked on at once: a batch of 4,096 has 16 million, and a loss keeps half a dozen arrays of that size.
CELLS = 2**21
# From cosines [rows, candidates], the column of each row's positive, int64 [rows, 1], a mask or None, and what else
# mean_over_rows was given, to the sum of the rows' losses and the number of rows, or of comparisons, that it sums.
RowLoss = Callable[..., tuple[Tensor, Tensor]]


def mean_over_rows(loss_of: RowLoss, query: Tensor, candidates: Tensor, mask: Tensor | None,
                   *more: Tensor | float) -> Tensor:
    """Return the mean loss of all rows; the loss of no rows is 0.

    query: [samples, dimension]; candidates: [samples or more, dimension], the first `samples` of them the queries'
    positives. mask: bool [samples, candidates]. Where the cosines of a whole batch would be many, blocks of rows are
    computed one after the other, and once more on the way back, so that only one block is ever kept. more: what
    loss_of reads that follows from parameters, such as a learned scale: from a closure it would get no gradient there.
    """
    def block(rows: Tensor, candidates: Tensor, place: Tensor, mask: Tensor | None,
              *more: Tensor | float) -> tuple[Tensor, Tensor]:
        return loss_of(paddle.matmul(rows, candidates, transpose_y=True), place, mask, *more)

    samples = len(query)
    step = max(1, CELLS // len(candidates))
    found = []
    for start in range(0, samples, step):
        stop = min(start + step, samples)
        parts = (query[start:stop], candidates, paddle.arange(start, stop).unsqueeze(1),
                 None if mask is None else mask[start:stop], *more)
        found.append(block(*parts) if step >= samples else recompute(block, *parts, preserve_rng_state=False))
    losses, counts = zip(*found)
    return sum(losses[1:], losses[0]) / sum(counts[1:], counts[0]).clip(min=1.0)


def own_cells(similarity: Tensor, place: Tensor) -> Tensor:
    """Return which cells are a row's own positive, bool like similarity."""
    return paddle.arange(similarity.shape[1]).unsqueeze(0) == place


def softmax_over_batch(vectors: list[Tensor], margin: float, scale: float | Tensor, mask: Tensor | None,
                       symmetric: bool = False, gap: float | None = None) -> Tensor:
    """Return the mean cross-entropy of each query's positive among all candidates.

    CE(scale * (E_q E_t^T - margin * I), diagonal): the softmax of Henderson et al. 2017 (arXiv 1705.00652) with
    the additive margin of Yang et al. 2019 (arXiv 1902.08564). vectors: of queries, positives and any columns of
    hard negatives, each float32 [samples, dimension], unit length. mask: bool [samples, samples * (columns - 1)],
    true at false negatives, which are left out. scale: a number, or a learned scalar. symmetric: the mean of
    query-to-positive and positive-to-query. gap: where given, a negative whose cosine is above the positive's by more
    than `gap` is masked too.
    """
    def loss_of(similarity: Tensor, place: Tensor, mask: Tensor | None,
                scale: float | Tensor) -> tuple[Tensor, Tensor]:
        if gap is not None:
            positive = paddle.take_along_axis(similarity, place, axis=1).detach()
            suspect = paddle.logical_and(similarity.detach() > positive + gap,
                                         paddle.logical_not(own_cells(similarity, place)))
            mask = suspect if mask is None else paddle.logical_or(mask, suspect)
        if margin:
            similarity = similarity - margin * own_cells(similarity, place).astype(similarity.dtype)
        logits = scale * similarity
        if mask is not None:
            logits = paddle.where(mask, paddle.full([], -1e9, logits.dtype), logits)
        rows = paddle.full([], float(len(logits)))
        return F.cross_entropy(logits, place.squeeze(1), reduction="sum"), rows

    query, positive = vectors[:2]
    loss = mean_over_rows(loss_of, query, paddle.concat(vectors[1:]), mask, scale)
    if symmetric:
        back = None if mask is None else mask[:, : len(query)].t()
        loss = (loss + mean_over_rows(loss_of, positive, query, back, scale)) / 2
    return loss


def softmax_of_equal_vectors(samples: int, columns: int, margin: float, scale: float) -> float:
    """Return softmax_over_batch's value where all vectors are one: ln(candidates) for margin 0, in nats."""
    others = samples * (columns - 1) - 1
    return float(np.logaddexp(0.0, math.log(others) + scale * margin)) if others else 0.0
