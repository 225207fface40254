"""Milvus beside the engines in memory, and what the index costs over bare pymilvus. Needs scripts/setup.sh --milvus.

    bash scripts/milvus_server.sh start /tmp/milvus          # prints the address
    python benchmarks/milvus.py overhead --milvus_uri http://127.0.0.1:19530
    python benchmarks/milvus.py engines --milvus_uri http://127.0.0.1:19530 --size 1000000 --kinds hnsw int8 milvus
    python benchmarks/milvus.py recall --milvus_uri http://127.0.0.1:19530 --params_path CKPT --data DIR

overhead: inserts and searches, ours and pymilvus's own in turn, the ratio of the medians. engines: build, memory,
queries/s and recall@50 of each kind over clustered vectors as in index_crossover.py, each in a process of its own; of a
server the memory is the server's (--server_pid). recall: what each kind recalls of the pairs of DIR (corpus.csv,
test.csv), encoded once; Milvus Lite beside the server.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from index_crossover import clustered
from index_grid import shares, timed

from ann_util import ExactIndex, IndexSettings, build_index
from semindex.search.milvus import MilvusIndex, keys_of
from semindex.search.milvus_client import Connection
from semindex.search.milvus_collection import Collection, Rows
from semindex.search.milvus_settings import MilvusSettings

K, QUERIES = 50, 1000


def data(size: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors and queries, float32, in clusters."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal([dimension, 32]))[0].T.astype(np.float32)
    centres = rng.standard_normal([max(size // 20, 1), 32], np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return clustered(size, rng, centres, basis), clustered(QUERIES, rng, centres, basis)


def overhead(args: argparse.Namespace) -> None:
    """Print our time over bare pymilvus's, batch by batch and query by query in turn: other work comes and goes."""
    vectors, queries = data(args.size, args.dimension)
    settings = MilvusSettings(args.milvus_uri, collection="overhead").with_environment()
    connection = Connection(settings)
    client = connection.client
    own, other = (Collection(connection, f"overhead_{name}", args.dimension) for name in ("ours", "bare"))
    texts = [f"text {number}" for number in range(len(vectors))]
    for part in (own, other):
        part.drop()
        part.create(32, 200)
        part.batch = args.batch
    options: dict[str, Any] = {"search_params": {"metric_type": "IP", "params": {} if settings.lite else {"ef": 200}}}
    options |= {"output_fields": ["id"]} if settings.lite else {}

    def our_insert(start: int) -> None:
        part = slice(start, start + args.batch)
        keys = keys_of(texts[part])
        own.insert(Rows(keys, vectors[part]), np.arange(len(keys)))

    def bare_insert(start: int) -> None:
        client.insert(other.name, [{"id": i, "vector": vectors[i], "category": ""}
                                   for i in range(start, min(start + args.batch, len(vectors)))])

    def bare_search(part: slice) -> list[list[tuple[int, float]]]:
        found = client.search(other.name, data=list(queries[part]), limit=K, anns_field="vector", **options)
        return [[(hit["id"], hit["distance"]) for hit in hits] for hits in found]

    print(f"over bare pymilvus, {connection}, {len(vectors):,} vectors x {args.dimension}, in turn:")
    in_turn("insert of a batch", our_insert, bare_insert, list(range(0, len(vectors), args.batch)))
    index = MilvusIndex(args.dimension, IndexSettings("milvus", milvus=settings), own.name)
    index._known(np.arange(len(vectors)), keys_of(texts))
    index._there = True
    for part in (own, other):
        part.finish()

    def our_search(part: slice) -> None:
        index.search(queries[part], K)

    in_turn("search of 100", our_search, bare_search, [slice(i % 900, i % 900 + 100) for i in range(0, 6000, 100)])
    in_turn("search of one", our_search, bare_search, [slice(i, i + 1) for i in range(300)])
    for part in (own, other):
        part.drop()


def in_turn(name: str, ours: Callable[[Any], Any], bare: Callable[[Any], Any], parts: list[Any]) -> None:
    """Print the ratio of median times of two ways over the same parts, and of the client's own CPU time."""
    times: dict[Any, list[tuple[float, float]]] = {ours: [], bare: []}
    for turn, part in enumerate(parts):
        for work in (ours, bare) if turn % 2 else (bare, ours):
            cpu = time.process_time()
            seconds, _ = timed(lambda work=work, part=part: work(part))  # type: ignore[misc]
            times[work].append((seconds, time.process_time() - cpu))
    wall, cpu = (statistics.median(row[place] for row in times[ours]) / statistics.median(
        row[place] for row in times[bare]) for place in (0, 1))
    both = statistics.median(row[0] for row in times[bare])
    print(f"{name}: {wall:.3f} of {1000 * both:.1f} ms ({len(parts)} pairs); CPU time of the client {cpu:.3f}",
          flush=True)


