"""Cosines of pairs of texts."""

from collections.abc import Sequence

import numpy as np

from semindex.encode.encoder import encode
from semindex.encode.text_encoder import TextEncoder


def pair_cosines(encoder: TextEncoder, pairs: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the cosine of the first two texts of each pair, float32 [pairs]; no rows off rank 0.

    A text is encoded once, however often it stands in the pairs. Every rank must call it with the same pairs.
    """
    places: dict[str, int] = {}
    rows = np.array([[places.setdefault(text, len(places)) for text in pair[:2]] for pair in pairs], np.int64)
    vectors = encode(encoder, list(places), "encode pairs")
    if not len(vectors):
        return np.empty(0, np.float32)
    return np.einsum("ij,ij->i", vectors[rows[:, 0]], vectors[rows[:, 1]])
