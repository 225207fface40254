"""Vectors and similarities from an exported directory, by Paddle Inference. Needs paddle, numpy and tokenizers only.

With neither texts nor a file given: shape and vectors of a sample, then its similarities.
"""

import os
import sys

# In a clone the library is two directories up; where the wheel is installed, that one is taken.
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
from semindex.cli import Parser, positive_int, run
from semindex.errors import UserError

SAMPLE = [["信用卡丢了怎么挂失", "卡找不到了想先停用"], ["信用卡丢了怎么挂失", "怎么查快递到哪了"]]


def parser() -> Parser:
    """Return the command line."""
    parser = Parser(__doc__)
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="what export_model.py wrote")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--text", nargs="+", metavar="TEXT", help="texts: their vectors are printed")
    group.add_argument("--text_file", metavar="FILE", help="a text a line: their vectors are printed")
    group.add_argument("--text_pair_file", metavar="FILE",
                       help="lines of text<TAB>text: their similarities are printed, one a line")
    parser.add_argument("--output_file", metavar="FILE", help="write vectors as .npy, or similarities as lines, there")
    parser.add_argument("--batch_size", type=positive_int, metavar="N",
                        help="texts at once [as many as 1024 tokens hold]")
    parser.add_argument("--max_seq_length", type=positive_int, metavar="N",
                        help="tokens a text; longer ones are cut [as in training]")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="[cpu]")
    parser.add_argument("--engine", choices=["paddle", "onnx"], default="paddle",
                        help="Paddle Inference, or onnxruntime for a directory exported with --format onnx [paddle]")
    parser.add_argument("--precision", choices=["fp32", "fp16", "bf16", "int8"], default="fp32",
                        help="int8 runs in onnxruntime, for a directory exported with --format int8 [fp32]")
    parser.add_argument("--cpu_threads", type=positive_int, default=os.cpu_count() or 1, metavar="N",
                        help="[all cores]")
    parser.add_argument("--trust_files", action="store_true", help="do not compare the checksums of --model_dir")
    parser.reads("model_dir", "text_file", "text_pair_file")
    parser.writes("output_file")
    return parser


def read(path: str, columns: int) -> list[list[str]]:
    """Return the fields of each line that is not blank; UserError with file:line for another shape."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file")
    rows = []
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{path}:{number}: invalid UTF-8 at byte {error.start + 1}") from None
            fields = [text.strip() for text in line.split("\t")]
            if not any(fields):
                continue
            if len(fields) < columns or not all(fields[:columns]):
                expected = "text<TAB>text" if columns == 2 else "one text a line"
                raise UserError(f"{path}:{number}: {len(fields)} column{'s' * (len(fields) > 1)}; expected {expected}")
            rows.append(fields[:columns])
    if not rows:
        raise UserError(f"{path}: holds no line of text")
    return rows


def main() -> None:
    """Read, encode, print."""
    args = parser().parse_args()
    import numpy as np

    from semindex.encode.exported import Predictor
    from semindex.files import atomic_file

    pairs = read(args.text_pair_file, 2) if args.text_pair_file else []
    texts = [row[0] for row in read(args.text_file, 1)] if args.text_file else args.text or []
    if args.text and not all(text.strip() for text in args.text):
        raise UserError("--text: an empty text has no meaning to encode")
    sample = not pairs and not texts
    if sample:
        pairs = SAMPLE
    predictor = Predictor(args.model_dir, args.device, args.engine, args.precision, args.cpu_threads,
                          args.max_seq_length, args.batch_size, args.trust_files)
    places: dict[str, int] = {}
    rows = np.array([[places.setdefault(text, len(places)) for text in row] for row in pairs], np.int64)
    vectors = predictor(texts or list(places))
    cosines = np.einsum("ij,ij->i", vectors[rows[:, 0]], vectors[rows[:, 1]]) if pairs else None
    if predictor.cut:
        print(f"warning: {predictor.cut} texts reach --max_seq_length {predictor.max_seq_length}: "
              "what is longer was cut", file=sys.stderr)
    if args.output_file and not sample:
        with atomic_file(args.output_file, "wb") as file:
            if cosines is None:
                np.save(file, vectors)
            else:
                file.write(b"".join(f"{cosine}\n".encode() for cosine in cosines))
        return
    if cosines is None or sample:
        print(vectors.shape)
        with np.printoptions(threshold=sys.maxsize, linewidth=120):
            print(vectors)
    if sample:
        print(cosines.tolist())  # type: ignore[union-attr]
    elif cosines is not None:
        print("\n".join(map(str, cosines)))


if __name__ == "__main__":
    run(main)
