"""What every training script does around its head: data, encoder, dev evaluation, schedule, training."""

import argparse
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from data import TrainingSet
from models import loading
from models.heads.head import Head
from models.heads.matryoshka import Matryoshka
from models.semantic_index import SemanticIndex
from models.settings import read_settings
from models.weights import huggingface, scratch
from semindex import runtime
from semindex.errors import UserError
from semindex.files import named
from semindex.measure.evaluator import Evaluator, SequentialEvaluator
from semindex.measure.labelled import CorrelationEvaluator
from semindex.measure.recall import RecallEvaluator
from semindex.roles import check_kept
from semindex.search.index import IndexSettings
from semindex.text.corpus import Corpus, read_corpus
from semindex.text.counted import counted, verb
from semindex.text.tables import ReadReport, numbers, read_table
from semindex.text.tokenizer import TextTokenizer
from training import guide
from training.checkpoints import Checkpoints
from training.schedule import Schedule
from training.trainer import train


def chunk_size(model: SemanticIndex) -> int:
    """Return how many texts of similar length to encode at once where no flag says it."""
    if not runtime.on_cpu():
        return 256
    # Little padding pays more than large products, the more the wider the encoder.
    return 16 if model.ptm.config.hidden_size >= 512 else 32


def schedule(args: argparse.Namespace) -> Schedule:
    """Take the schedule from the flags."""
    return Schedule(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Schedule)})


def check_save_dir(args: argparse.Namespace) -> None:
    """Raise UserError where no checkpoint can go into --save_dir, or no guide is there: before anything is read."""
    guide.check(args)
    runtime.on_rank_0(lambda: Checkpoints(args.save_dir).check(args.resume, args.overwrite))


def read_samples(args: argparse.Namespace, columns: tuple[int, ...]) -> list[list[str]]:
    """Read the training file; UserError for labelled pairs, which are another script's."""
    samples, lines = read_table(args.train_set_file, columns, args.skip_bad_lines)
    samples, labels = numbers(samples, lines, args.skip_bad_lines)
    if labels is not None:
        raise UserError(f"{args.train_set_file}: the third column holds numbers, which look like labels, not hard "
                        "negatives; keep the first two columns of the pairs that match; train_labelled.py reads labels")
    runtime.say(f"{args.train_set_file}: {counted(len(samples), 'sample')} of {counted(len(samples[0]), 'column')}"
                f"{lines.notes()}")
    return samples


def encoder(args: argparse.Namespace, texts: Iterable[str],
            head: str) -> tuple[SemanticIndex, TextTokenizer]:
    """Build the encoder the flags ask for: of --init_from_ckpt, by --model_name_or_path, or the recipe's.

    texts: for the vocabulary of one from random weights.
    """
    flags, rates = vars(args), [args.head_dropout, args.dropout, 0.1]
    rate = next(rate for rate in rates if rate is not None)
    name = args.model_name_or_path or "rocketqa-zh-base-query-encoder"
    if args.init_from_ckpt and huggingface.claims(args.init_from_ckpt):  # what others published, named either way
        name, args.init_from_ckpt = args.init_from_ckpt, None
    if args.init_from_ckpt:
        check_kept(args.init_from_ckpt, "--init_from_ckpt")
        directory, weights = loading.locate(args.init_from_ckpt)
        if read_settings(directory):
            model, tokenizer = loading.load(args.init_from_ckpt, flags, rate)
        else:
            if scratch.claims(name):
                raise UserError(f"--init_from_ckpt {args.init_from_ckpt}: holds weights only; name their encoder "
                                "with --model_name_or_path")
            model, tokenizer = loading.create(name, flags, head=head, head_dropout=rate)
            loading.load_weights(model, weights, may_lack=("emb_reduce_linear.",))
        runtime.say(f"warmup from:{args.init_from_ckpt}")
        model.set_head(head)
    else:
        if os.path.exists(name):
            check_kept(name, "--model_name_or_path")
        with named(tempfile.gettempdir()):  # where a vocabulary is made
            model, tokenizer = loading.create(name, flags, texts, head, rate)
    return model, tokenizer


