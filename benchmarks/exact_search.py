"""Exact search against the bare matrix product, in float32 and int8.

    python benchmarks/exact_search.py
    python benchmarks/exact_search.py --file vectors.npy        the vectors in a file, written there: as after a load

Vectors as in index_crossover.py; each query asks for 50. The product is `queries @ vectors.T` alone, as numpy computes
it on the same threads: what no selection of the best can do without. Medians of --repeats runs, in turn.
"""

import argparse
import os
import sys
import time
from functools import partial

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks.index_crossover import clustered, seconds
from semindex.search.index import engine


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--file", help="write the vectors there and search them memory-mapped")
    parser.add_argument("--cpu", action="store_true", help="seconds of all processors, where others use them too")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal([256, 32]))[0].T.astype(np.float32)
    centres = rng.standard_normal([args.texts // 20, 32], np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    vectors, queries = (np.ascontiguousarray(clustered(n, rng, centres, basis)) for n in (args.texts, 1000))
    if args.file:
        np.save(args.file, vectors)
        vectors = np.load(args.file, mmap_mode="r")
    exact, int8 = engine("exact").build(vectors), engine("int8").build(vectors)
    found, truth = int8.search(queries, 50)[0], exact.search(queries, 50)[0]
    recall = np.mean([len(np.intersect1d(a, b)) / 50 for a, b in zip(found, truth)])
    print(f"{args.texts:,} texts; recall@50 of int8 {recall:.4f}")
    print("| queries a call | product, ms a query | exact, ms | int8, ms | exact, of the product | int8, of exact "
          "|\n|" + "---:|" * 6)
    for size, asked in ((1000, 1000), (256, 512), (32, 128), (8, 40), (1, 20)):
        def product(rows: np.ndarray) -> None:
            rows @ vectors.T

        def call(search: object, size: int = size, asked: int = asked) -> None:
            for start in range(0, asked, size):
                search(queries[start : start + size])  # type: ignore[operator]

        ways = [product, lambda rows: exact.search(rows, 50), lambda rows: int8.search(rows, 50)]
        taken = seconds([partial(call, way) for way in ways], args.repeats,
                        time.process_time if args.cpu else time.perf_counter)
        bare, own, small = (one / asked * 1000 for one in taken)
        print(f"| {size} | {bare:.3f} | {own:.3f} | {small:.3f} | {bare / own:.2f} | {own / small:.2f} |", flush=True)


if __name__ == "__main__":
    main()
