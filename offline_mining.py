"""What mine_negatives.py puts together: pairs, a dense or keyword search or both, the file of triples."""

import argparse
import contextlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

import runtime
from ance_data import numbered, read_training
from ann_util import IndexSettings, build_index
from bm25 import Bm25
from data import Corpus
from deploy.python.serving.whole import whole_file
from encoder import encode
from mining import Known, Mined, MiningRules, Scores, Search, mine, report
from models import semantic_index
from options import UserError
from recall_files import check_outputs
from static_graph import fast_encoder


def dense(args: argparse.Namespace, documents: Corpus, queries: list[str]) -> tuple[Search, Scores]:
    """Return search and scores by the encoder of --params_path. Every rank calls it; rank 0's work."""
    model, tokenizer = semantic_index.load(args.params_path, {})
    runtime.say(f"Loaded parameters from {args.params_path}")
    encoder, _ = fast_encoder(model, tokenizer, args.engine, len(documents), args.batch_size)
    vectors, asked = encode(encoder, documents, "encode corpus"), encode(encoder, queries, "encode queries")
    if runtime.rank() > 0:
        return lambda block: (block, block), lambda pairs: pairs
    index = build_index(vectors, IndexSettings.from_flags(args), len(queries))
    return (lambda block: index.search(asked[block], args.rank_max),
            lambda pairs: np.einsum("ij,ij->i", asked[pairs[:, 0]], vectors[pairs[:, 1]]))


def keyword(args: argparse.Namespace, documents: Corpus, queries: list[str]) -> tuple[Search, Scores]:
    """Return search and scores by BM25."""
    index = Bm25(documents, source=args.corpus_file or args.train_set_file)

    def search(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found, scores = index.search([queries[number] for number in block], args.rank_max)
        return np.where(scores > 0, found, -1), scores

    return search, lambda pairs: index.scores([queries[number] for number in pairs[:, 0]], pairs[:, 1].tolist())


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
    runtime.on_rank_0(lambda: check_outputs(args.output_file, args.report_file))
    samples = read_training(args)
    if len(samples[0]) != 2:
        raise UserError(f"{args.train_set_file}: {len(samples[0])} columns; negatives are mined for query<TAB>positive")
    documents, queries, pairs = numbered(args, samples)
    hashes = {text: number for number, text in enumerate(documents)}
    extra = len(documents)
    groups = np.array([*range(extra), *(hashes.get(query, extra + i) for i, query in enumerate(queries))], np.int64)
    known = (Known.connected if args.connected_positives else Known)(pairs, groups, extra)
    rules = MiningRules(args.negatives, args.rank_min, args.rank_max, args.margin, args.relative_margin, args.sampling,
                        args.seed)
    ways = {"dense": dense, "bm25": keyword}
    found: list[Mined] = []
    with whole_file(args.report_file) if args.report_file and runtime.rank() == 0 else contextlib.nullcontext() as out:
        for name in ways if args.by == "both" else (args.by,):
            search, score = ways[name](args, documents, queries)

            def note(reason: str, rows: np.ndarray, some: np.ndarray, scores: np.ndarray, name: str = name) -> None:
                assert out is not None
                for (query, positive), document, value in zip(pairs[rows].tolist(), some.tolist(), scores.tolist()):
                    out.write(f"{queries[query]}\t{documents[positive]}\t{documents[document]}\t{value:.4f}\t{reason}"
                              f"\t{name}\n")

            def work(search: Search = search, score: Scores = score,
                     note: Callable[..., None] | None = note if out else None) -> Mined:
                return mine(pairs, search, known, replace(rules, seed=rules.seed + len(found)), score,
                            fill=args.keep_all, dropped=note)

            mined = work() if runtime.rank() == 0 else None
            if mined is not None:
                runtime.say(f"{name}: {report(mined.counts)}")
                found.append(mined)
    if runtime.rank() == 0:
        chosen = found[0].documents if len(found) == 1 else join(found[0].documents, found[1].documents,
                                                                         rules.negatives)
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
    with whole_file(args.output_file) as file:
        for (query, positive), negative in zip(pairs[rows].tolist(), chosen[rows, columns].tolist()):
            file.write(f"{queries[query]}\t{documents[positive]}\t{documents[negative]}\n")
    lost = len(pairs) - len(np.unique(rows))
    runtime.say(f"{args.output_file}: {len(rows)} lines" + f"; {lost} pairs found no negative and are left out, "
                "--keep_all gives them one at random" * (lost > 0))
