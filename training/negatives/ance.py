"""What train_ance.py puts together: collection, encoder, negatives, head, evaluation."""

import argparse
import os
import shlex
import sys
from functools import partial

from models import loading
from models.heads.ance import Ance
from models.heads.head import Head
from models.semantic_index import SemanticIndex
from models.weights import scratch
from semindex import cli, collection_flags, flags, runtime
from semindex.collection import sources, store
from semindex.collection.evaluation import RankingEvaluator
from semindex.collection.store import Collection
from semindex.errors import UserError
from semindex.measure.evaluator import Evaluator
from semindex.search.index import IndexSettings
from semindex.text.counted import counted
from semindex.text.tokenizer import TextTokenizer
from training import guide, setup
from training.checkpoints import Checkpoints
from training.negatives.generations import Generations
from training.negatives.miner import Miner
from training.negatives.mining import MiningRules
from training.negatives.refresh import AsyncRefresh, SyncRefresh, check_generations
from training.negatives.training_set import AnceTrainingSet
from training.trainer import train


def rules_of(args: argparse.Namespace) -> MiningRules:
    """Take the rules of mining from the flags of collection_flags.add_mining."""
    if args.rank_min >= args.topk_training:
        raise UserError(f"--rank_min {args.rank_min} leaves nothing of --topk_training {args.topk_training}")
    return MiningRules(args.negative_sample, args.rank_min, args.topk_training, args.margin, args.relative_margin,
                       args.sampling, args.seed)


def identity(path: str) -> str:
    """Return what tells a checkpoint's weights from others: where they are and when they were written."""
    return f"{os.path.realpath(path)} {os.stat(loading.locate(path)[1]).st_mtime_ns}"


def prepare(args: argparse.Namespace) -> None:
    """Tokenise a collection as the flags of prepare_collection.py say."""
    refuse_scratch(args)
    material = sources.of_trec(args)
    model, tokenizer = setup.encoder(args, (), Ance.name)
    store.prepare(args.out_data_dir, sources.tokenised_as(material, args, model.settings), tokenizer)


def refuse_scratch(args: argparse.Namespace) -> None:
    """Raise UserError for an encoder whose vocabulary is yet to be made from the texts."""
    if not args.init_from_ckpt and scratch.claims(args.model_name_or_path or ""):
        raise UserError(f"--model_name_or_path {args.model_name_or_path}: an encoder from random weights has no "
                        "vocabulary before it is trained; name its checkpoint with --init_from_ckpt")


def of_prepared(args: argparse.Namespace) -> tuple[SemanticIndex, TextTokenizer, Collection]:
    """Return the encoder and the collection of --data_dir; UserError where they do not fit."""
    refuse_scratch(args)
    collection = store.load(args.data_dir)
    about = collection.about
    model, tokenizer = setup.encoder(args, (), Ance.name)
    settings = model.settings
    lengths = about.lengths or [settings.max_seq_length, settings.max_query_length]
    for flag, found in (("max_seq_length", lengths[0]), ("max_query_length", lengths[1]), ("max_chunks", about.chunks)):
        given = getattr(args, flag)
        if given is not None and given != found:
            raise UserError(f"--{flag} {given} contradicts --data_dir {args.data_dir}, tokenised with {found}; leave "
                            "the flag out, or tokenise anew with prepare_collection.py")
        setattr(settings, flag, found)
    tokenizer = tokenizer.with_length(settings.max_seq_length)
    collection.check_tokenizer(tokenizer, settings.prompts, args.init_from_ckpt or args.model_name_or_path)
    store.describe(collection, "tokenised before")
    return model, tokenizer, collection


def check_same(directory: str, data_from: store.Sources, tokenizer: TextTokenizer, save_dir: str) -> None:
    """Raise UserError where a run would go on with other data: before the collection of the old ones is replaced."""
    about, latest = store.read_about(directory), Checkpoints(save_dir).latest()
    if latest and about is not None and about.key != store.key_of(data_from, tokenizer):
        raise UserError(f"--resume: {directory}, which {latest} was trained on, was made from other data, lengths or "
                        "another tokenizer; give the same, or --init_from_ckpt to start a new run from its weights")


def generator_command(args: argparse.Namespace) -> str:
    """Return the command line of run_ann_data_gen.py that goes with a train_ance.py, quoted for a shell."""
    script = os.path.join(os.path.dirname(sys.argv[0]), "run_ann_data_gen.py")
    words = ["python", script, "--training_dir", args.save_dir]
    if args.data_dir:
        words += ["--data_dir", args.data_dir]
    shared = cli.Parser("")  # what the two jobs must have alike
    flags.add_device(shared)
    collection_flags.add_guide(shared, collection_flags.add_mining(shared))
    flags.add_index(shared)
    for action in shared._actions:
        value = getattr(args, action.dest, action.default)
        if value != action.default:
            words += [action.option_strings[0], *([] if action.nargs == 0 else [str(value)])]
    return shlex.join(words)


def run(args: argparse.Namespace) -> str:
    """Train as the flags say; return the best checkpoint's directory."""
    ann_dir, rules = args.ann_dir or os.path.join(args.save_dir, "ann"), rules_of(args)
    runtime.on_rank_0(lambda: check_generations(ann_dir))
    setup.check_save_dir(args)
    samples = setup.read_samples(args, (2, 3)) if args.train_set_file else []
    if samples or args.queries_file:
        material = sources.of_pairs(args, samples) if samples else sources.of_trec(args)
        model, tokenizer = setup.encoder(args, sources.vocabulary_texts(material), Ance.name)
        data_from = sources.tokenised_as(material, args, model.settings)
        directory = args.data_dir or os.path.join(args.save_dir, "collection")
        if args.resume:
            runtime.on_rank_0(lambda: check_same(directory, data_from, tokenizer, args.save_dir))
        collection = store.prepare(directory, data_from, tokenizer)
    else:
        model, tokenizer, collection = of_prepared(args)
    if not len(collection.pairs):
        raise UserError("no training query has a document with a grade above 0 and a text")
    index = IndexSettings.from_flags(args)
    dot = model.settings.similarity == "dot"
    head: Head = Ance(flags.scale_of(args, 1.0 if dot else 20.0), args.in_batch, collection.about.chunks)
    head = setup.at_widths(args, head, model)
    guided = guide.of_collection(args, collection, in_batch=args.in_batch)  # encodes: behind all that can be refused
    data = AnceTrainingSet(
        collection, args.batch_size, args.train_negatives,
        repr((args.refresh, args.refresh_steps, args.warmup, args.connected_positives, rules)),
        guide=guided, **setup.dealing(args, model, tokenizer, 1 + (1 + args.train_negatives) * collection.about.chunks))
    runtime.say(f"{counted(len(data.rows), 'training pair')}")
    make = partial(AsyncRefresh, generator_command(args)) if args.refresh == "async" else SyncRefresh
    refresh = make(data, Miner(collection, rules, index, args.connected_positives, guided),
                   Generations(ann_dir), tokenizer, args.refresh_steps, args.warmup,
                   identity(args.init_from_ckpt) if args.init_from_ckpt else "")
    evaluator: Evaluator | None = None
    if samples:
        evaluator = setup.dev_evaluation(args, samples)
    elif len(collection.judged(training=False)):
        evaluator = RankingEvaluator(collection, index)
    if evaluator is None and args.evaluate_during_training:
        runtime.warn("--evaluate_during_training: there is nothing to evaluate with; --dev_set_file, or "
                     "--dev_queries_file and --dev_qrels_file, name it")
    return train(model, tokenizer, head, data, setup.schedule(args), args.false_negatives != "keep", evaluator, refresh)
