"""Vectors of texts: printed, or written as a NumPy file. With no text given, of a sample."""

import os
import stat
import sys

from semindex import cli, flags
from semindex.errors import UserError

SAMPLE = ["信用卡丢了怎么挂失"]


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    flags.add_checkpoint(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--text", nargs="+", metavar="TEXT", help="texts to encode")
    group.add_argument("--text_file", metavar="FILE", help="a text a line; - is standard input, which is also read "
                                                          "where it is a pipe or a file and no text is given")
    parser.add_argument("--output_file", metavar="FILE.npy",
                        help="write float32 [texts, width] there [printed: the shape, then the vectors]")
    flags.add_engine(parser)
    flags.add_bad_lines(parser)
    parser.reads("text_file")
    parser.writes("output_file")
    return parser


def piped() -> bool:
    """Tell whether somebody feeds standard input."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)) and bool(sys.stdin.buffer.peek(1))  # type: ignore[union-attr]


def main() -> None:
    """Read, encode, print or write."""
    args = parser().parse_args()
    import numpy as np

    from semindex import runtime
    from semindex.text.corpus import Corpus, read_corpus

    source = args.text_file or (None if args.text or not piped() else "-")
    texts: Corpus | list[str] = args.text or SAMPLE
    rows = np.arange(len(texts))
    if source:
        texts, lines = read_corpus(source, args.skip_bad_lines)
        rows = texts.inverse
        if lines.blank or lines.bad:
            runtime.warn(f"{source}{lines.notes()}: row i is the i-th line that was read")
    elif args.text and not all(text.strip() for text in args.text):
        raise UserError("--text: an empty text has no meaning to encode")
    runtime.start(args.device, args.seed)
    from models import loading
    from models.encoders import fast_encoder
    from semindex.encode.encoder import encode, report_cut, vector_file
    from semindex.encode.vector_file import VectorFile, save_vectors

    model, tokenizer = loading.load(args.params_path, vars(args))
    encoder, engine = fast_encoder(model, tokenizer, args.engine, len(texts), args.batch_size)
    file = None
    if args.output_file and VectorFile.possible(args.output_file):
        fingerprint = loading.fingerprint(args.params_path, model, tokenizer)
        corpus = texts if isinstance(texts, Corpus) else Corpus.from_texts(texts)
        file = vector_file(args.output_file, encoder, corpus, f"{fingerprint} {engine} {corpus.fingerprint}")
    vectors = encode(encoder, texts, file=file)
    report_cut(tokenizer)
    if runtime.rank() > 0:
        return
    if file is not None:
        file.finish(rows)
        runtime.say(f"{args.output_file}: float32 [{len(rows)}, {encoder.dimension}]")
        return
    if args.output_file:
        save_vectors(args.output_file, vectors, rows)
        return
    vectors = vectors[rows]
    print(list(vectors.shape))
    with np.printoptions(threshold=sys.maxsize, linewidth=120):
        print(vectors)


if __name__ == "__main__":
    cli.run(main)
