"""Distillation: a student's vectors, or the scores between them, as a teacher's are."""

from collections.abc import Sequence
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from models.heads.head import Head

LOSSES = ("mse", "cosine", "kl", "margin_mse")


class Distill(Head):
    """The weighted sum of one or several of LOSSES; a sample's labels are the teacher's vectors of its texts.

    mse: the squared distance of student's and teacher's vector, mean over texts. cosine: 1 - their cosine. Both look at
    one text at a time (Reimers and Gurevych 2020, arXiv 2004.09813).
    kl: KL(teacher || student) of the softmax over the candidates' scores at a temperature, mean over queries, nats
    (Hinton et al. 2015, arXiv 1503.02531); candidates are the texts of the batch's other columns, of samples of one
    text the other samples.
    margin_mse: the squared difference of the two margins s(q, p) - s(q, n), mean over negatives: those of the sample,
    or, of pairs, the other pairs' positives (Hofstätter et al. 2020, arXiv 2010.02666).

    weights: of each loss, 1 where left out. A student's vectors may have fewer numbers than the teacher's: mse and
    cosine then look at the first ones, of unit vectors made unit vectors again. unit: whether vectors are.
    Raises ValueError for names that are none, twice the same, or weights that do not fit.
    """

    name, uses_labels = "distill", True

    def __init__(self, losses: Sequence[str] = ("mse",), temperature: float = 0.05,
                 weights: Sequence[float] | None = None, unit: bool = True) -> None:
        super().__init__()
        if not losses or set(losses) - set(LOSSES) or len(set(losses)) < len(losses):
            raise ValueError(f"losses {list(losses)}, expected different ones of {', '.join(LOSSES)}")
        if weights is not None and len(weights) != len(losses):
            raise ValueError(f"{len(weights)} weights for {len(losses)} losses")
        self.losses, self.temperature, self.unit = tuple(losses), temperature, unit
        self.weights = [1.0] * len(losses) if weights is None else list(weights)

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar.

        vectors: see Head. labels: the teacher's vectors, float32 [samples, columns, teacher's width]. Raises ValueError
        for margin_mse of samples of one text. The mask is not read: the teacher says what is close.
        """
        assert labels is not None
        student, found = paddle.stack(vectors, axis=1), dict[str, Tensor]()
        if {"mse", "cosine"} & set(self.losses):
            target = labels[:, :, : student.shape[2]]
            if self.unit and student.shape[2] < labels.shape[2]:
                target = F.normalize(target, axis=2)
            found["mse"] = (student - target).square().sum(axis=2).mean()
            found["cosine"] = (1 - F.cosine_similarity(student, target, axis=2)).mean()
        if {"kl", "margin_mse"} & set(self.losses):
            found |= self._of_scores(student, labels)
        terms = [weight * found[loss] for loss, weight in zip(self.losses, self.weights)]
        return sum(terms[1:], terms[0])

    def _of_scores(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Return the losses over scores. student, teacher: [samples, columns, width]."""
        samples, columns = student.shape[:2]
        found = {}
        if "kl" in self.losses:
            own, wanted = (_scores(side) / self.temperature for side in (student, teacher))
            if columns == 1:  # a text's score with itself says nothing
                own, wanted = (side - 1e9 * paddle.eye(samples) for side in (own, wanted))
            log_wanted = F.log_softmax(wanted, axis=1)
            found["kl"] = (log_wanted.exp() * (log_wanted - F.log_softmax(own, axis=1))).sum(axis=1).mean()
        if "margin_mse" in self.losses:
            if columns == 1:
                raise ValueError("margin_mse needs a query, its positive and negatives, not texts alone")
            margins = [_margins(side) for side in (student, teacher)]
            square = (margins[0] - margins[1]).square()
            # Of pairs the diagonal is the positive less itself, 0 on both sides.
            found["margin_mse"] = square.sum() / max(1, square.size - (samples if columns == 2 else 0))
        return found

    def settings(self) -> dict[str, Any]:
        """See Head."""
        return {"losses": list(self.losses), "temperature": self.temperature, "loss_weights": self.weights}


def _scores(vectors: Tensor) -> Tensor:
    """Return the inner products of queries with their candidates, [samples, candidates], column after column."""
    query, rest = vectors[:, 0], vectors[:, 1:] if vectors.shape[1] > 1 else vectors
    return paddle.matmul(query, rest.transpose([1, 0, 2]).reshape([-1, rest.shape[2]]), transpose_y=True)


def _margins(vectors: Tensor) -> Tensor:
    """Return s(q, p) - s(q, n): [samples, negatives] of the sample's own; of pairs [samples, samples]."""
    query, positive = vectors[:, 0], vectors[:, 1]
    own = (query * positive).sum(axis=1, keepdim=True)
    if vectors.shape[1] == 2:
        return own - paddle.matmul(query, positive, transpose_y=True)
    return own - paddle.matmul(vectors[:, 2:], query.unsqueeze(2)).squeeze(2)
