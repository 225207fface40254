"""Texts that read the same: equal but for case, width, white space and punctuation. Standard library and NumPy."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

_NO_LETTER = re.compile(r"[^\w\n]+|_")


def plain(texts: Sequence[str]) -> list[str]:
    """Return each text in NFKC, case folded, its letters and digits alone; '' where it has none.

    All at once: a call a text costs more than the work.
    """
    joined = unicodedata.normalize("NFKC", "\n".join(text.replace("\n", " ") for text in texts)).casefold()
    return _NO_LETTER.sub("", joined).split("\n") if texts else []


class SameTexts:
    """Which of some texts reads as a query does. 16 bytes a text."""

    def __init__(self, texts: Iterable[str], block: int = 8192) -> None:
        hashes, waiting = [], list[str]()

        def take() -> None:
            hashes.append(np.fromiter(map(hash, plain(waiting)), np.int64, len(waiting)))
            waiting.clear()

        for text in texts:
            waiting.append(text)
            if len(waiting) == block:
                take()
        take()
        found = np.concatenate(hashes)
        self.order = np.argsort(found, kind="stable")
        self.hashes = found[self.order]

    def find(self, queries: Sequence[str]) -> np.ndarray:
        """Return the place of the first text that reads as each query, int64 [queries], -1 for none."""
        forms = plain(queries)
        own = np.fromiter(map(hash, forms), np.int64, len(forms))
        places = np.atleast_1d(np.searchsorted(self.hashes, own))
        found = np.full(len(forms), -1, np.int64)
        there = np.flatnonzero(places < len(self.hashes))
        for row in there[self.hashes[places[there]] == own[there]]:
            if forms[row]:
                found[row] = self.order[places[row]]
        return found
