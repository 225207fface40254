"""Cosines of pairs of texts."""

from collections.abc import Sequence

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


def pair_cosines(encoder: TextEncoder, pairs: Sequence[Sequence[str]], alone: bool = False) -> np.ndarray:
    """Return the cosine of the first two texts of each pair, a query and a passage, float32 [pairs].

    A text is encoded once a side, however often it stands in the pairs; once for both where their prompts are equal.
    The processes share the work, and every one must call it with the same pairs; no rows off rank 0. alone: this
    process encodes by itself.
    """
    sides = ("query", "passage") if encoder.prompts.differ else ("query", "query")
    places: dict[str, dict[str, int]] = {side: {} for side in sides}
    rows = np.array([[places[side].setdefault(text, len(places[side])) for side, text in zip(sides, pair)]
                     for pair in pairs], np.int64)
    vectors = {}
    for side, texts in places.items():
        own = encoder.side(side)
        vectors[side] = own(list(texts)) if alone else encode(own, list(texts), "encode pairs")
    if not len(vectors["query"]):
        return np.empty(0, np.float32)
    left, right = (vectors[side][rows[:, column]] for column, side in enumerate(sides))
    return cosines(left, right)
