"""What the index costs over bare hnswlib, and recall against speed over M and ef, as a table and a picture.

    python benchmarks/index_grid.py --picture docs/index_grid.png

Vectors as in index_crossover.py. Overhead: our build and search against hnswlib called by itself with the same
parameters, in turn, --repeats times, on --small vectors. Grid: --size vectors, 1,000 queries, 50 texts each.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import hnswlib
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from index_crossover import clustered

from ann_util import ExactIndex, HnswIndex, IndexSettings

LINKS, WIDTHS = (16, 32, 64, 100), (50, 100, 200, 400)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return (seconds, result) of a call."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def overhead(vectors: np.ndarray, queries: np.ndarray, repeats: int) -> tuple[float, float]:
    """Return our time over bare hnswlib's, of the build and of a search, medians of the pairs."""
    def bare() -> hnswlib.Index:
        graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
        graph.init_index(max_elements=len(vectors), M=32, ef_construction=200, random_seed=100)
        graph.add_items(vectors, np.arange(len(vectors)), num_threads=1)
        graph.set_ef(200)
        return graph

    builds, searches = [], []
    for _ in range(repeats):
        ours, index = timed(lambda: HnswIndex.build(vectors, IndexSettings("hnsw", threads=1)))
        theirs, graph = timed(bare)
        builds.append(ours / theirs)
        for _ in range(5):
            ours, _found = timed(lambda index=index: index.search(queries, 50))  # type: ignore[misc]
            theirs, _found = timed(lambda graph=graph: graph.knn_query(queries, k=50, num_threads=1))  # type: ignore[misc]
            searches.append(ours / theirs)
    return statistics.median(builds), statistics.median(searches)


def shares(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of the true neighbours that were found."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth)]))


def main() -> None:
    """Measure, print Markdown, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--picture", help="write a PNG there")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal([args.dimension, 32]))[0].T.astype(np.float32)

    def make(size: int) -> tuple[np.ndarray, np.ndarray]:
        centres = rng.standard_normal([max(size // 20, 1), 32], np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        return clustered(size, rng, centres, basis), clustered(1000, rng, centres, basis)

    build, search = overhead(*make(args.small), args.repeats)
    print(f"over bare hnswlib, {args.small:,} vectors, one thread: build {build:.3f}, search {search:.3f}\n")
    vectors, queries = make(args.size)
    truth, _ = ExactIndex.build(vectors).search(queries, 50)
    print("| M | ef_construction | build, s | ef | recall@50 | queries/s |\n|---:|---:|---:|---:|---:|---:|")
    points: dict[str, list[tuple[float, float, int]]] = {}
    for m, construction in [*((m, 200) for m in LINKS), (100, 100)]:
        seconds, index = timed(lambda m=m, c=construction: HnswIndex.build(  # type: ignore[misc]
            vectors, IndexSettings("hnsw", m=m, ef_construction=c)))
        for width in WIDTHS:
            index.settings.ef = width
            times = [timed(lambda index=index: index.search(queries, 50)) for _ in range(3)]  # type: ignore[misc]
            recall = shares(times[0][1][0], truth)
            speed = len(queries) / statistics.median(row[0] for row in times)
            points.setdefault(f"M={m}, ef_construction={construction}", []).append((recall, speed, width))
            print(f"| {m} | {construction} | {seconds:.0f} | {width} | {recall:.4f} | {speed:,.0f} |", flush=True)
    if args.picture:
        draw(points, args.picture, args.size)


def draw(points: dict[str, list[tuple[float, float, int]]], path: str, size: int) -> None:
    """Write the picture of recall against speed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for label, row in points.items():
        axes.plot([max(1 - p[0], 5e-5) for p in row], [p[1] for p in row], marker="o", label=label)
        for recall, speed, width in row:
            axes.annotate(str(width), (max(1 - recall, 5e-5), speed), textcoords="offset points", xytext=(4, 4),
                          fontsize=7)
    axes.axvline(0.01, color="grey", linestyle=":")
    axes.set(xlabel="share of the 50 nearest that are missed (dotted: recall@50 of 0.99)",
             ylabel="queries/s, 1,000 at once",
             title=f"hnsw, {size:,} vectors; the numbers are ef", xscale="log", yscale="log")
    axes.invert_xaxis()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
