"""What mine_negatives.py puts together: pairs, a search or a way to draw documents, the file of triples."""

import argparse
import contextlib
from collections.abc import Callable

import numpy as np

from models import loading
from models.encoders import fast_encoder
from semindex import runtime
from semindex.collection.sources import numbered
from semindex.encode.encoder import encode
from semindex.files import atomic_file
from semindex.search.index import IndexSettings, build_index
from semindex.search.keyword import KeywordIndex
from semindex.search.recall_files import check_outputs
from semindex.text.corpus import Corpus
from semindex.text.counted import counted
from training import guide
from training.negatives.mining import Known, Likely, MiningRules, Scores, Search, mine, report
from training.negatives.sampling import anywhere, cluster_count, in_cluster
from training.setup import read_samples


def dense(args: argparse.Namespace, documents: Corpus, queries: list[str]) -> Callable[[], tuple[Search, Scores]]:
    """Encode by --params_path; return what makes search and scores, on rank 0. Every rank calls it."""
    model, tokenizer = loading.load(args.params_path, vars(args))
    runtime.say(f"Loaded parameters from {args.params_path}")
    encoder, _ = fast_encoder(model, tokenizer, args.engine, len(documents), args.batch_size)
    vectors = encode(encoder.side("passage"), documents, "encode corpus")
    asked = encode(encoder.side("query"), queries, "encode queries")

    def make() -> tuple[Search, Scores]:
        index = build_index(vectors, IndexSettings.from_flags(args), len(queries))

        def nearest(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return index.search(asked[block], args.rank_max)

        search: Search = nearest
        if args.by == "local":
            count = args.n_clusters or cluster_count(len(documents))
            search = in_cluster(vectors, asked, count, args.rank_max, args.seed, nearest)
        return search, lambda pairs: np.einsum("ij,ij->i", asked[pairs[:, 0]], vectors[pairs[:, 1]])

    return make


def keyword(args: argparse.Namespace, documents: Corpus, queries: list[str]) -> tuple[Search, Scores]:
    """Return search and scores by BM25."""
    index = KeywordIndex.build(documents, source=args.corpus_file or args.train_set_file)

    def search(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return index.search([queries[number] for number in block], args.rank_max)

    return search, lambda pairs: index.scores([queries[number] for number in pairs[:, 0]], pairs[:, 1])


def join(one: np.ndarray, two: np.ndarray, width: int) -> np.ndarray:
    """Return the first `width` of two lists of each row in turn, each document once; -1 behind the last."""
    both = np.stack([one, two], 2).reshape(len(one), -1)
    for column in range(1, both.shape[1]):
        again = (both[:, :column] == both[:, column : column + 1]).any(1)
        both[again, column] = -1
    order = np.argsort(both < 0, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(both, order, 1)


def run(args: argparse.Namespace) -> None:
    """Mine as the flags say and write the triples."""
    guide.check(args)
    runtime.on_rank_0(lambda: check_outputs(args.output_file, args.report_file))
    samples = read_samples(args, (2,))
    documents, queries, pairs = numbered(args, samples)
    ways: dict[str, Callable[[], tuple[Search, Scores]]] = {}
    places, count = {text: number for number, text in enumerate(documents)}, len(documents)
    if args.by in ("dense", "both", "local"):
        ways["local" if args.by == "local" else "dense"] = dense(args, documents, queries)
    if args.by in ("bm25", "both"):
        ways["bm25"] = lambda: keyword(args, documents, queries)
    if args.by == "global":
        own = dict(zip(pairs[::-1, 0].tolist(), pairs[::-1, 1].tolist()))  # the first positive of each query
        around = np.array([places.get(query, own[number]) for number, query in enumerate(queries)], np.int64)
        search = anywhere(count, args.rank_max, args.seed, around if args.distribution == "normal" else None)
        ways["global"] = lambda: (search, lambda pairs: np.zeros(len(pairs), np.float32))
    groups = np.array([*range(count), *(places.get(query, count + i) for i, query in enumerate(queries))], np.int64)
    found = guide.of_corpus(args, documents, queries, groups)
    likely = found.for_mining(groups, count) if found else None
    runtime.on_rank_0(lambda: _mine(args, documents, queries, pairs, groups, ways, likely))


def _mine(args: argparse.Namespace, documents: Corpus, queries: list[str], pairs: np.ndarray,
          groups: np.ndarray, ways: dict[str, Callable[[], tuple[Search, Scores]]], likely: Likely | None) -> None:
    known = (Known.connected if args.connected_positives else Known)(pairs, groups, len(documents))
    found: list[np.ndarray] = []
    with atomic_file(args.report_file) if args.report_file else contextlib.nullcontext() as out:
        for name, way in ways.items():
            def note(reason: str, rows: np.ndarray, some: np.ndarray, scores: np.ndarray, name: str = name) -> None:
                assert out is not None
                for (query, positive), document, value in zip(pairs[rows].tolist(), some.tolist(), scores.tolist()):
                    out.write(f"{queries[query]}\t{documents[positive]}\t{documents[document]}\t{value:.4f}\t{reason}"
                              f"\t{name}\n")

            search, score = way()
            rules = MiningRules(args.negatives, args.rank_min, args.rank_max, args.margin, args.relative_margin,
                                args.sampling, args.seed + len(found))
            mined = mine(pairs, search, known, rules, score, fill=args.keep_all, dropped=note if out else None,
                         guide=likely)
            runtime.say(f"{name}: {report(mined.counts)}")
            found.append(mined.documents)
        chosen = found[0] if len(found) == 1 else join(found[0], found[1], args.negatives)
        if out:
            out.flush()  # both files or none: what cannot be written shows here, before _write
        _write(args, documents, queries, pairs, chosen)


def _write(args: argparse.Namespace, documents: Corpus, queries: list[str], pairs: np.ndarray,
           chosen: np.ndarray) -> None:
    rows, columns = np.nonzero(chosen >= 0)
    if args.max_per_query:
        asked = pairs[rows, 0]
        by_query = np.lexsort((columns, asked))  # the best of every pair before the second best of any
        starts = np.flatnonzero(np.diff(asked[by_query], prepend=-1))
        place = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
        kept = np.sort(by_query[place < args.max_per_query])
        rows, columns = rows[kept], columns[kept]
    with atomic_file(args.output_file) as file:
        for (query, positive), negative in zip(pairs[rows].tolist(), chosen[rows, columns].tolist()):
            file.write(f"{queries[query]}\t{documents[positive]}\t{documents[negative]}\n")
    lost = len(pairs) - len(np.unique(rows))
    runtime.say(f"{args.output_file}: {counted(len(rows), 'line')}" + f"; {counted(lost, 'pair')} without a negative "
                "left out, --keep_all gives them one at random" * (lost > 0))
