"""Encode a corpus in parts, by processes of one box or several without a common disk; recall.py takes the vectors."""

import argparse
import re

from semindex import cli, flags
from semindex.errors import UserError


def part(value: str) -> tuple[int, int]:
    """Return (I, N) of I/N; an argparse type."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", value)
    if not found or int(found[1]) >= int(found[2]):
        raise argparse.ArgumentTypeError(f"'{value}' is not I/N, I from 0 to N - 1")
    return int(found[1]), int(found[2])


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    flags.add_checkpoint(parser)
    parser.add_argument("--corpus_file", required=True, metavar="FILE", help="texts, one a line")
    parser.add_argument("--output_dir", required=True, metavar="DIR",
                        help="parts go there, and the manifest that joins them; what is there already is used again")
    parser.add_argument("--part", type=part, metavar="I/N",
                        help="make this one of N parts, 0/N the first, in a process of its own [under "
                             "paddle.distributed.launch one a process; else all that are missing]")
    flags.add_engine(parser)
    flags.add_bad_lines(parser)
    parser.reads("corpus_file")
    parser.writes("output_dir", role="shared")
    return parser


def main() -> None:
    """Read, encode, join."""
    args = parser().parse_args()
    from semindex import runtime
    from semindex.text.corpus import read_corpus
    from semindex.text.counted import counted

    rank, ranks = runtime.processes()
    if args.part and ranks > 1:
        raise UserError("--part: the processes of paddle.distributed.launch have one each; leave the flag out, or "
                        "start without it")
    corpus, lines = read_corpus(args.corpus_file, args.skip_bad_lines)
    runtime.say(f"{args.corpus_file}: {counted(len(corpus), 'text')}{lines.notes()}")
    runtime.start(args.device, args.seed, join=False)  # a part is nobody else's: a process that dies stops no other
    from models import loading
    from models.encoders import fast_encoder
    from semindex.encode.parts import Parts, key_of

    model, tokenizer = loading.load(args.params_path, vars(args))
    encoder = fast_encoder(model, tokenizer, args.engine, len(corpus), args.batch_size)[0].side("passage")
    key = key_of(loading.fingerprint(args.params_path, model, tokenizer), args.engine, encoder.tokenizer.prompt, corpus)
    parts = Parts(args.output_dir, len(corpus), encoder.dimension, key)
    there = parts.parts()
    number, count = args.part or ((rank, ranks) if ranks > 1 else (0, there or 1))
    if there and there != count:
        raise UserError(f"--output_dir {args.output_dir}: holds parts of {there}, not of {count}; start as many "
                        "processes, or name another directory")
    for own in [number] if args.part or ranks > 1 else parts.missing(count):
        parts.write(own, count, encoder, corpus, lambda text: print(text, flush=True))
    missing = parts.join(count)
    done = f"all {counted(count, 'part')} are there and joined, {counted(len(corpus), 'vector')}"
    print(f"{args.output_dir}: " + (parts.lacking(missing, count) if missing else done), flush=True)


if __name__ == "__main__":
    cli.run(main)
