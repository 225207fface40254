"""Cosine similarity of each pair of texts: one number for each line of the input, in its order."""

import contextlib
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import options

WINDOW = 4096  # lines read, encoded and written at once


def parser() -> options.Parser:
    """Return the command line."""
    parser = options.Parser(__doc__)
    options.add_device(parser)
    options.add_checkpoint(parser)
    parser.add_argument("--text_pair_file", required=True, metavar="FILE",
                        help="lines of text<TAB>text; a third column is passed over; - is standard input")
    parser.add_argument("--output_file", metavar="FILE", help="write there [standard output]")
    options.add_engine(parser)
    options.add_bad_lines(parser)
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
    import data
    import runtime

    lines = data.Lines(args.text_pair_file)
    rows = aligned(data.read_rows(args.text_pair_file, (2, 3), args.skip_bad_lines, lines), lines)
    first = list(itertools.islice(rows, WINDOW))  # a wrong file is told at once, not after the encoder is loaded
    runtime.start(args.device, args.seed)
    from deploy.python.serving.whole import whole_file
    from encoder import report_cut
    from models import semantic_index
    from pair_similarity import pair_cosines
    from static_graph import WORTH_AN_EXPORT, fast_encoder

    model, tokenizer = semantic_index.load(args.params_path, vars(args))
    # The file is streamed, and how long it is not known; one that fills the first window is taken for a long one.
    texts = 2 * len(first) if len(first) < WINDOW else WORTH_AN_EXPORT
    encoder, _ = fast_encoder(model, tokenizer, args.engine, texts, args.batch_size)
    with contextlib.ExitStack() as stack:
        out = sys.stdout
        if args.output_file and runtime.rank() == 0:
            out = stack.enter_context(whole_file(args.output_file))
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
    options.run(main)
