"""What every training script does between its flags and its head: data, encoder, dev evaluation, schedule."""

import argparse
import dataclasses
from collections.abc import Callable

import runtime
from ann_util import IndexSettings
from data import Corpus, Lines, TrainingSet, read_corpus, read_table
from encoder import BATCH
from models import scratch, semantic_index
from options import UserError
from retrieval import DevRecall
from text_tokenizer import TextTokenizer
from trainer import Schedule


def schedule(args: argparse.Namespace) -> Schedule:
    """Take the schedule from the flags."""
    values = {f.name: getattr(args, f.name) for f in dataclasses.fields(Schedule)}
    if args.use_amp:
        values["precision"] = "auto"
    return Schedule(**values)


def read_samples(args: argparse.Namespace, columns: tuple[int, ...]) -> tuple[list[list[str]], Lines]:
    """Read the training file; UserError for labelled pairs, which are another script's."""
    samples, lines = read_table(args.train_set_file, columns, args.skip_bad_lines)
    if len(samples[0]) == 3 and {row[2] for row in samples} <= {"0", "1"}:
        raise UserError(f"{args.train_set_file}: the third column holds labels 0 and 1, not hard negatives; "
                        "keep the pairs with label 1 and their first two columns")
    runtime.say(f"{args.train_set_file}: {len(samples)} samples of {len(samples[0])} columns{lines.notes()}")
    return samples, lines


def encoder(args: argparse.Namespace, samples: list[list[str]], head: str,
            default: str) -> tuple[semantic_index.SemanticIndex, TextTokenizer]:
    """Build the encoder the flags ask for: of --init_from_ckpt, by --model_name_or_path, or the default."""
    flags, rate = vars(args), 0.1 if args.head_dropout is None else args.head_dropout
    name = args.model_name_or_path or default
    if args.init_from_ckpt:
        directory, weights = semantic_index.locate(args.init_from_ckpt)
        if semantic_index.read_settings(directory):
            model, tokenizer = semantic_index.load(args.init_from_ckpt, flags, rate)
        else:
            if scratch.is_scratch(name):
                raise UserError(f"--init_from_ckpt {args.init_from_ckpt}: holds weights only; name their encoder "
                                "with --model_name_or_path")
            model, tokenizer = semantic_index.create(name, flags, head=head, head_dropout=rate)
            semantic_index.load_weights(model, weights, may_lack=("emb_reduce_linear.",))
        runtime.say(f"warmup from:{args.init_from_ckpt}")
        model.settings.head = head
    else:
        texts = (text for row in samples for text in row)
        model, tokenizer = semantic_index.create(name, flags, texts, head, rate)
    return model, tokenizer


def training_set(args: argparse.Namespace, samples: list[list[str]], tokenizer: TextTokenizer) -> TrainingSet:
    """Tokenise the samples and say how many are false negatives of one another."""
    data = TrainingSet(samples, tokenizer, args.batch_size, args.seed, runtime.rank(), runtime.world_size(),
                       tokenizer.pad_id, args.false_negatives == "no_duplicates")
    shared = data.shared_texts()
    if shared:
        how = {"mask": "masked as negatives of one another", "keep": "kept as negatives of one another",
               "no_duplicates": "dealt into different batches"}[args.false_negatives]
        runtime.say(f"{shared} of {len(samples)} samples share a text with another one: {how}")
    cut = int((data.tokens.lengths == tokenizer.max_seq_length).sum())
    if cut:
        runtime.say(f"{cut} of {len(data.tokens)} texts reach --max_seq_length {tokenizer.max_seq_length}, "
                    "longer ones are cut")
    return data


def dev_recall(args: argparse.Namespace, samples: list[list[str]], tokenizer: TextTokenizer) -> Callable | None:
    """Return the evaluation during training, None where no dev file is given."""
    if not args.dev_set_file:
        for flag in ("evaluate", "eval_steps", "early_stopping"):
            if getattr(args, flag):
                raise UserError(f"--{flag} needs --dev_set_file")
        return None
    pairs, _ = read_table(args.dev_set_file, (2, 3), args.skip_bad_lines)
    if args.corpus_file:
        corpus, _ = read_corpus(args.corpus_file, args.skip_bad_lines)
    else:
        corpus = Corpus.from_texts([text for row in samples for text in row[:2]] + [row[1] for row in pairs])
    runtime.say(f"{args.dev_set_file}: {len(pairs)} pairs, recalled from {len(corpus)} texts")
    return DevRecall(pairs, corpus, tokenizer, BATCH, args.recall_num, IndexSettings.from_flags(args),
                     args.recall_result_dir, args.recall_result_file, args.evaluate_result)
