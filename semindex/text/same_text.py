"""Texts that read the same: equal but for case, width, white space and punctuation. Standard library and NumPy."""

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

KEPT = "\n#%&@"  # beside letters, digits, their marks, and signs of money and arithmetic: C# is not C++
PASSED = "~|<>"  # of the signs of arithmetic those that people end a sentence with, or draw arrows of


class _Letters(dict[int, int | None]):
    """From a character to itself, or None where reading passes over it; for str.translate."""

    def __missing__(self, code: int) -> int | None:
        text, kind = chr(code), unicodedata.category(chr(code))
        # a selector of how an emoji is drawn is a mark too
        kept = kind[0] in "LNM" and not 0xFE00 <= code <= 0xFE0F or kind in ("Sm", "Sc") and text not in PASSED
        self[code] = code if kept or text in KEPT else None
        return self[code]


_LETTERS = _Letters()


def plain(texts: Sequence[str]) -> list[str]:
    """Return each text in NFKC, case folded, without white space, punctuation and emoji; '' where nothing is left.

    All at once: a call a text costs more than the work.
    """
    joined = unicodedata.normalize("NFKC", "\n".join(text.replace("\n", " ") for text in texts)).casefold()
    return joined.translate(_LETTERS).split("\n") if texts else []


def closest(query: str, texts: Sequence[str]) -> int:
    """Return which of some texts that read as a query does is closest to it: equal, or equal but for case, width and
    white space; else the first."""
    if query in texts:
        return texts.index(query)
    form, *forms = ("".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in (query, *texts))
    return forms.index(form) if form in forms else 0


class SameTexts:
    """Which of some texts reads as a query does. 16 bytes a text, and the texts as they are given, a list or Corpus."""

    def __init__(self, texts: Any, block: int = 8192) -> None:
        self.texts = texts
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
        """Return the place of the text that reads as each query, int64 [queries], -1 for none; of several see closest,
        the first of those that are equally close."""
        forms = plain(queries)
        own = np.fromiter(map(hash, forms), np.int64, len(forms))
        starts = np.searchsorted(self.hashes, own, "left").reshape(-1)
        stops = np.searchsorted(self.hashes, own, "right").reshape(-1)
        found = np.full(len(forms), -1, np.int64)
        for row in np.flatnonzero(stops > starts):
            if forms[row]:
                alike = self.order[starts[row] : stops[row]].tolist()
                found[row] = alike[closest(queries[row], [self.texts[place] for place in alike])]
        return found
