"""Run by test_shards.py on one process and on two: what a sharded search finds, written by rank 0."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from semindex import runtime

runtime.start("cpu", 5)

import numpy as np  # noqa: E402

from semindex.encode import encoder  # noqa: E402
from semindex.errors import UserError  # noqa: E402
from semindex.search import shards as module  # noqa: E402
from semindex.search.index import IndexSettings  # noqa: E402

encoder.WINDOW = 8
rng = np.random.default_rng(0)
COUNT = 60
# Few values and halves: every product is exact, and many are equal.
vectors = rng.integers(-2, 3, [COUNT, 4]).astype(np.float32) / 2
vectors[1::2] = vectors[::2]
queries = rng.integers(-2, 3, [9, 4]).astype(np.float32) / 2
rows = encoder.share_of(COUNT, *runtime.processes())
found = {}
for kind, module.COPIED in (("exact", 1 << 30), ("sharded exact", 0), ("hnsw", 0)):
    shards = module.Shards(vectors[rows], rows, COUNT, IndexSettings(kind.split()[-1], ef=200), len(queries))
    for k in (1, 7, 45, 100):  # of two shards, one alone has fewer than 45
        def work(shards=shards, kind=kind, k=k):
            found[f"{kind} {k} ids"], found[f"{kind} {k} scores"] = shards.search(queries, k)
            return k * 2

        assert shards.on_rank_0(work) == k * 2

    def products(shards=shards, kind=kind):
        found[f"{kind} products"] = shards.products(np.repeat(queries, 5, 0), np.arange(45) + 10)

    shards.on_rank_0(products)

    def fail(shards=shards):
        shards.search(queries, 2)
        raise UserError("no")

    try:
        shards.on_rank_0(fail)
        raise SystemExit("the error of rank 0 was not told")
    except UserError as error:
        assert str(error) == "no"
if runtime.rank() == 0:
    np.savez(sys.argv[1], vectors=vectors, queries=queries, **found)
runtime.barrier()
