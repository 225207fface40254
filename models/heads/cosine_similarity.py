"""The squared error of cosines: regression on graded labels."""

from paddle import Tensor

from models.heads.labelled import LabelRange, PairHead, cosines


class CosineSimilarity(PairHead):
    """mean (cosine - label)^2, sentence-transformers' CosineSimilarityLoss; labels are cosines, from -1 to 1."""

    name = "cosine"
    label_range = LabelRange(-1, 1)

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; vectors, labels: see Head."""
        assert labels is not None
        return ((cosines(vectors) - labels) ** 2).mean()