def dealing(args: argparse.Namespace, model: SemanticIndex, tokenizer: TextTokenizer,
            columns: int) -> dict[str, Any]:
    """Return how a TrainingSet is to deal samples of so many columns, as its __init__'s arguments."""
    chunk = args.chunk_size or chunk_size(model)
    if args.chunk_numbers:
        chunk = -(-args.batch_size * columns // args.chunk_numbers)
    return {"seed": args.seed, "rank": runtime.rank(), "world": runtime.world_size(), "pad_id": tokenizer.pad_id,
            "no_duplicates": args.false_negatives == "no_duplicates", "chunk": chunk,
            "source": os.path.basename(args.train_set_file or args.queries_file or "")}


def training_set(args: argparse.Namespace, samples: list[list[str]], model: SemanticIndex,
                 tokenizer: TextTokenizer, labels: np.ndarray | None = None,
                 guided: guide.Guide | None = None) -> TrainingSet:
    """Tokenise the samples and say how many are false negatives of one another.

    labels: of each, where it has one. guided: the guide that knows of more, see TrainingSet.
    """
    more: dict[str, Any] = {"guide": guided}
    if labels is not None:
        more |= {"labels": labels.astype(np.float32), "alike": labels > 0, "balanced": args.balanced}
    data = TrainingSet.from_samples(samples, tokenizer, args.batch_size, prompts=model.settings.prompts,
                                    **dealing(args, model, tokenizer, max(2, len(samples[0]))), **more)
    shared = data.shared_texts()
    if shared and labels is None:
        how = {"mask": "masked as negatives of one another", "keep": "kept as negatives of one another",
               "no_duplicates": "dealt into different batches"}[args.false_negatives]
        runtime.say(f"{shared} of {counted(len(samples), 'sample')} {verb(shared, 'shares', 'share')} a text with "
                    f"another one: {how}")
    lost = len(samples) - sum(map(len, data.plan(0)))
    if lost and args.false_negatives == "no_duplicates":
        runtime.say(f"{counted(lost, 'sample')} left out of the first epoch: no batch without a duplicate is left; "
                    "--false_negatives mask uses every sample")
    cut = int((data.tokens.lengths == tokenizer.max_seq_length).sum())
    if cut:
        runtime.say(f"{cut} of {counted(len(data.tokens), 'text')} {verb(cut, 'reaches', 'reach')} --max_seq_length "
                    f"{tokenizer.max_seq_length}, longer ones are cut")
    return data


def dev_evaluation(args: argparse.Namespace, samples: list[list[str]]) -> Evaluator | None:
    """Return the evaluation during training, None where no dev file is given: Spearman for labelled pairs, recall of
    those above 0 before it where there is a corpus."""
    if not args.dev_set_file:
        own = () if hasattr(args, "queries_file") else ("corpus_file",)  # ANCE draws negatives from it
        for flag in ("evaluate", "eval_steps", "early_stopping", *own):
            if getattr(args, flag):
                raise UserError(f"--{flag} needs --dev_set_file")
        return None
    pairs, lines = read_table(args.dev_set_file, (2, 3), args.skip_bad_lines)
    pairs, labels = numbers(pairs, lines, args.skip_bad_lines)
    if labels is not None:
        runtime.say(f"{args.dev_set_file}: {counted(len(pairs), 'labelled pair')}{lines.notes()}, "
                    "Spearman's correlation with their cosines")
        return with_recall(args, samples, pairs, labels, lines, CorrelationEvaluator(pairs, labels))
    return recall_evaluation(args, samples, pairs, lines)


def with_recall(args: argparse.Namespace, samples: list[list[str]], pairs: list[list[str]], labels: np.ndarray,
                lines: ReadReport, own: Evaluator) -> Evaluator:
    """Return the evaluation of labelled pairs, behind recall of those above 0 where there is a corpus to find them in:
    the first one chooses the best checkpoint."""
    if not args.corpus_file:
        return own
    matching = [row[:2] for row, label in zip(pairs, labels) if label > 0]
    if not matching:
        raise UserError(f"{args.dev_set_file}: no pair has a label above 0, there is nothing to find in --corpus_file")
    return SequentialEvaluator([recall_evaluation(args, samples, matching, lines), own])


def recall_evaluation(args: argparse.Namespace, samples: list[list[str]], pairs: list[list[str]],
                      lines: ReadReport) -> RecallEvaluator:
    """Return the recall of dev pairs from --corpus_file, else from the training texts and their own second column.

    lines: what reading the pairs met.
    """
    if args.corpus_file:
        corpus, _ = read_corpus(args.corpus_file, args.skip_bad_lines)
        wanted = {row[1] for row in pairs}
        if not any(text in wanted for text in corpus):
            raise UserError(f"--corpus_file {args.corpus_file}: holds no positive of {args.dev_set_file}; is it the "
                            "corpus of these pairs?")
    else:
        corpus = Corpus.from_texts([text for row in samples for text in row[:2]] + [row[1] for row in pairs])
    runtime.say(f"{args.dev_set_file}: {counted(len(pairs), 'pair')}{lines.notes()}, recalled from "
                f"{counted(len(corpus), 'text')}")
    return RecallEvaluator(pairs, corpus, args.recall_num, IndexSettings.from_flags(args),
                           args.recall_result_dir, args.recall_result_file, args.evaluate_result)


def at_widths(args: argparse.Namespace, head: Head, model: SemanticIndex) -> Head:
    """Return the head as --matryoshka_dims wants it; the checkpoints will say which widths those are, or none.

    Training, and the evaluation in it, look at whole vectors, whatever a checkpoint it starts from kept of them. Raises
    UserError for widths that the encoder's vectors do not have.
    """
    dims, settings = args.matryoshka_dims or [], model.settings
    settings.matryoshka_dims, settings.truncate_dim = sorted(dims), 0
    if not dims:
        return head
    if settings.similarity == "dot":
        raise UserError("--matryoshka_dims: vectors for inner products cannot be cut; leave it or --similarity dot out")
    if max(dims) > model.width:
        raise UserError(f"--matryoshka_dims {max(dims)}: the encoder's vectors have {model.width} numbers")
    if len(set(dims)) < len(dims):
        raise UserError(f"--matryoshka_dims {' '.join(map(str, dims))}: the same width twice")
    return Matryoshka(head, dims)


def train_head(args: argparse.Namespace, samples: list[list[str]], head: Head, labels: np.ndarray | None = None,
               evaluation: Callable[[argparse.Namespace, list[list[str]]], Evaluator | None] = dev_evaluation) -> str:
    """Train an encoder with a head as the flags say; return the best checkpoint's directory.

    labels: of the samples, for heads that read them. evaluation: what makes the evaluation during training.
    """
    model, tokenizer = encoder(args, (text for row in samples for text in row), head.name)
    wrapped = at_widths(args, head, model)
    guided = guide.of_samples(args, samples, getattr(head, "symmetric", False))
    data = training_set(args, samples, model, tokenizer, labels, guided)
    evaluate = evaluation(args, samples)
    return train(model, tokenizer, wrapped, data, schedule(args), args.false_negatives != "keep", evaluate)
