"""Vectors of which the first numbers alone are kept."""

from collections.abc import Sequence

import numpy as np

from semindex.errors import UserError
from semindex.runtime import warn


def choose(truncate_dim: int, width: int, trained: Sequence[int], similarity: str = "cosine",
           principal_axes: bool = False) -> int:
    """Return how many numbers of a vector to keep, 0 for all; warn of a width that the encoder was not trained for.

    truncate_dim: what is asked for, 0 for all; width: of the whole vectors; trained: EncoderSettings.matryoshka_dims;
    principal_axes: the first numbers hold most, whatever the width: nothing to warn of.
    Raises UserError for more numbers than there are, and for vectors of another length than one.
    """
    if truncate_dim > width:
        raise UserError(f"--truncate_dim {truncate_dim}: the encoder's vectors have {width} numbers")
    if truncate_dim and similarity == "dot":
        raise UserError("--truncate_dim: vectors for inner products cannot be cut; leave it out")
    if truncate_dim in (0, width):
        return 0
    if truncate_dim not in trained and not principal_axes:
        widths = ", ".join(map(str, [*(dim for dim in trained if dim < width), width]))
        warn(f"--truncate_dim {truncate_dim}: the encoder was trained for {widths} (--matryoshka_dims in training); "
             "the first numbers of its vectors may serve worse at another width; import_weights.py --pca_texts puts "
             "what matters most into them")
    return truncate_dim


def truncate(vectors: np.ndarray, width: int) -> np.ndarray:
    """Return the first `width` numbers of each vector as a unit vector, float32 [vectors, width]."""
    cut = vectors[:, :width]
    return cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), np.float32(1e-12))
