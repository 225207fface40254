"""Sums of products in float32, one after the other: what is summed in one order is the same to the last bit."""

import numpy as np

# y += A @ x in place; the public product copies A's columns first.
from scipy.sparse._sparsetools import csc_matvec, csr_matvec

LARGEST = 2**31  # beyond the numbers that the product takes


def add_terms(columns: np.ndarray, factors: np.ndarray, starts: np.ndarray, slots: np.ndarray, weights: np.ndarray,
              sums: np.ndarray) -> None:
    """Add the weights of some terms, each times its factor, to the sums of the texts, the last term first.

    columns: int64, the terms' places in starts, no two alike; factors: float32, of each; starts, slots, weights:
    of each term the texts and their weights, see Postings; sums: float32 [texts or more].
    """
    if not len(columns):
        return
    order = np.argsort(-columns)
    columns, factors = columns[order], factors[order]
    base = starts[columns[-1]]
    if starts[columns[0] + 1] - base >= LARGEST and len(columns) > 1:
        half = len(columns) // 2
        for part in (slice(half), slice(half, None)):
            add_terms(columns[part], factors[part], starts, slots, weights, sums)
        return
    # One product for all: between two terms, of which the last stands first, is a column that ends before it begins.
    bounds, given = np.empty(2 * len(columns), np.int32), np.zeros(2 * len(columns) - 1, np.float32)
    bounds[::2], bounds[1::2], given[::2] = starts[columns] - base, starts[columns + 1] - base, factors
    csc_matvec(len(sums), len(given), bounds, slots[base:], weights[base:], given, sums)


def sum_rows(weights: np.ndarray, terms: np.ndarray, factors: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return for each row the sum of its weights, each times the factor of its term, as add_terms adds them, float32.

    weights: float32, row after row; terms: int32, a place in factors for each; sizes: how many each row has.
    """
    found = np.zeros(len(sizes), np.float32)
    bounds = np.append(0, np.cumsum(sizes)).astype(np.int32)
    csr_matvec(len(sizes), len(factors), bounds, terms, weights, factors, found)
    return found
