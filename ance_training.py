"""What train_ance.py and rank_collection.py put together: collection, encoder, negatives, head, evaluation."""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable

import numpy as np

import ance_data
import collection as collections
import runtime
import training_setup as setup
import trec
import trec_metrics
from ance_refresh import AsyncRefresh, Miner, SyncRefresh, check_generations
from ann_util import IndexSettings
from generations import Generations
from mining import MiningRules
from models import semantic_index
from models.ance import Ance
from options import UserError
from ranking import DevRanking, make_ranker
from recall_files import check_outputs
from static_graph import fast_encoder
from text_tokenizer import TextTokenizer
from trainer import train


def rules_of(args: argparse.Namespace) -> MiningRules:
    """Take the rules of mining from the flags of options.add_mining."""
    if args.rank_min >= args.topk_training:
        raise UserError(f"--rank_min {args.rank_min} leaves nothing of --topk_training {args.topk_training}")
    return MiningRules(args.negative_sample, args.rank_min, args.topk_training, args.margin, args.relative_margin,
                       args.sampling, args.seed)


def prepare(directory: str, sources: collections.Sources, tokenizer: TextTokenizer) -> collections.Collection:
    """Tokenise a collection into a directory, unless it is there; every rank opens it."""
    new = runtime.on_rank_0(lambda: collections.build(directory, sources, tokenizer))
    found = collections.load(directory)
    about = found.about
    runtime.say(f"{directory}: {about.documents} documents, {about.passages} passages, {about.queries} queries, "
                + ("tokenised" if new else "tokenised before"))
    return found


def run(args: argparse.Namespace) -> str:
    """Train as the flags say; return the best checkpoint's directory."""
    samples = setup.read_samples(args, (2, 3)) if args.train_set_file else []
    sources = ance_data.of_pairs(args, samples) if samples else ance_data.of_trec(args)
    model, tokenizer = setup.encoder(args, ance_data.vocabulary_texts(sources), Ance.name)
    ance_data.settle(sources, args, model.settings)
    collection = prepare(args.data_dir or os.path.join(args.save_dir, "collection"), sources, tokenizer)
    data = ance_data.AnceTrainingSet(
        collection, args.batch_size, args.train_negatives,
        repr((args.refresh, args.refresh_steps, args.warmup, args.connected_positives, rules_of(args))),
        **setup.dealing(args, model, tokenizer, 1 + (1 + args.train_negatives) * collection.about.chunks))
    if not len(data.rows):
        raise UserError("no training query has a document with a grade above 0 and a text")
    runtime.say(f"{len(data.rows)} training pairs")
    ann_dir = args.ann_dir or os.path.join(args.save_dir, "ann")
    runtime.on_rank_0(lambda: check_generations(ann_dir))
    index = IndexSettings.from_flags(args)
    dot = model.settings.similarity == "dot"
    head = Ance(args.scale or (1.0 if dot else 20.0), args.in_batch, collection.about.chunks)
    make = AsyncRefresh if args.refresh == "async" else SyncRefresh
    refresh = make(data, Miner(collection, rules_of(args), index, args.connected_positives),
                   Generations(ann_dir), tokenizer, args.refresh_steps, args.warmup)
    evaluate: Callable[[semantic_index.SemanticIndex], dict[str, float]] | None = None
    if samples:
        evaluate = setup.dev_evaluation(args, samples, tokenizer)
    elif args.dev_qrels_file:
        evaluate = DevRanking(collection, tokenizer, index)
    schedule = setup.schedule(args)
    if args.refresh == "async" and args.refresh_steps:
        schedule.save_steps = args.refresh_steps  # what the other job makes negatives from
    return train(model, tokenizer, head, data, schedule, args.false_negatives != "keep", evaluate, refresh)


def rank(args: argparse.Namespace) -> None:
    """Rank as the flags of rank_collection.py say and write the run."""
    runtime.on_rank_0(lambda: check_outputs(args.run_file))
    model, tokenizer = semantic_index.load(args.params_path, vars(args))
    runtime.say(f"Loaded parameters from {args.params_path}")
    args.qrels_file = args.dev_queries_file = args.dev_qrels_file = None
    candidates = None
    if args.candidates_file:
        candidates = trec.read_candidates(args.candidates_file, args.skip_bad_lines)
    sources = ance_data.of_trec(args)
    ance_data.settle(sources, args, model.settings)
    with contextlib.ExitStack() as stack:
        directory = args.data_dir
        if not directory:
            directory = runtime.share(stack.enter_context(tempfile.TemporaryDirectory()) if runtime.rank() == 0 else "")
            directory = os.path.join(directory, "collection")
        collection = prepare(directory, sources, tokenizer)
        encoder, _ = fast_encoder(model, tokenizer, args.engine, collection.about.passages, args.batch_size)
        queries = np.arange(collection.about.queries)
        ranker = make_ranker(collection, encoder, queries, IndexSettings.from_flags(args))

        def write() -> None:
            run = ranker.run(queries, min(args.depth, collection.about.documents), candidates)
            rows = ((query, [(name, row[name]) for name in trec_metrics.ordered(row)]) for query, row in run.items())
            runtime.say(f"{args.run_file}: {trec.write_run(args.run_file, rows, 'semantic_index')} lines")

        runtime.on_rank_0(write)
