"""Vectors and cosines from an exported directory, by Paddle Inference. Needs paddle, numpy and tokenizers only.

With neither texts nor a file given: shape and vectors of a sample, then its cosines. Cosines are printed for every
encoder; of one trained for inner products a warning says so.
"""

import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from typing import Any

# In a clone the library is two directories up; where the wheel is installed, that one is taken.
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
from semindex.cli import Parser, number, positive_int, run
from semindex.encode.verdict import add_threshold, chosen_threshold, judged
from semindex.flags import add_bad_lines, add_side, add_truncation

SAMPLE = [["信用卡丢了怎么挂失", "卡找不到了想先停用"], ["信用卡丢了怎么挂失", "怎么查快递到哪了"]]


def parser() -> Parser:
    """Return the command line."""
    parser = Parser(__doc__)
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="what export_model.py wrote")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--text", nargs="+", metavar="TEXT", help="texts: their vectors are printed")
    group.add_argument("--text_file", metavar="FILE", help="a text a line: their vectors are printed; - is "
                                                          "standard input")
    group.add_argument("--text_pair_file", metavar="FILE",
                       help="lines of text<TAB>text: their cosines are printed, one for each line, nan for a blank "
                            "one; a third column is passed over; - is standard input")
    parser.add_argument("--output_file", metavar="FILE", help="write vectors as .npy, or cosines as lines, there")
    parser.add_argument("--batch_size", type=positive_int, metavar="N",
                        help="texts at once [as many as 1024 tokens hold]")
    parser.add_argument("--max_seq_length", type=number(int, 3, 8192, "a whole number from 3 to 8192"), metavar="N",
                        help="tokens a text; longer ones are cut [as in training]")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="[cpu]")
    parser.add_argument("--engine", choices=["paddle", "onnx"], default="paddle",
                        help="Paddle Inference, or onnxruntime for a directory exported with --format onnx [paddle]")
    parser.add_argument("--precision", choices=["fp32", "fp16", "bf16", "int8"], default="fp32",
                        help="int8 runs in onnxruntime, for a directory exported with --format int8 [fp32]")
    parser.add_argument("--cpu_threads", type=number(int, 1, 1024, "a whole number from 1 to 1024"),
                        default=os.cpu_count() or 1, metavar="N", help="[all cores]")
    add_threshold(parser, "the directory")
    add_truncation(parser)
    add_side(parser)
    parser.add_argument("--trust_files", action="store_true", help="do not compare the checksums of --model_dir")
    add_bad_lines(parser)
    parser.reads("model_dir", "text_file", "text_pair_file")
    parser.writes("output_file")
    return parser


def vectors_of(args: argparse.Namespace) -> list[str]:
    """Return the texts whose vectors are asked for."""
    from semindex import runtime
    from semindex.text.streams import given_texts
    from semindex.text.tables import ReadReport, read_rows

    if not args.text_file:
        return given_texts("--text", args.text or [])
    lines = ReadReport(args.text_file)
    texts = [fields[0] for _, fields in read_rows(args.text_file, (1,), args.skip_bad_lines, lines)]
    if lines.blank or lines.bad:
        runtime.warn(f"{args.text_file}{lines.notes()}: row i is the i-th line that was read")
    return texts


def main() -> None:
    """Read, encode, print or write; similarities window by window."""
    args = parser().parse_args()
    import numpy as np

    from semindex import runtime
    from semindex.encode.exported import Predictor
    from semindex.encode.pairs import DOT, pair_cosines
    from semindex.encode.text_encoder import chosen_side
    from semindex.encode.vector_file import save_vectors
    from semindex.files import atomic_file
    from semindex.text.aligned import WINDOW, aligned_results, aligned_rows
    from semindex.text.counted import counted, verb
    from semindex.text.streams import standard_output
    from semindex.text.tables import ReadReport

    sample = not (args.text or args.text_file or args.text_pair_file)
    file = None if sample else args.output_file
    out: Any = None if file else standard_output()
    lines = ReadReport(args.text_pair_file or "")
    rows: Iterator[list[str] | None] = iter(())
    if args.text_pair_file:
        rows = aligned_rows(args.text_pair_file, (2, 3), args.skip_bad_lines, lines)
    first = list(itertools.islice(rows, WINDOW))  # a wrong file is told at once, not after the model is loaded
    texts = vectors_of(args)
    if sample:
        texts = list(dict.fromkeys(text for row in SAMPLE for text in row))
    predictor = Predictor(args.model_dir, args.device, args.engine, args.precision, args.cpu_threads,
                          args.max_seq_length, args.batch_size, args.trust_files, args.truncate_dim or 0)
    if (sample or first) and predictor.similarity == "dot":
        runtime.warn(DOT)
    cut = chosen_threshold(args, predictor.threshold, args.model_dir)
    if texts:
        vectors = predictor.side(chosen_side(args.side, predictor.prompts))(texts)
        if file:
            save_vectors(file, vectors, np.arange(len(vectors)))
        else:
            print(vectors.shape, file=out)
            with np.printoptions(threshold=sys.maxsize, linewidth=120):
                print(vectors, file=out)
    if sample:
        print(pair_cosines(predictor, SAMPLE, alone=True).tolist(), file=out)
    elif first:
        with atomic_file(file) if file else contextlib.nullcontext(out) as lines_out:
            for block in aligned_results(itertools.chain(first, rows),
                                         lambda pairs: judged(pair_cosines(predictor, pairs, alone=True), cut)):
                lines_out.write(block)
                lines_out.flush()
    if predictor.cut:
        runtime.warn(f"{counted(predictor.cut, 'text')} {verb(predictor.cut, 'reaches', 'reach')} --max_seq_length "
                     f"{predictor.max_seq_length}: what is longer was cut")
    if lines.blank or lines.bad:
        runtime.warn(f"{args.text_pair_file}{lines.notes()}: nan stands in their places")


if __name__ == "__main__":
    run(main)
