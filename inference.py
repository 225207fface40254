"""Vectors of texts: printed, or written as a NumPy file. With no text given, of a sample."""

import sys

from semindex import cli, flags

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
    flags.add_side(parser)
    flags.add_engine(parser)
    flags.add_bad_lines(parser)
    parser.reads("text_file")
    parser.writes("output_file")
    return parser


def main() -> None:
    """Read, encode, print or write."""
    args = parser().parse_args()
    import numpy as np

    from semindex import runtime
    from semindex.encode.text_encoder import chosen_side
    from semindex.text.corpus import Corpus, read_corpus
    from semindex.text.streams import given_texts, piped, standard_output

    out = None if args.output_file else standard_output()
    source = args.text_file or (None if args.text or not piped("; --text and --text_file name other texts") else "-")
    if source:
        texts, lines = read_corpus(source, args.skip_bad_lines)
        if lines.blank or lines.bad:
            runtime.warn(f"{source}{lines.notes()}: row i is the i-th line that was read")
    else:
        texts = Corpus.from_texts(given_texts("--text", args.text or SAMPLE))
    runtime.start(args.device, args.seed)
    from models import loading
    from models.encoders import fast_encoder
    from semindex.encode.encoder import encode, report_cut, vector_file
    from semindex.encode.vector_file import VectorFile, save_vectors

    model, tokenizer = loading.load(args.params_path, vars(args))
    encoder, engine = fast_encoder(model, tokenizer, args.engine, len(texts), args.batch_size)
    encoder = encoder.side(chosen_side(args.side, encoder.prompts))
    file = None
    if args.output_file and VectorFile.possible(args.output_file):
        fingerprint = loading.fingerprint(args.params_path, model, tokenizer)
        prompt = encoder.tokenizer.prompt
        file = vector_file(args.output_file, encoder, texts, f"{fingerprint} {engine} {prompt} {texts.fingerprint}")
    vectors = encode(encoder, texts, file=file)
    report_cut(tokenizer)
    if runtime.rank() > 0:
        return
    rows = texts.inverse
    if file is not None:
        file.finish(rows)
        runtime.say(f"{args.output_file}: float32 [{len(rows)}, {encoder.dimension}]")
        return
    if args.output_file:
        save_vectors(args.output_file, vectors, rows)
        return
    print([len(rows), encoder.dimension], file=out)
    with np.printoptions(threshold=sys.maxsize, linewidth=120):
        print(vectors[rows], file=out)


if __name__ == "__main__":
    cli.run(main)
