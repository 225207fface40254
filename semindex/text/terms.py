"""Terms of keyword search as 64-bit keys: characters and pairs of neighbours, or jieba's words."""

import logging
from collections.abc import Sequence
from functools import cache

import numpy as np

KINDS = ("bigram", "word")
_FACTOR = np.uint64(0xD1342543DE82EF95)  # odd, 5 modulo 8: its powers run through a quarter of all 64-bit numbers
_OTHER, _LATIN, _SINGLE = 1, 2, 3  # what a character is: between terms, of a Latin word or number, a term of its own
_kind_of = np.zeros(0x110000, np.uint8)  # filled as characters are met; 0: not met yet


def term_keys(texts: Sequence[str], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (text int64, key uint64) of every occurrence of a term, text by text.

    kind: bigram, characters and pairs of neighbours, where Latin words and numbers stay whole; word, words by jieba.
    Case does not count. A key is a hash of the term's characters: no vocabulary has to be kept or read. Two of a
    million terms share one with a probability of 3e-8.
    """
    lowered = [text.lower() for text in texts]
    return _words(lowered) if kind == "word" else _bigrams(lowered)


def _codes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the characters of all texts, uint32, and how many each text has."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
    return codes, np.fromiter(map(len, texts), np.int64, len(texts))


def _mixed(codes: np.ndarray) -> np.ndarray:
    """Return 64 bits for each character (Steele et al. 2014, SplitMix)."""
    bits = (codes.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ bits >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ bits >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return bits ^ bits >> np.uint64(31)


def _powers(most: int) -> np.ndarray:
    return np.cumprod(np.concatenate([np.ones(1, np.uint64), np.full(most, _FACTOR, np.uint64)]))


def _hashes(codes: np.ndarray, lengths: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """Return the key of each run of characters: the sum over its characters of mixed * factor ** place."""
    if not len(lengths):
        return np.empty(0, np.uint64)
    starts = np.cumsum(lengths) - lengths
    return np.add.reduceat(_mixed(codes) * powers[np.arange(len(codes)) - np.repeat(starts, lengths)], starts)


def _bigrams(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    codes, lengths = _codes(texts)
    kinds = _kind_of[codes]
    if not kinds.all():
        for code in np.unique(codes[kinds == 0]).tolist():
            char = chr(code)
            _kind_of[code] = _LATIN if char in "abcdefghijklmnopqrstuvwxyz0123456789" else (
                _SINGLE if char.isalnum() or char == "_" else _OTHER)
        kinds = _kind_of[codes]
    owner = np.repeat(np.arange(len(texts)), lengths)
    inside = np.flatnonzero(kinds > _OTHER)
    kinds, owner = kinds[inside], owner[inside]
    goes_on = np.zeros(len(inside), bool)  # the character is of the same Latin word as the one before
    goes_on[1:] = ((kinds[1:] == _LATIN) & (kinds[:-1] == _LATIN) & (np.diff(inside) == 1)
                   & (owner[1:] == owner[:-1]))
    starts = np.flatnonzero(~goes_on)
    sizes, owner = np.diff(np.append(starts, len(inside))), owner[starts]
    powers = _powers(int(sizes.max(initial=0)))
    units = _hashes(codes[inside], sizes, powers)
    pairs = np.flatnonzero(owner[1:] == owner[:-1])
    keys = np.concatenate([units, units[pairs] + powers[sizes[pairs]] * units[pairs + 1]])  # the key of both joined
    owners = np.concatenate([owner, owner[pairs]])
    order = np.argsort(owners, kind="stable")
    return owners[order], keys[order]


@cache
def _jieba() -> object:
    import warnings

    warnings.filterwarnings("ignore", category=UserWarning)  # of pkg_resources, which jieba still imports
    import jieba

    jieba.setLogLevel(logging.WARNING)
    return jieba


def _words(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    cut = _jieba().lcut  # type: ignore[attr-defined]
    split = [[word for word in cut(text) if word.strip()] for text in texts]
    owner = np.repeat(np.arange(len(texts)), np.fromiter(map(len, split), np.int64, len(split)))
    codes, lengths = _codes([word for words in split for word in words])
    return owner, _hashes(codes, lengths, _powers(int(lengths.max(initial=0))))
