"""Sums in float32, one number after the other: what is summed in the same order is the same to the last bit."""

from typing import TYPE_CHECKING

import numpy as np

# y += A @ x in place; the public product copies A's columns first.
from scipy.sparse._sparsetools import csc_matvec, csr_matvec

if TYPE_CHECKING:
    from semindex.search.postings import Postings

LARGEST = 2**31  # beyond the numbers that the product takes


def add_terms(postings: "Postings", columns: np.ndarray, factors: np.ndarray, sums: np.ndarray) -> None:
    """Add the weights of some terms, each times its factor, to the sums of the texts, the last term first.

    columns: the terms' places, no two alike; factors: float32, of each; sums: float32 [texts or more].
    """
    if not len(columns):
        return
    order = np.argsort(-columns)
    columns, factors, starts = columns[order], factors[order], postings.starts
    base = starts[columns[-1]]
    if starts[columns[0] + 1] - base >= LARGEST and len(columns) > 1:
        half = len(columns) // 2
        for part in (slice(half), slice(half, None)):
            add_terms(postings, columns[part], factors[part], sums)
        return
    # One product for all: between two terms, of which the last stands first, is a column that ends before it begins.
    bounds, given = np.empty(2 * len(columns), np.int32), np.zeros(2 * len(columns) - 1, np.float32)
    bounds[::2], bounds[1::2] = starts[columns] - base, starts[columns + 1] - base
    given[::2] = factors
    csc_matvec(len(sums), len(given), bounds, postings.slots[base:], postings.weights[base:], given, sums)


def sum_rows(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the sum of each row, float32. values: float32, row after row; counts: how many each row has."""
    found = np.zeros(len(counts), np.float32)
    bounds = np.append(0, np.cumsum(counts)).astype(np.int32)
    csr_matvec(len(counts), 1, bounds, np.zeros(len(values), np.int32), values, np.ones(1, np.float32), found)
    return found
