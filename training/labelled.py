"""What train_labelled.py puts together: labelled pairs, checked; a loss over them; what chooses the best checkpoint."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.heads.contrastive import Contrastive, OnlineContrastive
from models.heads.cosine_similarity import CosineSimilarity
from models.heads.labelled import PairHead
from models.heads.multiple_negatives import MultipleNegatives
from models.heads.ordering import CoSent, PairwiseHinge
from semindex import flags, runtime
from semindex.errors import UserError
from semindex.measure.evaluator import Evaluator, SequentialEvaluator
from semindex.measure.labelled import BinaryEvaluator, CorrelationEvaluator
from semindex.text.counted import counted
from semindex.text.tables import labelled_table, numbers, read_table
from training.setup import dev_evaluation, recall_evaluation, with_recall


@dataclass(frozen=True)
class Loss:
    """A value of --loss: how the flags make its head, and which of them it reads."""

    make: Callable[[argparse.Namespace], PairHead]
    flags: tuple[str, ...] = ()


SCALE = ("scale", "temperature")
LOSSES = {
    "contrastive": Loss(lambda args: Contrastive(_margin(args), args.form or "document"), ("margin", "form")),
    "online_contrastive": Loss(lambda args: OnlineContrastive(_margin(args), args.form or "document"),
                               ("margin", "form")),
    "multiple_negatives": Loss(lambda args: MultipleNegatives(flags.scale_of(args, 20.0)), SCALE),
    "cosine": Loss(lambda args: CosineSimilarity()),
    "hinge": Loss(lambda args: PairwiseHinge(_margin(args), args.skip_equal), ("margin", "skip_equal")),
    "cosent": Loss(lambda args: CoSent(flags.scale_of(args, 20.0)), SCALE),
}


def _margin(args: argparse.Namespace) -> float:
    return 0.5 if args.margin is None else args.margin


def head(args: argparse.Namespace) -> PairHead:
    """Return the head of --loss; UserError for a flag that it does not read, and for batches that cannot be halved."""
    loss = LOSSES[args.loss]
    for flag in ("margin", "form", "skip_equal", *SCALE):
        if flag not in loss.flags and getattr(args, flag) not in (None, False):
            others = [name for name, other in LOSSES.items() if flag in other.flags]
            raise UserError(f"--{flag}: --loss {args.loss} does not read it, {', '.join(others)} do; leave it out")
    if args.balanced and args.batch_size * runtime.world_size() % 2:
        raise UserError(f"--balanced: --batch_size {args.batch_size} cannot be halved; give an even one")
    if args.balanced and args.false_negatives == "no_duplicates":
        raise UserError("--balanced deals by label, --false_negatives no_duplicates by text; leave one of them out")
    return loss.make(args)


def read_samples(args: argparse.Namespace, loss: PairHead) -> tuple[list[list[str]], np.ndarray]:
    """Read the training file: pairs and their labels. Raises UserError for labels that teach this loss nothing."""
    pairs, labels, lines = labelled_table(args.train_set_file, args.skip_bad_lines)
    fits = loss.label_range.fits(labels)
    if not fits.all():
        odd = int(np.flatnonzero(~fits)[0])
        raise UserError(f"{args.train_set_file}:{lines.places[odd]}: the label is {labels[odd]:g}, expected "
                        f"{loss.label_range} with --loss {args.loss}; change the labels or the loss (cosine reads -1 "
                        "to 1, cosent any number)")
    matching = int((labels > 0).sum())
    if args.loss in ("hinge", "cosent") and len(np.unique(labels)) < 2:
        raise UserError(f"{args.train_set_file}: all labels are {labels[0]:g}: --loss {args.loss} compares different "
                        "ones; give pairs of both kinds, or another loss")
    if args.loss == "multiple_negatives" and not matching:
        raise UserError(f"{args.train_set_file}: no label is above 0: --loss multiple_negatives has nothing to rank")
    if args.balanced and matching in (0, len(labels)):
        raise UserError(f"{args.train_set_file}: all labels are of one kind, --balanced needs some above 0 and others")
    runtime.say(f"{args.train_set_file}: {counted(len(pairs), 'labelled pair')}{lines.notes()}, {matching} with a "
                "label above 0")
    return pairs, labels


def evaluation(args: argparse.Namespace, samples: list[list[str]]) -> Evaluator | None:
    """Return the evaluation during training: of a labelled dev file recall, where there is a corpus, then the labels'.

    The first one chooses the best checkpoint: recall of the pairs above 0 from --corpus_file; else, of labels 0 and 1,
    the average precision, of others Spearman's correlation. A dev file without labels: see setup.dev_evaluation.
    """
    if not args.dev_set_file:
        return dev_evaluation(args, samples)
    pairs, lines = read_table(args.dev_set_file, (2, 3), args.skip_bad_lines)
    pairs, labels = numbers(pairs, lines, args.skip_bad_lines)
    if labels is None:
        return recall_evaluation(args, samples, pairs, lines)
    if len(np.unique(labels)) < 2:
        raise UserError(f"{args.dev_set_file}: all labels are {labels[0]:g}: there is nothing to tell apart; leave the "
                        "third column out to measure recall alone")
    binary = bool(np.isin(labels, (0, 1)).all())
    runtime.say(f"{args.dev_set_file}: {counted(len(pairs), 'labelled pair')}{lines.notes()}, "
                + ("how well a threshold tells them apart" if binary else "correlation with their cosines"))
    own = (BinaryEvaluator if binary else CorrelationEvaluator)(pairs, labels)
    return with_recall(args, samples, pairs, labels, lines, SequentialEvaluator([own]))
