"""Cosines of pairs of texts."""

from collections.abc import Callable, Sequence

import numpy as np

from semindex.encode.encoder import encode
from semindex.encode.text_encoder import TextEncoder

DOT = ("this encoder was trained for inner products of vectors of any length; what is printed are cosines, from -1 to "
       "1, which leave the lengths out")


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of left with that of right, float32 [rows], within -1 and 1 whatever rounding does.

    The rows need not be unit vectors. A row of zeros has the cosine 0 with all.
    """
    products = np.einsum("ij,ij->i", left, right)
    lengths = np.sqrt(np.einsum("ij,ij->i", left, left) * np.einsum("ij,ij->i", right, right))
    return np.clip(products / np.maximum(lengths, np.float32(1e-30)), -1, 1)


def pair_cosines(encoder: TextEncoder, pairs: Sequence[Sequence[str]],
                 run: Callable[[list[str]], np.ndarray] | None = None) -> np.ndarray:
    """Return the cosine of the first two texts of each pair, float32 [pairs]; no rows off rank 0.

    A text is encoded once, however often it stands in the pairs. run: from texts to vectors; where left out, the
    processes share the work, and every one must call it with the same pairs.
    """
    places: dict[str, int] = {}
    rows = np.array([[places.setdefault(text, len(places)) for text in pair[:2]] for pair in pairs], np.int64)
    vectors = run(list(places)) if run else encode(encoder, list(places), "encode pairs")
    if not len(vectors):
        return np.empty(0, np.float32)
    return cosines(vectors[rows[:, 0]], vectors[rows[:, 1]])
