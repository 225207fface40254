"""What train_ance.py puts together: collection, encoder, negatives, head, evaluation."""

import argparse
import os

from models.heads.ance import Ance
from semindex import runtime
from semindex.collection import sources, store
from semindex.collection.evaluation import RankingEvaluator
from semindex.errors import UserError
from semindex.measure.evaluator import Evaluator
from semindex.search.index import IndexSettings
from training import setup
from training.negatives.generations import Generations
from training.negatives.miner import Miner
from training.negatives.mining import MiningRules
from training.negatives.refresh import AsyncRefresh, SyncRefresh, check_generations
from training.negatives.training_set import AnceTrainingSet
from training.trainer import train


def rules_of(args: argparse.Namespace) -> MiningRules:
    """Take the rules of mining from the flags of options.add_mining."""
    if args.rank_min >= args.topk_training:
        raise UserError(f"--rank_min {args.rank_min} leaves nothing of --topk_training {args.topk_training}")
    return MiningRules(args.negative_sample, args.rank_min, args.topk_training, args.margin, args.relative_margin,
                       args.sampling, args.seed)


def run(args: argparse.Namespace) -> str:
    """Train as the flags say; return the best checkpoint's directory."""
    samples = setup.read_samples(args, (2, 3)) if args.train_set_file else []
    data_from = sources.of_pairs(args, samples) if samples else sources.of_trec(args)
    model, tokenizer = setup.encoder(args, sources.vocabulary_texts(data_from), Ance.name)
    sources.set_lengths(data_from, args, model.settings)
    collection = store.prepare(args.data_dir or os.path.join(args.save_dir, "collection"), data_from, tokenizer)
    data = AnceTrainingSet(
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
    evaluator: Evaluator | None = None
    if samples:
        evaluator = setup.dev_evaluation(args, samples)
    elif args.dev_qrels_file:
        evaluator = RankingEvaluator(collection, index)
    schedule = setup.schedule(args)
    if args.refresh == "async" and args.refresh_steps:
        schedule.save_steps = args.refresh_steps  # what the other job makes negatives from
    return train(model, tokenizer, head, data, schedule, args.false_negatives != "keep", evaluator, refresh)
