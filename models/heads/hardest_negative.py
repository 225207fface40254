"""Margin ranking against the hardest negatives of the batch, or a random one: pair-wise losses."""

from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from models.heads.head import Head
from models.heads.similarity import mean_over_rows, own_cells

NEGATIVES = ("hardest", "semi_hard", "random")


class HardestNegative(Head):
    """mean max(0, margin - s_positive + s_negative), s_positive from the diagonal, over the chosen negatives.

    The hinge of Hermans et al. 2017 (arXiv 1703.07737) on cosines. The published recipe took the row's maximum for
    the positive; where a negative beats the positive that is the same cell twice, and the gradient is zero just
    where it is needed.

    negatives: which texts of other pairs (and of a third column) a query is held against. hardest: the most
    similar `hardest` ones. semi_hard: of those less similar than the positive, the most similar; the least
    similar one where none is (Schroff et al. 2015, arXiv 1503.03832). random: one, any: the pair-wise baseline of
    the recipe. Batches are drawn at random, so the next text of the batch is one.
    """

    name = "hardest_negative"

    def __init__(self, margin: float = 0.2, negatives: str = "hardest", hardest: int = 1) -> None:
        super().__init__()
        if negatives not in NEGATIVES:
            raise ValueError(f"negatives {negatives!r}, expected one of {NEGATIVES}")
        self.margin, self.negatives, self.hardest = margin, negatives, hardest

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; a query whose every candidate is masked adds nothing.

        vectors: of queries, positives and any columns of hard negatives, each float32 [samples, dimension],
        unit length. mask: bool [samples, samples * (columns - 1)], true at false negatives, which are left out.
        """
        return mean_over_rows(self.loss_of_rows, vectors[0], paddle.concat(vectors[1:]), mask)

    def loss_of_rows(self, similarity: Tensor, place: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses and the number of comparisons, see similarity.RowLoss."""
        allowed = paddle.logical_not(own_cells(similarity, place))
        if mask is not None:
            allowed = paddle.logical_and(allowed, paddle.logical_not(mask))
        positive = paddle.take_along_axis(similarity, place, axis=1)
        chosen = self.choose(similarity.detach(), positive.detach(), allowed, place)
        negative = paddle.take_along_axis(similarity, chosen, axis=1)
        there = paddle.take_along_axis(allowed.astype("float32"), chosen, axis=1)
        return (F.relu(self.margin - positive + negative) * there).sum(), there.sum()

    def choose(self, similarity: Tensor, positive: Tensor, allowed: Tensor, place: Tensor) -> Tensor:
        """Return which candidates to rank each query's positive against, int64 [samples, k]."""
        never = paddle.full_like(similarity, -1e9)
        if self.negatives == "random":
            candidates = similarity.shape[1]
            ahead = paddle.arange(candidates).unsqueeze(0) - place - 1
            near = -(ahead % candidates).astype("float32")  # the next candidate that is allowed
            return paddle.where(allowed, near, never).argmax(axis=1, keepdim=True)
        if self.negatives == "semi_hard":
            below = paddle.logical_and(allowed, similarity < positive)
            # those above the positive rank behind, the least similar of them first
            order = paddle.where(below, similarity, -10.0 - similarity)
            return paddle.where(allowed, order, never).argmax(axis=1, keepdim=True)
        k = min(self.hardest, similarity.shape[1])
        return paddle.topk(paddle.where(allowed, similarity, never), k, axis=1)[1]

    def settings(self) -> dict[str, Any]:
        """See Head."""
        return {"margin": self.margin, "negatives": self.negatives, "hardest": self.hardest}

    def stuck(self, samples: int, columns: int) -> float:
        """Return the loss at which all vectors are one."""
        return self.margin
