"""SimCSE: a text under two dropout masks is its own positive; or pairs and triples with the same loss."""

from typing import Any

from paddle import Tensor

from models.heads.head import Head
from models.heads.similarity import softmax_of_equal_vectors, softmax_over_batch


class SimCSE(Head):
    """Contrastive loss of Gao et al. 2021 (arXiv 2104.08821) over two views of a text, or labelled pairs and triples.

    Unsupervised, the two columns are one text encoded twice (data.TrainingSet does that), and dropout alone tells
    them apart; supervised, they are a text and what it entails, with contradictions as a third column.
    margin: taken off the positive's cosine, the recipe's is 0. scale: the inverse of the temperature, 20 is 0.05.
    """

    name = "simcse"

    def __init__(self, margin: float = 0.0, scale: float = 20.0) -> None:
        super().__init__()
        self.margin, self.scale = margin, scale

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar.

        vectors: of first views, second views and any contradictions, each float32 [samples, dimension], unit length.
        mask: bool [samples, samples * (columns - 1)], true where two samples are the same text.
        """
        return softmax_over_batch(vectors, self.margin, self.scale, mask)

    def settings(self) -> dict[str, Any]:
        """See Head."""
        return {"margin": self.margin, "scale": self.scale}

    def stuck(self, samples: int, columns: int) -> float:
        """Return the loss at which all vectors are one."""
        return softmax_of_equal_vectors(samples, columns, self.margin, self.scale)
