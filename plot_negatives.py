"""Draw queries with their positives, ANCE, BM25 and random negatives on a plane (t-SNE): a picture and a page."""

from semindex import cli, flags


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    parser.add_argument("--params_path", required=True, metavar="PATH", help="the encoder, a checkpoint directory")
    parser.add_argument("--data_dir", required=True, metavar="DIR",
                        help="the tokenised collection of its training (SAVE_DIR/collection)")
    parser.add_argument("--output_dir", required=True, metavar="DIR",
                        help="a PNG for each query, and negatives.html, whose points show their text")
    parser.add_argument("--queries", type=cli.positive_int, default=4, metavar="N",
                        help="training queries drawn at random [4]")
    parser.add_argument("--query", nargs="+", metavar="TEXT", help="these training queries instead")
    parser.add_argument("--negatives", type=cli.positive_int, default=30, metavar="N",
                        help="of each kind for each query [30]")
    parser.add_argument("--topk_training", type=cli.positive_int, default=200, metavar="N",
                        help="ANCE and BM25 negatives come from the first N ranked [200]")
    flags.add_truncation(parser)
    flags.add_engine(parser)
    flags.add_trust(parser)
    parser.reads("params_path", "data_dir")
    parser.writes("output_dir", role="save")
    return parser


def main() -> None:
    """Search, project, draw."""
    args = parser().parse_args()
    from semindex import runtime

    runtime.start(args.device, args.seed)
    from training.negatives import picture

    picture.run(args)


if __name__ == "__main__":
    cli.run(main)
