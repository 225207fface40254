"""Export a checkpoint for serving: static graph of Paddle, on request ONNX and int8, checked against the model."""

from semindex import cli, flags
from semindex.errors import UserError

SENTENCES = "sentence-transformers"


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_checkpoint(parser)
    parser.add_argument("--output_path", default="./output", metavar="DIR",
                        help="directory to write; an earlier export there is replaced [./output]")
    parser.add_argument("--format", nargs="+", choices=["paddle", "onnx", "int8", SENTENCES], default=["paddle"],
                        help="what to write beside Paddle's static graph: onnx for onnxruntime, int8 with weights "
                             f"of 8 bits, faster and smaller at some loss; or {SENTENCES} alone: a directory "
                             "that this library and transformers load, with a model card [paddle]")
    parser.add_argument("--dev_set_file", *flags.PAIR_FLAGS, dest="dev_set_file", metavar="FILE",
                        help="lines of query<TAB>positive: print what each format recalls")
    parser.add_argument("--corpus_file", metavar="FILE", help="texts to recall from, for --dev_set_file")
    flags.add_bad_lines(parser)
    parser.reads("dev_set_file", "corpus_file")
    parser.writes("output_path", role="directory")
    return parser


def main() -> None:
    """Load, export, compare."""
    args = parser().parse_args()
    if bool(args.dev_set_file) != bool(args.corpus_file):
        raise UserError("--dev_set_file and --corpus_file go together")
    sentences = SENTENCES in args.format
    if sentences and set(args.format) != {SENTENCES}:
        raise UserError(f"--format {SENTENCES}: is a directory of another kind; export it alone, the others elsewhere")
    from semindex import roles, runtime
    from semindex.text.corpus import read_corpus
    from semindex.text.tables import read_pairs

    pairs = read_pairs(args.dev_set_file, (2, 3), args.skip_bad_lines)[0] if args.dev_set_file else []
    corpus = read_corpus(args.corpus_file, args.skip_bad_lines)[0] if args.corpus_file else None
    roles.check_kept(args.params_path, "--params_path")
    runtime.start("cpu")
    from models import loading
    from models.encoders import dynamic
    from models.export import export, open_export
    from models.sentence_directory import export_sentence_transformers, tokenizer_file
    from semindex.measure.recall import recall_of_encoder

    model, tokenizer = loading.load(args.params_path, vars(args))
    runtime.say(f"Loaded parameters from {args.params_path}")  # where nothing can be said, nothing is written
    if sentences:
        tokenizer_file(model, tokenizer)  # an encoder without that form is told before anything is measured
    recalls = {"dynamic": recall_of_encoder(pairs, corpus, dynamic(model, tokenizer))} if corpus else {}
    if sentences:
        found = export_sentence_transformers(model, tokenizer, args.output_path, args.params_path,
                                             recalls.get("dynamic"))
    else:
        found = export(model, tokenizer, args.output_path, args.format, args.params_path)
    for form, (difference, cosine) in found.items():
        runtime.say(f"{form}: largest difference to the dynamic graph {difference:.2g}, smallest cosine {cosine:.6f}")
    runtime.say(f"exported to {args.output_path}")
    if corpus:
        for form in found:
            again = dynamic(*loading.load(args.output_path, {})) if sentences else open_export(args.output_path, form)
            recalls[form] = recall_of_encoder(pairs, corpus, again)
    width = max(8, *(len(name) + 1 for name in recalls)) if recalls else 0
    for name, row in recalls.items():
        runtime.say(f"{name:<{width}}" + "  ".join(f"{metric}={value}" for metric, value in row.items()))


if __name__ == "__main__":
    cli.run(main)
