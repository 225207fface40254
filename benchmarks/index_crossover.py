"""Exact search against hnsw over corpus sizes: where the graph pays for its build. Sets ann_util.EXACT_UP_TO.

    python benchmarks/index_crossover.py

Vectors are unit length, 256 wide, in clusters of 20 as paraphrases form them, within a space of --intrinsic dimensions
as those of trained encoders are; queries are drawn from the same clusters. Each time is the median of --repeats
runs, in turn. "One query" is one call a query, as a service asks; 1,000 queries are one call, as recall.py asks.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from ann_util import ExactIndex, HnswIndex, IndexSettings, recall_of_index
from semindex.search.index import VectorIndex


def clustered(count: int, rng: np.random.Generator, centres: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return unit vectors around the centres, float32 [count, dimension], cosine to their centre about 0.7.

    centres: [clusters, intrinsic]; basis: [intrinsic, dimension].
    """
    noise = rng.standard_normal([count, len(basis)], np.float32) / np.sqrt(len(basis))
    vectors = (centres[rng.integers(0, len(centres), count)] + noise) @ basis
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def seconds(works: Sequence[Callable[[], object]], repeats: int, clock: Callable[[], float]) -> list[float]:
    """Return the median time of a call of each, measured in turn: other work on the machine slows them all alike.

    Who begins changes: what ran before leaves its arrays in the cache, and its freed memory.
    """
    times: list[list[float]] = [[] for _ in works]
    for turn in range(repeats):
        for place in range(len(works)):
            number = (turn + place) % len(works)
            began = clock()
            works[number]()
            times[number].append(clock() - began)
    return [statistics.median(own) for own in times]


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000, 10_000, 20_000, 30_000, 50_000, 100_000])
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--intrinsic", type=int, default=32)
    parser.add_argument("--recall_num", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="seconds of all processors, where others use them too")
    args = parser.parse_args()
    clock = time.process_time if args.cpu else time.perf_counter
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal([args.dimension, args.intrinsic]))[0].T.astype(np.float32)
    print("| texts | hnsw build, s | one query, exact, ms | one query, hnsw, ms | 1,000 queries, exact, s "
          "| 1,000 queries, hnsw, s | hnsw recall@50 | queries in batches that pay for the build |")
    print("|---:" * 8 + "|")
    for size in args.sizes:
        centres = rng.standard_normal([max(size // 20, 1), args.intrinsic], np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        vectors = clustered(size, rng, centres, basis)
        queries = clustered(1000, rng, centres, basis)
        exact = ExactIndex.build(vectors)
        began = clock()
        hnsw = HnswIndex.build(vectors, IndexSettings("hnsw", capacity=size))
        build = clock() - began

        def alone(index: VectorIndex, queries: np.ndarray = queries) -> None:
            for row in range(100):
                index.search(queries[row : row + 1], args.recall_num)

        def batch(index: VectorIndex, queries: np.ndarray = queries) -> None:
            index.search(queries, args.recall_num)

        one = [taken * 10 for taken in seconds([partial(alone, exact), partial(alone, hnsw)], args.repeats, clock)]
        many = seconds([partial(batch, exact), partial(batch, hnsw)], args.repeats, clock)
        recall = recall_of_index(hnsw, queries, args.recall_num)
        gain = (many[0] - many[1]) / 1000
        paid = f"{build / gain:,.0f}" if gain > 0 else "never"
        print(f"| {size:,} | {build:.1f} | {one[0]:.2f} | {one[1]:.2f} | {many[0]:.3f} | {many[1]:.3f} "
              f"| {recall:.4f} | {paid} |", flush=True)


if __name__ == "__main__":
    main()
