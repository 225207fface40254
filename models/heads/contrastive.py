"""Contrastive losses over the distance of each labelled pair: of all pairs, or of the hard ones of a batch."""

from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from models.heads.labelled import LabelRange, PairHead, check_form, cosines


class Contrastive(PairHead):
    """Pairs that match are pulled together, the others pushed `margin` apart (Hadsell et al. 2006, CVPR).

    With d = 1 - cosine and y the label, 0 or 1, the mean over the pairs of
    document: y d + (1 - y) max(0, margin - d);
    sentence_transformers: (y d^2 + (1 - y) max(0, margin - d)^2) / 2, its ContrastiveLoss.
    """

    name = "contrastive"
    label_range = LabelRange(binary=True)

    def __init__(self, margin: float = 0.5, form: str = "document") -> None:
        super().__init__()
        self.margin, self.form = margin, check_form(form)

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; vectors, labels: see Head."""
        assert labels is not None
        distance = 1 - cosines(vectors)
        apart = F.relu(self.margin - distance)
        if self.form == "document":
            return (labels * distance + (1 - labels) * apart).mean()
        return (labels * distance**2 + (1 - labels) * apart**2).mean() / 2

    def settings(self) -> dict[str, Any]:
        """See Head."""
        return {"margin": self.margin, "form": self.form}


class OnlineContrastive(Contrastive):
    """The contrastive loss of a batch's hard pairs alone.

    document: the mean over the pairs of y max(0, d - t1) + (1 - y) max(0, t0 - d), where t1 and t0 are the mean
    distances of the batch's matching and other pairs, constants of the step: a gradient through t1 would only make the
    distances equal. The only pair of its kind is its own mean, and is counted as in the contrastive loss, with 0 for t1
    and the margin for t0.

    sentence_transformers: its OnlineContrastiveLoss, the sum of d^2 of matching pairs further apart than the nearest
    other pair, and of max(0, margin - d)^2 of other pairs nearer than the furthest matching one. Where a batch has no
    or one pair of a kind, the other kind's hard pairs are those beyond their own mean, as there; but of one pair of
    each kind, from which its form would learn nothing, each is measured by the other.
    """

    name = "online_contrastive"

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; vectors, labels: see Head."""
        assert labels is not None
        distance, alike = 1 - cosines(vectors), labels > 0.5
        fixed, other = distance.detach(), paddle.logical_not(alike)
        ones, zeros = alike.astype("float32"), other.astype("float32")
        mean_alike = (fixed * ones).sum() / ones.sum().clip(min=1.0)
        mean_other = (fixed * zeros).sum() / zeros.sum().clip(min=1.0)
        if self.form == "document":
            near = paddle.where(ones.sum() > 1, mean_alike, paddle.zeros_like(mean_alike))
            far = paddle.where(zeros.sum() > 1, mean_other, paddle.full_like(mean_other, self.margin))
            return (ones * F.relu(distance - near) + zeros * F.relu(far - distance)).mean()
        nearest = paddle.where(other, fixed, paddle.full_like(fixed, 1e9)).min()
        furthest = paddle.where(alike, fixed, paddle.full_like(fixed, -1e9)).max()
        two = paddle.logical_and(ones.sum() == 1, zeros.sum() == 1)
        near = paddle.where(paddle.logical_or(zeros.sum() > 1, two), nearest, mean_alike)
        far = paddle.where(paddle.logical_or(ones.sum() > 1, two), furthest, mean_other)
        pulled = ones * (fixed > near).astype("float32") * distance**2
        return (pulled + zeros * (fixed < far).astype("float32") * F.relu(self.margin - distance) ** 2).sum()
