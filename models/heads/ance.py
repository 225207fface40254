"""ANCE: the softmax of a query's positive among negatives that a search with the newest encoder found."""

import math
from functools import partial
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from models.heads.head import Head
from models.heads.similarity import mean_over_rows


class Ance(Head):
    """Negative log likelihood of Xiong et al. 2020 (arXiv 2007.00808), -log softmax([q.p, q.n1, ...])_0, nats.

    scale: the inverse of the temperature; 1, the paper's, for dot products, 20 or so for cosines. in_batch: whether
    the texts of other samples are candidates too; where there are no negatives they always are. chunks: passages a
    document; the best one counts (MaxP).
    """

    name = "ance"

    def __init__(self, scale: float = 20.0, in_batch: bool = False, chunks: int = 1) -> None:
        super().__init__()
        self.scale, self.in_batch, self.chunks = scale, in_batch, chunks

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar.

        vectors: of queries, of the positives' passages and of each negative's passages, a column each, float32
        [samples, dimension]; of a document with fewer passages one stands again. mask: bool
        [samples, samples * (columns - 1)], true at false negatives, which are left out.
        """
        query, passages = vectors[0], vectors[1:]
        samples, texts = len(query), len(passages) // self.chunks
        if self.in_batch or texts == 1:
            return mean_over_rows(partial(self.loss_of_rows, samples), query, paddle.concat(passages), mask)
        stacked = paddle.stack(passages, axis=1)  # [samples, texts * chunks, dimension]
        logits = self.scale * paddle.matmul(stacked, query.unsqueeze(2)).squeeze(2)
        if mask is not None:
            rows = paddle.arange(samples).unsqueeze(1)
            own = paddle.arange(texts * self.chunks).unsqueeze(0) * samples + rows
            false = paddle.take_along_axis(mask.astype("int32"), own, axis=1).astype("bool")
            false[:, : self.chunks] = False
            logits = paddle.where(false, paddle.full([], -1e9, logits.dtype), logits)
        logits = logits.reshape([samples, texts, self.chunks]).max(axis=2)
        return F.cross_entropy(logits, paddle.zeros([samples], "int64"))

    def loss_of_rows(self, samples: int, similarity: Tensor, place: Tensor,
                     mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses and the number of queries, see similarity.RowLoss; all texts are candidates."""
        rows = len(similarity)
        texts = [rows, -1, self.chunks, samples]
        logits = (self.scale * similarity).reshape(texts).max(axis=2).reshape([rows, -1])
        if mask is not None:
            own = paddle.arange(logits.shape[1]).unsqueeze(0) == place
            false = paddle.logical_and(mask.reshape(texts).any(axis=2).reshape([rows, -1]), paddle.logical_not(own))
            logits = paddle.where(false, paddle.full([], -1e9, logits.dtype), logits)
        return F.cross_entropy(logits, place.squeeze(1), reduction="sum"), paddle.full([], float(rows))

    def settings(self) -> dict[str, Any]:
        """See Head."""
        return {"scale": self.scale, "in_batch": self.in_batch, "chunks": self.chunks}

    def stuck(self, samples: int, columns: int) -> float:
        """Return the loss at which all vectors are one."""
        texts = (columns - 1) // self.chunks
        return math.log(texts * samples if self.in_batch or texts == 1 else texts)
