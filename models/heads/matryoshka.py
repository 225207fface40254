"""A loss at several widths at once: the first numbers of a vector serve as a shorter vector."""

from collections.abc import Sequence
from typing import Any

import paddle.nn.functional as F
from paddle import Tensor

from models.heads.head import Head


class Matryoshka(Head):
    """The mean of another head's losses over the first D numbers of each vector, for some D, and over all of them.

    Kusupati et al. 2022 (arXiv 2205.13147), each width with the same weight. A shorter vector is made a unit vector
    again, as at inference (EncoderSettings.truncate_dim). inner: a head of unit vectors whose parameters, if any, fit
    every width; name, labels, parameters (as `inner.*`) and settings are its own. dims: the widths below the whole
    one, which always counts. Raises ValueError for a width below 1 or twice the same.
    """

    def __init__(self, inner: Head, dims: Sequence[int]) -> None:
        super().__init__()
        if not dims or min(dims) < 1 or len(set(dims)) < len(dims):
            raise ValueError(f"dims {list(dims)}, expected different numbers from 1 up")
        self.inner, self.dims = inner, sorted(dims)
        self.name, self.uses_labels = inner.name, inner.uses_labels

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; vectors, mask, labels: see Head. Raises ValueError for vectors below a width."""
        whole = vectors[0].shape[1]
        if self.dims[-1] > whole:
            raise ValueError(f"dims {self.dims}: the vectors have {whole} numbers")
        more = {"labels": labels} if self.uses_labels else {}
        losses = [self.inner([F.normalize(column[:, :width], axis=1) for column in vectors], mask, **more)
                  for width in self.dims if width < whole]
        losses.append(self.inner(vectors, mask, **more))
        return sum(losses[1:], losses[0]) / len(losses)

    def settings(self) -> dict[str, Any]:
        """See Head."""
        return self.inner.settings() | {"matryoshka_dims": self.dims}

    def stuck(self, samples: int, columns: int) -> float | None:
        """Return the loss at which all vectors are one: it is the same at every width."""
        return self.inner.stuck(samples, columns)
