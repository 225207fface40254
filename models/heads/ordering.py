"""Losses over pairs of pairs: what is labelled more alike shall have the larger cosine."""

from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from models.heads.labelled import LabelRange, PairHead, cosines


class PairwiseHinge(PairHead):
    """1/M sum_i sum_{j != i} max(0, margin - (y_i - y_j)(p_i - p_j)) over the M pairs' cosines p and labels y.

    Pairs with equal labels add the constant `margin` and no gradient. skip_equal: leave them out; the loss is smaller
    then, the gradient the same.
    """

    name = "hinge"
    label_range = LabelRange(0, 1)

    def __init__(self, margin: float = 0.5, skip_equal: bool = False) -> None:
        super().__init__()
        self.margin, self.skip_equal = margin, skip_equal

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; vectors, labels: see Head."""
        assert labels is not None
        p, apart = cosines(vectors), labels.unsqueeze(1) - labels.unsqueeze(0)
        terms = F.relu(self.margin - apart * (p.unsqueeze(1) - p.unsqueeze(0)))
        counted = apart != 0 if self.skip_equal else paddle.eye(len(p)) == 0
        return (terms * counted.astype(terms.dtype)).sum() / len(p)

    def settings(self) -> dict[str, Any]:
        """See Head."""
        return {"margin": self.margin, "skip_equal": self.skip_equal}


class CoSent(PairHead):
    """log(1 + sum exp(scale * (p_j - p_i))) over pairs with y_i > y_j, p the cosines, y the labels.

    Su 2022 (kexue.fm/archives/8847), sentence-transformers' CoSENTLoss. The order of the labels counts alone, so they
    may be any finite numbers; where all of a batch are equal the loss is 0.
    """

    name = "cosent"

    def __init__(self, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; vectors, labels: see Head."""
        assert labels is not None
        p = self.scale * cosines(vectors)
        ordered = labels.unsqueeze(1) > labels.unsqueeze(0)
        gaps = p.unsqueeze(0) - p.unsqueeze(1)
        logits = paddle.where(ordered, gaps, paddle.full([], -1e9, gaps.dtype)).reshape([-1])
        return paddle.logsumexp(paddle.concat([paddle.zeros([1], logits.dtype), logits]))

    def settings(self) -> dict[str, Any]:
        """See Head."""
        return {"scale": self.scale}
