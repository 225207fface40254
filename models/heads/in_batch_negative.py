"""In-batch negatives: every other pair's positive is a negative of the query."""

from typing import Any

from paddle import Tensor

from models.heads.head import Head
from models.heads.similarity import softmax_of_equal_vectors, softmax_over_batch


class InBatchNegative(Head):
    """The recipe's loss: softmax cross-entropy over the batch's cosines, see similarity.softmax_over_batch.

    margin: taken off the positive's cosine. scale: the inverse of the temperature. symmetric: the mean of
    query-to-positive and positive-to-query. gap: where given, a negative whose cosine is above the positive's
    by more than `gap` is taken for an unlabelled positive and masked.
    """

    name = "in_batch_negative"

    def __init__(self, margin: float = 0.2, scale: float = 30.0, symmetric: bool = False,
                 gap: float | None = None) -> None:
        super().__init__()
        self.margin, self.scale, self.symmetric, self.gap = margin, scale, symmetric, gap

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar.

        vectors: of queries, positives and any columns of hard negatives, each float32 [samples, dimension],
        unit length. mask: bool [samples, samples * (columns - 1)], true at false negatives, which are left out.
        """
        return softmax_over_batch(vectors, self.margin, self.scale, mask, self.symmetric, self.gap)

    def settings(self) -> dict[str, Any]:
        """See Head."""
        return {"margin": self.margin, "scale": self.scale, "symmetric": self.symmetric, "gap": self.gap}

    def stuck(self, samples: int, columns: int) -> float:
        """Return the loss at which all vectors are one."""
        return softmax_of_equal_vectors(samples, columns, self.margin, self.scale)
