"""The flags that the ANCE document prints (Microsoft's drivers): what each is called here, or that it has no meaning.

docs/from_the_documents.md lists them. Imports neither paddle nor numpy.
"""

import argparse
import os
from collections.abc import Callable
from typing import Any

from semindex.cli import Parser, natural, number, positive_int
from semindex.errors import UserError

CHUNK = 512  # tokens of a passage under --model_type rdot_nll_multi_chunk
# Files of MS MARCO in the document's data directory: corpus, training queries and judgements, those to evaluate with.
FILE_FLAGS = ("corpus_file", "queries_file", "qrels_file", "dev_queries_file", "dev_qrels_file")
MSMARCO = {
    0: ("msmarco-docs.tsv", "msmarco-doctrain-queries.tsv", "msmarco-doctrain-qrels.tsv",
        "msmarco-test2019-queries.tsv", "2019qrels-docs.txt"),
    1: ("collection.tsv", "queries.train.tsv", "qrels.train.tsv", "queries.dev.small.tsv", "qrels.dev.small.tsv"),
}


def whole_epochs(value: str) -> int:
    """Return a number of epochs that may be written 2.0; an argparse type."""
    try:
        epochs = float(value if value.isascii() else "")
        if epochs != int(epochs) or epochs < 0:
            raise ValueError
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"'{value}' is not a whole number from 0 up; --max_steps ends within an "
                                         "epoch") from None
    return int(epochs)


