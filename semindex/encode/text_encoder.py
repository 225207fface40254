"""Texts to vectors, whatever engine computes them: batches of similar length, as many texts as a budget allows."""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from semindex.runtime import warn
from semindex.text.prompts import NO_PROMPTS, Prompts
from semindex.text.ragged import Ragged, by_length
from semindex.text.tokenizer import TextTokenizer

# Tokens a batch on a CPU, padding included. More gain nothing there and leave its caches: docs/performance.md.
BUDGET = 1024


class TextEncoder:
    """Callable from texts to vectors.

    run: the engine, from ids, int64 [texts, tokens], to vectors, float32 [texts, dimension]. tokenizer: from texts to
    Ragged. batch_size: texts a batch; None: as many as `budget` tokens hold.
    workers: batches at once, for an engine that may be called by several threads: a batch on each core takes less
    time than all cores on one batch after the other, whose small products they cannot share evenly. similarity: cosine,
    of unit vectors; or dot, of vectors of any length. prompts: see side.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], tokenizer: TextTokenizer, dimension: int,
                 batch_size: int | None = None, budget: int = BUDGET, workers: int = 1,
                 similarity: str = "cosine", prompts: Prompts = NO_PROMPTS) -> None:
        self.run, self.tokenizer, self.dimension = run, tokenizer, dimension
        self.batch_size, self.budget, self.workers = batch_size, budget, workers
        self.similarity, self.prompts = similarity, prompts

    def side(self, side: str) -> "TextEncoder":
        """Return the encoder of the texts of a side, query or passage: this one with the side's prompt."""
        tokenizer = self.tokenizer.prompted(self.prompts.of(side))
        if tokenizer is self.tokenizer:
            return self
        other = copy.copy(self)
        other.tokenizer = tokenizer
        return other

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


def chosen_side(side: str | None, prompts: Prompts) -> str:
    """Return the side that texts are encoded as: what --as says, else query, with a warning where it matters."""
    if side is None and prompts.differ:
        warn(f"the texts are encoded as queries ({prompts.of('query')!r} before each); --as passage for those of a "
             "corpus, --as query to say so")
    return side or "query"
