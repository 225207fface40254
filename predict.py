"""Cosine similarity of each pair of texts: one number for each line of the input, in its order."""

import contextlib
import itertools
import sys
from collections.abc import Iterator
from typing import Any

from semindex import cli, flags

WINDOW = 4096  # lines read, encoded and written at once


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    flags.add_checkpoint(parser)
    parser.add_argument("--text_pair_file", required=True, metavar="FILE",
                        help="lines of text<TAB>text; a third column is passed over; - is standard input")
    parser.add_argument("--output_file", metavar="FILE", help="write there [standard output]")
    flags.add_engine(parser)
    flags.add_bad_lines(parser)
    parser.reads("text_pair_file")
    parser.writes("output_file")
    return parser


def aligned(rows: Iterator[tuple[int, list[str]]], lines: Any) -> Iterator[list[str] | None]:
    """Yield the fields of every line, None for those that were passed over."""
    last = 0
    for number, fields in rows:
        yield from itertools.repeat(None, number - last - 1)
        yield fields
        last = number
    yield from itertools.repeat(None, lines.rows + lines.blank + lines.bad - last)


def main() -> None:
    """Read, encode and write window by window."""
    args = parser().parse_args()
    from semindex import runtime
    from semindex.text.tables import ReadReport, read_rows

    lines = ReadReport(args.text_pair_file)
    rows = aligned(read_rows(args.text_pair_file, (2, 3), args.skip_bad_lines, lines), lines)
    first = list(itertools.islice(rows, WINDOW))  # a wrong file is told at once, not after the encoder is loaded
    runtime.start(args.device, args.seed)
    from models import loading
    from models.encoders import WORTH_AN_EXPORT, fast_encoder
    from semindex.encode.encoder import report_cut
    from semindex.encode.pairs import pair_cosines
    from semindex.files import atomic_file

    model, tokenizer = loading.load(args.params_path, vars(args))
    # The file is streamed, and how long it is not known; one that fills the first window is taken for a long one.
    texts = 2 * len(first) if len(first) < WINDOW else WORTH_AN_EXPORT
    encoder, _ = fast_encoder(model, tokenizer, args.engine, texts, args.batch_size)
    with contextlib.ExitStack() as stack:
        out = sys.stdout
        if args.output_file and runtime.rank() == 0:
            out = stack.enter_context(atomic_file(args.output_file))
        while first:
            there = [i for i, fields in enumerate(first) if fields is not None]
            pairs = [fields for fields in first if fields is not None]
            cosines = ["nan"] * len(first)
            if pairs:
                for i, cosine in zip(there, pair_cosines(encoder, pairs)):
                    cosines[i] = str(cosine)
            if runtime.rank() == 0:
                out.write("\n".join(cosines) + "\n")
                out.flush()
            first = list(itertools.islice(rows, WINDOW))
    report_cut(tokenizer)
    if lines.blank or lines.bad:
        runtime.warn(f"{args.text_pair_file}{lines.notes()}: nan stands in their places")


if __name__ == "__main__":
    cli.run(main)
