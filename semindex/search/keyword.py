"""Keyword search by BM25 over characters and character pairs, or words: the baseline, and the first negatives."""

import logging
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from semindex.errors import UserError


def term_splitter(kind: str) -> Callable[[str], list[str]]:
    """Return a function from text to terms; Latin words and numbers stay whole.

    kind: bigram, characters and pairs of neighbours; word, words by jieba.
    """
    import re

    if kind == "word":
        import warnings

        warnings.filterwarnings("ignore", category=UserWarning)  # of pkg_resources, which jieba still imports
        import jieba

        jieba.setLogLevel(logging.WARNING)
        return lambda text: [word for word in jieba.lcut(text.lower()) if word.strip()]
    unit = re.compile(r"[a-z0-9]+|\w")

    def split(text: str) -> list[str]:
        units = unit.findall(text.lower())
        return units + [a + b for a, b in zip(units, units[1:])]

    return split


class Bm25:
    """Lucene's BM25 (Robertson et al. 1994, TREC-3) of some texts. Equal scores are ranked by the texts' order.

    k1: saturation of term frequency; b: weight of text length. Raises UserError where no text has a term.
    """

    def __init__(self, texts: Iterable[str], tokens: str = "bigram", k1: float = 1.5, b: float = 0.75,
                 source: str = "the corpus") -> None:
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)
        self.split = term_splitter(tokens)
        self.terms: dict[str, int] = {}
        documents = [[self.terms.setdefault(term, len(self.terms)) for term in self.split(text)] for text in texts]
        if not self.terms:
            raise UserError(f"{source}: holds neither letters nor digits to search for")
        self.count = len(documents)
        self.index = bm25s.BM25(method="lucene", k1=k1, b=b)
        self.index.index((documents, self.terms), show_progress=False)

    def _weights(self, query: str) -> np.ndarray:
        numbers = [self.terms[term] for term in dict.fromkeys(self.split(query)) if term in self.terms]
        return self.index.get_scores_from_ids(numbers) if numbers else np.zeros(self.count, np.float32)

    def search(self, queries: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (texts int64, scores float32), both [queries, min(k, texts)], best first; 0 for no term in common."""
        k = min(k, self.count)
        found, scores = np.zeros([len(queries), k], np.int64), np.zeros([len(queries), k], np.float32)
        for row, query in enumerate(queries):
            weights = self._weights(query)
            best = np.argpartition(-weights, k - 1)[:k]
            best = best[np.lexsort((best, -weights[best]))]
            found[row], scores[row] = best, weights[best]
        return found, scores

    def scores(self, queries: Sequence[str], texts: Sequence[int]) -> np.ndarray:
        """Return the score of each query's text, float32 [queries]."""
        return np.array([self._weights(query)[text] for query, text in zip(queries, texts)], np.float32)
