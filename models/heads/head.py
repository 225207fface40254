"""What every loss over vectors offers to the training loop."""

from typing import Any

from paddle import Tensor, nn


class Head(nn.Layer):
    """A loss over vectors. It never sees a token; its own parameters are trained, saved and resumed with the encoder's.

    name: of the loss, kept in the checkpoint. uses_labels: whether samples must carry a number each.
    """

    name = ""
    uses_labels = False

    def forward(self, vectors: list[Tensor], mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar.

        vectors: of queries, positives and any further columns, each float32 [samples, dimension], unit length (of any
        length with --similarity dot). mask: bool [samples, samples * (columns - 1)], true at false negatives. labels:
        float32 [samples], for heads that use them.
        """
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Return what a resumed run must find equal: numbers, texts, truth values by name."""
        return {}

    def stuck(self, samples: int, columns: int) -> float | None:
        """Return the loss at which all vectors are one, for the warning; None where there is no such value."""
        return None
