"""Principal axes of vectors, and encoders whose vectors are turned to them."""

from typing import Any

import numpy as np

from models.weights import Pretrained
from semindex.errors import UserError

BLOCK = 2**16  # vectors worked on at once


def principal_directions(vectors: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the basis on which vectors keep their inner products best, float32 [dimension, width], and the share of
    their squared length in the first 1, 2, ... of all its numbers, float64 [dimension].

    The first right singular vectors (Eckart and Young 1936), not centred: a mean taken off would change the products.
    Each has its largest number above 0, so that every machine finds the same.
    """
    moment = np.zeros([vectors.shape[1]] * 2)
    for start in range(0, len(vectors), BLOCK):
        block = np.asarray(vectors[start : start + BLOCK], np.float64)
        moment += block.T @ block
    values, directions = np.linalg.eigh(moment)
    basis = directions[:, ::-1][:, :width]
    basis = basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(width)])
    values = np.maximum(values[::-1], 0)
    return np.ascontiguousarray(basis, np.float32), np.cumsum(values) / max(values.sum(), 1e-30)


def turn(found: Pretrained, vectors: np.ndarray, width: int) -> np.ndarray:
    """Put the principal axes of an encoder's vectors behind its pooling, or into its linear layer; return the shares.

    vectors: of some texts, float32 [texts, dimension], as the encoder gives them now; of a linear layer whose output is
    cut to the dimension, the rest is dropped. width: numbers to keep of each vector, at most the dimension; all of them
    leave every cosine as it was. Raises UserError where the vectors have not so many numbers.
    """
    there = vectors.shape[1]
    if width > there:
        raise UserError(f"--output_emb_size {width}: the encoder's vectors have {there} numbers")
    basis, shares = principal_directions(vectors, width)
    layer: dict[str, Any] = {name: np.asarray(value, np.float32)[..., :there] @ basis
                             for name, value in found.projection.items()}
    found.projection = layer or {"weight": basis}
    found.settings |= {"output_emb_size": width, "projection_bias": "bias" in found.projection,
                       "principal_axes": True, "matryoshka_dims": [], "truncate_dim": 0}
    return shares
