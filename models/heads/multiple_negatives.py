"""Multiple negatives ranking over labelled pairs: matching pairs are ranked, texts of the others are candidates."""

from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from models.heads.labelled import LabelRange, PairHead
from models.heads.similarity import mean_over_rows


class MultipleNegatives(PairHead):
    """Softmax cross-entropy of each matching pair's second text among all second texts of the batch.

    Henderson et al. 2017 (arXiv 1705.00652); sentence-transformers' MultipleNegativesRankingLoss where all pairs match,
    which is similarity.softmax_over_batch with margin 0. A pair with a label above 0 matches. Of the others, whose
    texts are the hardest negatives the file has, the first text is not ranked, and the second is a candidate for every
    query. A batch without a matching pair has nothing to rank: its loss is 0, and so is its gradient. scale: the
    inverse of the temperature.
    """

    name = "multiple_negatives"
    label_range = LabelRange(0, 1)

    def __init__(self, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar.

        vectors, labels: see Head. mask: bool [samples, samples * (columns - 1)], true at false negatives, which are
        left out.
        """
        assert labels is not None
        return mean_over_rows(self.loss_of_rows, vectors[0], paddle.concat(vectors[1:]), mask,
                              (labels > 0).astype("float32"))

    def loss_of_rows(self, similarity: Tensor, place: Tensor, mask: Tensor | None,
                     matches: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses and the number of matching pairs, see similarity.RowLoss."""
        logits = self.scale * similarity
        if mask is not None:
            logits = paddle.where(mask, paddle.full([], -1e9, logits.dtype), logits)
        counts = paddle.gather(matches, place.squeeze(1))
        return (F.cross_entropy(logits, place.squeeze(1), reduction="none").reshape([-1]) * counts).sum(), counts.sum()

    def settings(self) -> dict[str, Any]:
        """See Head."""
        return {"scale": self.scale}