class _Note(argparse.Action):
    """Remember that a flag was given which has no meaning here."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        namespace.passed_over = {**getattr(namespace, "passed_over", {}), option_string: self.const}


def _add_passed_over(group: argparse._ArgumentGroup, flags: dict[str, str], nargs: int | str | None = None) -> None:
    for flag, reason in flags.items():
        group.add_argument(flag, action=_Note, nargs=nargs, const=reason, dest="passed_over", default={}, metavar="X",
                           help=f"passed over: {reason}")


def passed_over(args: argparse.Namespace) -> str:
    """Return one line that names the given flags that have no meaning here, '' where there is none."""
    if not args.passed_over:
        return ""
    return "passed over: " + ", ".join(f"{flag} ({reason})" for flag, reason in args.passed_over.items())


def _add_alias(group: argparse._ArgumentGroup, flag: str, of: str, **options: Any) -> None:
    """Add another name of a flag that the parser has."""
    group.add_argument(flag, dest=of.removeprefix("--"), default=argparse.SUPPRESS, help=f"the same as {of}", **options)


def add_model_type(group: argparse._ArgumentGroup) -> None:
    """`--model_type`, for set_model_type."""
    group.add_argument("--model_type", "--train_model_type", dest="model_type",
                       choices=["rdot_nll", "rdot_nll_multi_chunk"],
                       help="rdot_nll: --similarity dot --max_chunks 1; rdot_nll_multi_chunk: --similarity dot, and "
                            f"--max_seq_length 2048 means passages of {CHUNK} tokens, --max_chunks 4")


def add_similarity(group: argparse._ArgumentGroup) -> None:
    """`--similarity`."""
    group.add_argument("--similarity", choices=["cosine", "dot"],
                       help="cosine of unit vectors, or the paper's dot product behind a linear layer and a layer norm "
                            "[cosine, or the checkpoint's]")


def set_model_type(args: argparse.Namespace) -> None:
    """Say --model_type in this project's flags; UserError for a length that is not whole passages."""
    if not args.model_type:
        return
    args.similarity = args.similarity or "dot"
    if args.model_type == "rdot_nll":
        args.max_chunks = args.max_chunks or 1
    elif args.max_chunks is None:
        length = args.max_seq_length or 4 * CHUNK
        if length > CHUNK and length % CHUNK:
            raise UserError(f"--max_seq_length {length}: with --model_type rdot_nll_multi_chunk it is the length of a "
                            f"document, a multiple of {CHUNK}")
        args.max_chunks, args.max_seq_length = max(1, length // CHUNK), min(length, CHUNK)


def set_checkpoint(args: argparse.Namespace, marker: str = "semantic_index.json") -> None:
    """Take a checkpoint that --model_name_or_path names, as the document's drivers do, as --init_from_ckpt."""
    name = args.model_name_or_path
    if name and not args.init_from_ckpt and os.path.isfile(os.path.join(name, marker)):
        args.init_from_ckpt, args.model_name_or_path = name, None


def add_training(parser: Parser) -> None:
    """Flags of run_ann.py and run_warmup.py beside those of train_ance.py."""
    group = parser.add_argument_group("names of the ANCE document (docs/from_the_documents.md)")
    add_model_type(group)
    _add_alias(group, "--per_gpu_train_batch_size", "--batch_size", type=positive_int, metavar="N")
    _add_alias(group, "--num_train_epochs", "--epochs", type=whole_epochs, metavar="N")
    _add_alias(group, "--logging_steps", "--log_steps", type=positive_int, metavar="N")
    _add_alias(group, "--output_dir", "--save_dir", metavar="DIR")
    group.add_argument("--overwrite_output_dir", action="store_true", dest="overwrite", default=argparse.SUPPRESS,
                       help="the same as --overwrite")
    group.add_argument("--fp16", action="store_const", const="auto", dest="precision", default=argparse.SUPPRESS,
                       help="the same as --precision auto")
    group.add_argument("--evaluate_during_training", action="store_true",
                       help="warn where there is nothing to evaluate with; evaluation takes place wherever there is")
    group.add_argument("--logging_steps_per_eval", type=positive_int, metavar="N",
                       help="evaluate at every N-th log line: --eval_steps is N times --log_steps")
    for flag, what in (("--triplet", "the loss over query, positive and negatives is the only one here"),
                       ("--do_train", "this script trains"),
                       ("--single_warmup", "the learning rate rises once, also where negatives change")):
        group.add_argument(flag, action="store_true", help=f"as it is: {what}")
    _add_passed_over(group, {
        "--task_name": "there is one task", "--cache_dir": "downloads stay in paddlenlp's cache",
        "--expected_train_size": "the data are counted", "--log_dir": "the log is SAVE_DIR/visualdl",
        "--per_gpu_eval_batch_size": "evaluation fills its batches by tokens"})
    _add_passed_over(group, {"--load_optimizer_scheduler": "--resume goes on with optimizer and schedule"}, nargs=0)


def set_training(args: argparse.Namespace) -> None:
    """Say the flags of add_training in this project's."""
    set_model_type(args)
    set_checkpoint(args)
    if args.logging_steps_per_eval and (args.dev_set_file or not args.train_set_file):
        args.eval_steps = args.logging_steps_per_eval * args.log_steps


def add_generator(parser: Parser) -> None:
    """Flags of the document's run_ann_data_gen.py beside those of ours."""
    group = parser.add_argument_group("names of the ANCE document (docs/from_the_documents.md)")
    _add_alias(group, "--per_gpu_eval_batch_size", "--batch_size", type=positive_int, metavar="N")
    group.add_argument("--end_output_num", type=natural, metavar="N",
                       help="end after generation N; 0: after the first one [when the training ends]")
    known = "the checkpoint and the collection say it"
    _add_passed_over(group, {"--model_type": known, "--max_seq_length": known, "--max_query_length": known,
                             "--cache_dir": "vectors on their way stand in the directory of the negatives"})


def add_preprocessing(parser: Parser) -> None:
    """Flags of the document's msmarco_data.py."""
    group = parser.add_argument_group("data under the ANCE document's names (docs/from_the_documents.md)")
    group.add_argument("--data_dir", metavar="DIR", help="directory of MS MARCO's files, see --data_type")
    group.add_argument("--data_type", type=number(int, 0, 1, "0 or 1"), choices=[0, 1], default=0,
                       help=f"0, documents: {', '.join(MSMARCO[0])}; 1, passages: {', '.join(MSMARCO[1])} [0]")
    add_model_type(group)
    _add_passed_over(group, {"--max_doc_character": "texts are cut by tokens alone"})


def set_preprocessing(args: argparse.Namespace, exists: Callable[[str], bool] = os.path.isfile) -> None:
    """Take files that no flag names from --data_dir, plain or gzipped; UserError names what is missing there."""
    set_model_type(args)
    set_checkpoint(args)
    if not args.data_dir:
        return
    for flag, name in zip(FILE_FLAGS, MSMARCO[args.data_type]):
        if getattr(args, flag) is None:
            path = os.path.join(args.data_dir, name)
            found = next((file for file in (path, f"{path}.gz") if exists(file)), None)
            if found is None:
                raise UserError(f"--data_dir {args.data_dir}: holds no {name}; --data_type {args.data_type} wants "
                                f"{', '.join(MSMARCO[args.data_type])}, or name the file with --{flag}")
            setattr(args, flag, found)
