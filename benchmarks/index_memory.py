"""Indexes that fit: vectors that never are in memory all at once, built, saved, loaded and searched in a few GiB.

    python benchmarks/index_memory.py --texts 1000000 --kinds exact int8 hnsw hnsw_int8
    python benchmarks/index_memory.py --texts 10000000 --kinds int8 --queries 100

Vectors as in index_crossover.py are written a block at a time into a file of --directory and memory-mapped from there,
as recall.py does with --index_dir. Each kind is built and saved in one process, loaded and searched in another; peak is
the most that a process had resident, in GiB, the interpreter's own 0.05 included (ru_maxrss). resident is what it has
after the search. recall@50 is against exact search over all vectors.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from typing import Any

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks.index_crossover import clustered
from semindex.encode.vector_file import VectorFile
from semindex.search.index import IndexSettings, engine
from semindex.search.rows import let_go

BLOCK, ALONE, K = 65_536, 50, 50


def write_vectors(directory: str, texts: int, asked: int, dimension: int, intrinsic: int) -> None:
    """Write vectors.npy and queries.npy, so many asked; blocks around centres of their own."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal([dimension, intrinsic]))[0].T.astype(np.float32)
    file, queries = VectorFile(os.path.join(directory, "vectors.npy"), texts, dimension, "benchmark"), []
    file.prepare()
    blocks = range(0, texts, BLOCK)
    for start in blocks:
        count = min(BLOCK, texts - start)
        centres = rng.standard_normal([max(count // 20, 1), intrinsic], np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        file.write(start, clustered(count, rng, centres, basis))
        queries.append(clustered(-(-asked // len(blocks)), rng, centres, basis))
    file.flush()
    file.finish(np.arange(texts))
    np.save(os.path.join(directory, "queries.npy"), np.concatenate(queries)[:asked])


def memory() -> dict[str, float]:
    """Return the resident memory of this process, the most there was and what there is, in GiB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "resident": pages * resource.getpagesize() / 2**30}


def build(directory: str, kind: str, m: int | None) -> dict[str, Any]:
    """Build and save an index of a kind."""
    vectors = np.load(os.path.join(directory, "vectors.npy"), mmap_mode="r")
    saved = os.path.join(directory, kind)
    os.makedirs(saved)
    began, cpu = time.perf_counter(), time.process_time()
    index = engine(kind).build(vectors, IndexSettings(kind, m=m, capacity=len(vectors)))
    built, cpu = time.perf_counter() - began, time.process_time() - cpu
    index.save(saved)
    with open(os.path.join(saved, "meta.json"), "w", encoding="utf-8") as file:
        json.dump({"dimension": index.dimension, "count": len(index), "parameters": index.parameters()}, file)
    return {"build": built, "cpu": cpu, "save": time.perf_counter() - began - built} | memory()


def search(directory: str, kind: str, m: int | None) -> dict[str, Any]:
    """Load it and search, in one batch and one by one."""
    saved = os.path.join(directory, kind)
    with open(os.path.join(saved, "meta.json"), encoding="utf-8") as file:
        meta = json.load(file)
    began = time.perf_counter()
    index = engine(kind).load(saved, meta)
    loaded = time.perf_counter() - began
    queries = np.load(os.path.join(directory, "queries.npy"))
    began, cpu = time.perf_counter(), time.process_time()
    found, _ = index.search(queries, K)
    batch, cpu = time.perf_counter() - began, time.process_time() - cpu
    began = time.perf_counter()
    for row in range(min(ALONE, len(queries))):
        index.search(queries[row : row + 1], K)
    alone = (time.perf_counter() - began) / min(ALONE, len(queries)) * 1000
    result = {"load": loaded, "batch": len(queries) / batch, "batch_cpu": len(queries) / cpu, "one": alone} | memory()
    return result | {"found": found}


def truth(directory: str, kind: str, m: int | None) -> np.ndarray:
    """Return what exact search finds, a process of its own."""
    vectors = np.load(os.path.join(directory, "vectors.npy"), mmap_mode="r")
    index = engine("exact").build(vectors)
    found, _ = index.search(np.load(os.path.join(directory, "queries.npy")), K)
    let_go(vectors)
    return found


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", default=["exact", "int8"])
    parser.add_argument("--hnsw_m", type=int)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--intrinsic", type=int, default=32)
    parser.add_argument("--directory", help="where the files go meanwhile: twice 4 bytes a number [the system's]")
    args = parser.parse_args()
    directory = tempfile.mkdtemp(dir=args.directory)

    def apart(work: Any, kind: str) -> Any:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(work, (directory, kind, args.hnsw_m))

    try:
        write_vectors(directory, args.texts, args.queries, args.dimension, args.intrinsic)
        best = apart(truth, "exact")
        print(f"{args.texts:,} texts, {args.dimension} numbers each")
        print("| index | build, s (CPU s) | save, s | build and save, peak GiB | load, s | search, peak GiB "
              "| resident GiB | queries/s in a batch (per CPU s) | one query, ms | recall@50 |")
        print("|---|" + "---:|" * 9)
        for kind in args.kinds:
            made, asked = apart(build, kind), apart(search, kind)
            recall = np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(asked["found"], best)])
            print(f"| {kind} | {made['build']:.0f} ({made['cpu']:.0f}) | {made['save']:.0f} | {made['peak']:.2f} "
                  f"| {asked['load']:.1f} | {asked['peak']:.2f} | {asked['resident']:.2f} "
                  f"| {asked['batch']:.0f} ({asked['batch_cpu']:.0f}) | {asked['one']:.1f} | {recall:.4f} |",
                  flush=True)
            shutil.rmtree(os.path.join(directory, kind))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
