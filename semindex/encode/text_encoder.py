"""Texts to vectors, whatever engine computes them: batches of similar length, as many texts as a budget allows."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from semindex.text.ragged import Ragged, by_length

# Tokens a batch on a CPU, padding included. More gain nothing there and leave its caches: docs/performance.md.
BUDGET = 1024


class TextEncoder:
    """Callable from texts to vectors.

    run: the engine, from ids, int64 [texts, tokens], to vectors, float32 [texts, dimension]. tokenizer: from texts to
    Ragged, with pad_id, max_length and cut. batch_size: texts a batch; None: as many as `budget` tokens hold.
    workers: batches at once, for an engine that may be called by several threads: a batch on each core takes less
    time than all cores on one batch after the other, whose small products they cannot share evenly. similarity: cosine,
    of unit vectors; or dot, of vectors of any length.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], tokenizer: Any, dimension: int,
                 batch_size: int | None = None, budget: int = BUDGET, workers: int = 1,
                 similarity: str = "cosine") -> None:
        self.run, self.tokenizer, self.dimension = run, tokenizer, dimension
        self.batch_size, self.budget, self.workers = batch_size, budget, workers
        self.similarity = similarity

    @property
    def cut(self) -> int:
        """Texts seen so far that were as long as the longest that is read, or longer."""
        return self.tokenizer.cut

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors, float32 [texts, dimension], in the order of the texts."""
        return self.of_tokens(self.tokenizer(texts))

    def scores(self, products: np.ndarray) -> np.ndarray:
        """Return inner products of vectors as people and files get them.

        Of unit vectors they are cosines, which rounding puts beyond 1 now and then: cut to -1 to 1. Others stay.
        """
        return np.clip(products, -1, 1) if self.similarity == "cosine" else products

    def of_tokens(self, tokens: Ragged) -> np.ndarray:
        """Return the vectors of texts that are token ids already."""
        vectors = np.empty([len(tokens), self.dimension], np.float32)

        def encode(rows: np.ndarray) -> None:
            vectors[rows] = self.run(tokens.pad(rows, self.tokenizer.pad_id))

        batches = list(by_length(tokens.lengths, self.batch_size, self.budget))
        if self.workers > 1 and len(batches) > 1:
            with ThreadPoolExecutor(self.workers) as pool:
                list(pool.map(encode, reversed(batches)))  # the longest first: the last ones end together
        else:
            for rows in batches:
                encode(rows)
        return vectors
