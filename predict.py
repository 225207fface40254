"""Cosine similarity of each pair of texts: one number for each line of the input, in its order, or with a verdict.

Cosines are printed for every encoder; of one trained for inner products (--similarity dot) a warning says so.
"""

import contextlib
import itertools
from typing import Any

from semindex import cli, flags
from semindex.encode import verdict


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    flags.add_checkpoint(parser)
    parser.add_argument("--text_pair_file", required=True, metavar="FILE",
                        help="lines of text<TAB>text; a third column is passed over; - is standard input")
    parser.add_argument("--output_file", metavar="FILE", help="write there [standard output]")
    verdict.add_threshold(parser, "the checkpoint")
    flags.add_engine(parser)
    flags.add_bad_lines(parser)
    parser.reads("text_pair_file")
    parser.writes("output_file")
    return parser


def main() -> None:
    """Read, encode and write window by window."""
    args = parser().parse_args()
    from semindex import runtime
    from semindex.text.aligned import WINDOW, aligned_results, aligned_rows
    from semindex.text.streams import standard_output
    from semindex.text.tables import ReadReport

    out: Any = None if args.output_file else standard_output()
    lines = ReadReport(args.text_pair_file)
    rows = aligned_rows(args.text_pair_file, (2, 3), args.skip_bad_lines, lines)
    first = list(itertools.islice(rows, WINDOW))  # a wrong file is told at once, not after the encoder is loaded
    runtime.start(args.device, args.seed)
    from models import loading
    from models.encoders import WORTH_AN_EXPORT, fast_encoder
    from semindex.encode.encoder import report_cut
    from semindex.encode.pairs import DOT, pair_cosines
    from semindex.files import atomic_file

    model, tokenizer = loading.load(args.params_path, vars(args))
    if model.settings.similarity == "dot":
        runtime.warn(DOT)
    cut = verdict.chosen_threshold(args, model.settings.threshold, args.params_path)
    # The file is streamed, and how long it is not known; one that fills the first window is taken for a long one.
    texts = 2 * len(first) if len(first) < WINDOW else WORTH_AN_EXPORT
    encoder, _ = fast_encoder(model, tokenizer, args.engine, texts, args.batch_size)
    with contextlib.ExitStack() as stack:
        if args.output_file and runtime.rank() == 0:
            out = stack.enter_context(atomic_file(args.output_file))
        for block in aligned_results(itertools.chain(first, rows),
                                     lambda pairs: verdict.judged(pair_cosines(encoder, pairs), cut)):
            if runtime.rank() == 0:
                out.write(block)
                out.flush()
    report_cut(tokenizer)
    if lines.blank or lines.bad:
        runtime.warn(f"{args.text_pair_file}{lines.notes()}: nan stands in their places")


if __name__ == "__main__":
    cli.run(main)