def memory(pid: str | int = "self") -> float:
    """Return the resident memory of a process, MB."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) / 1000 for line in file if line.startswith("VmRSS"))


def one_engine(args: argparse.Namespace) -> None:
    """Print what one engine does, as JSON; truth lies in a file."""
    vectors, queries = data(args.size, args.dimension)
    truth = np.load(args.truth)
    lite = bool(args.milvus_uri) and "://" not in args.milvus_uri
    milvus = MilvusSettings(args.milvus_uri or "").with_environment()
    settings = IndexSettings(args.kinds[0], args.hnsw_m, None, args.hnsw_ef_construction, args.size, milvus=milvus)
    remote = args.kinds[0] == "milvus" and not lite and args.server_pid
    before = memory(args.server_pid if remote else "self")
    build, index = timed(lambda: build_index(vectors, settings, queries=10**9))
    used = memory(args.server_pid if remote else "self") - before
    row = {"build": build, "memory": used}
    for width in (200, 400):
        index.settings.ef = width
        index.search(queries[:10], K)
        seconds = [timed(lambda: index.search(queries, K)) for _ in range(args.repeats)]
        alone = [timed(lambda i=i: index.search(queries[i : i + 1], K))[0] for i in range(100)]  # type: ignore[misc]
        row |= {f"batch{width}": QUERIES / statistics.median(pair[0] for pair in seconds),
                f"one{width}": 1 / statistics.median(alone), f"recall{width}": shares(seconds[0][1][0], truth)}
    print(json.dumps(row))


def engines(args: argparse.Namespace) -> None:
    """Print a Markdown table."""
    vectors, queries = data(args.size, args.dimension)
    print(f"{args.size:,} vectors x {args.dimension}, {QUERIES:,} queries, {K} texts each; memory beside "
          f"the vectors' own {vectors.nbytes / 1e6:,.0f} MB in the client\n")
    print("| index | build, s | memory, MB | ef | recall@50 | queries/s, 1,000 at once | queries/s, one by one |\n"
          "|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        truth = os.path.join(folder, "truth.npy")
        np.save(truth, ExactIndex.build(vectors).search(queries, K)[0])
        del vectors
        for kind in args.kinds:
            words = [sys.executable, __file__, "one", "--kinds", kind, "--truth", truth, "--size", str(args.size),
                     "--dimension", str(args.dimension), "--repeats", str(args.repeats)]
            words += ["--hnsw_m", str(args.hnsw_m), "--hnsw_ef_construction", str(args.hnsw_ef_construction)]
            words += ["--milvus_uri", args.milvus_uri] * bool(args.milvus_uri)
            words += ["--server_pid", args.server_pid] * bool(args.server_pid)
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            row = json.loads(done.stdout.strip().splitlines()[-1])
            for width in (200, 400):
                print(f"| {kind} | {row['build']:.0f} | {row['memory']:.0f} | {width} | {row[f'recall{width}']:.4f} "
                      f"| {row[f'batch{width}']:,.0f} | {row[f'one{width}']:,.0f} |", flush=True)


def recall(args: argparse.Namespace) -> None:
    """Print Recall@k of each kind over the same vectors."""
    from models import loading
    from semindex.encode.encoder import encode
    from semindex.measure.hits import hit_ranks, recalls
    from semindex.search.recall_files import ranked
    from semindex.text.corpus import read_corpus
    from semindex.text.tables import group_pairs, read_pairs

    corpus, _ = read_corpus(os.path.join(args.data, "corpus.csv"))
    positives = group_pairs(read_pairs(os.path.join(args.data, "test.csv"), (2,))[0])
    model, tokenizer = loading.load(args.params_path, {})
    from models.encoders import fast_encoder

    encoder, _ = fast_encoder(model, tokenizer, "auto", len(corpus))
    texts = encode(encoder.side("passage"), corpus, "encode corpus")
    queries = encode(encoder.side("query"), list(positives), "encode queries")
    print(f"{len(corpus):,} texts, {len(queries):,} queries\n\n| index | recall@1 | recall@10 | recall@50 |\n"
          "|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        lite = MilvusSettings(os.path.join(folder, "lite.db"))
        places = {kind: (kind, None) for kind in args.kinds if kind != "milvus"} | {"Milvus Lite": ("milvus", lite)}
        if args.milvus_uri:
            places["Milvus server"] = ("milvus", MilvusSettings(args.milvus_uri).with_environment())
        for name, (kind, milvus) in places.items():
            index = build_index(texts, IndexSettings(kind, capacity=len(texts), milvus=milvus), queries=10**9)
            found = ranked(list(positives), *index.search(queries, K), corpus)
            hits = [hit_ranks(query, [text for text, _ in row], positives[query]) for query, row in found]
            values = recalls(hits, K)
            print(f"| {name} | " + " | ".join(f"{values[f'recall@{k}']:.3f}" for k in (1, 10, 50)) + " |", flush=True)


def main() -> None:
    """Run what is named."""
    works: dict[str, Callable[[argparse.Namespace], None]] = {
        "overhead": overhead, "engines": engines, "recall": recall, "one": one_engine}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=works)
    parser.add_argument("--milvus_uri")
    parser.add_argument("--server_pid", help="of the server, for its memory: DIR/server.pid")
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2000, help="vectors an insert, of overhead")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=["hnsw", "milvus"])
    parser.add_argument("--hnsw_m", type=int, default=32, help="links a node, of engines' graphs")
    parser.add_argument("--hnsw_ef_construction", type=int, default=200)
    parser.add_argument("--truth", help=argparse.SUPPRESS)
    parser.add_argument("--params_path")
    parser.add_argument("--data", help="corpus.csv and test.csv")
    args = parser.parse_args()
    began = time.perf_counter()
    works[args.work](args)
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
