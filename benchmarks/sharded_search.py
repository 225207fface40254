"""Search shared by two processes, beside one: a shard of the vectors each, or a share of the queries each.

    python benchmarks/sharded_search.py
    python benchmarks/sharded_search.py --texts 1000000 --queries 20000 --engines hnsw

A process has one thread, and is started by the launcher where it is alone, too. The ways take turns, --rounds of them;
ratios are taken within a round, and their median is printed, since other work on the machine slows all. Time runs from
vectors, each process having its share, to what is merged on rank 0: for hnsw the build is in it, and where queries are
shared so is sending all vectors to all. CPU seconds are those of the process that has most: what else the machine does
changes them little.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

BLOCK = 2048  # queries asked at once, as mining does
WAYS = ("one process", "two, a shard each", "two, queries shared")


def clustered(count: int, width: int, seed: int) -> np.ndarray:
    """Return unit vectors about 1,000 centres, float32 [count, width]."""
    centres = np.random.default_rng(0).standard_normal([1000, width], np.float32)
    rng = np.random.default_rng(seed)
    found = centres[rng.integers(0, 1000, count)] + 0.7 * rng.standard_normal([count, width], np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def child(args: argparse.Namespace) -> None:
    """Search once, in one of the processes; rank 0 writes the seconds and what was found."""
    from semindex import runtime

    runtime.start("cpu", 0)
    from semindex.encode.encoder import share_of
    from semindex.search import shards as module
    from semindex.search.index import IndexSettings, build_index

    way, kind, result = args.child
    settings = IndexSettings(kind, threads=1)
    vectors, queries = clustered(args.texts, args.width, 1), clustered(args.queries, args.width, 2)
    rows, ranks = share_of(args.texts, *runtime.processes()), runtime.world_size()
    own = vectors[rows]
    ids = np.empty([args.queries, args.k], np.int64)
    runtime.barrier()
    began, used = time.perf_counter(), time.process_time()
    if way != WAYS[2] or kind == "exact":
        module.COPIED = 0 if way == WAYS[1] else 1 << 40
        shards = module.Shards(own, rows, args.texts, settings, args.queries)

        def work() -> None:
            for start in range(0, args.queries, BLOCK):
                ids[start : start + BLOCK] = shards.search(queries[start : start + BLOCK], args.k)[0]

        shards.on_rank_0(work)
    else:
        shares = [share_of(args.texts, rank, ranks) for rank in range(ranks)]
        index = build_index(np.concatenate(runtime.gather_rows(own, [s.stop - s.start for s in shares])), settings)
        step = -(-args.queries // ranks)
        mine = slice(step * runtime.rank(), min(step * (runtime.rank() + 1), args.queries))
        found = index.search(queries[mine], args.k)[0]
        ids = np.concatenate(runtime.gather_rows(found, [min(step, args.queries - step * r) for r in range(ranks)]))
    seconds, used = time.perf_counter() - began, time.process_time() - used
    most = max(one.item() for one in runtime.gather_rows(np.array([[used]], np.float32), [1] * ranks))
    if runtime.rank() == 0:
        np.save(f"{result}.npy", ids)
        with open(result, "w") as file:
            json.dump([seconds, most], file)
    runtime.barrier()


def measure(way: str, kind: str, directory: str, words: list[str]) -> tuple[list[float], Any]:
    """Start a way; return its seconds and CPU seconds, and the ids it found."""
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", "1" if way == WAYS[0] else "2", "--log_dir",
              os.path.join(directory, "log")]
    result = os.path.join(directory, "result")
    done = subprocess.run([sys.executable, *launch, __file__, *words, "--child", way, kind, result],
                          capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(f"{way}: {done.stdout}\n{done.stderr}")
    with open(result) as file:
        return json.load(file), np.load(f"{result}.npy")


def overlap(one: np.ndarray, two: np.ndarray) -> float:
    """Return the mean share of each query's ids that both lists have."""
    return statistics.mean(len(np.intersect1d(a, b)) / len(a) for a, b in zip(one, two))


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--k", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["exact", "hnsw"])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    words = [word for name in ("texts", "width", "queries", "k") for word in (f"--{name}", str(getattr(args, name)))]
    print(f"| {args.texts} texts, {args.queries} queries, {args.k} each | engine | s | times one process "
          "| CPU s | times one process | same texts as exact search |\n|---|---|---:|---:|---:|---:|---:|")
    truth = None
    with tempfile.TemporaryDirectory() as directory:
        for kind in args.engines:
            rounds = [{way: measure(way, kind, directory, words) for way in WAYS} for _ in range(args.rounds)]
            truth = rounds[0][WAYS[0]][1] if kind == "exact" else truth
            for way in WAYS:
                cells = []
                for what in range(2):
                    ratios = [found[WAYS[0]][0][what] / found[way][0][what] for found in rounds]
                    cells += [f"{statistics.median(found[way][0][what] for found in rounds):.1f}",
                              f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]
                cells.append("" if truth is None else f"{100 * overlap(truth, rounds[0][way][1]):.2f} %")
                print(f"| {way} | {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
