"""Draw a training from its VisualDL log: loss, metrics, the negatives' age, over steps. Several runs, one picture."""

from semindex import cli


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--save_dir", required=True, nargs="+", metavar="DIR",
                        help="directories of trainings, or of their VisualDL logs")
    parser.add_argument("--output_file", required=True, metavar="FILE", help="the picture: .png, .svg or .pdf")
    parser.add_argument("--tags", nargs="+", default=["loss", "recall@10", "mrr@10", "negatives_age"], metavar="NAME",
                        help="what to draw, a panel each, of what the logs hold [loss recall@10 mrr@10 negatives_age]")
    parser.reads("save_dir")
    parser.writes("output_file")
    return parser


def main() -> None:
    """Read, draw."""
    args = parser().parse_args()
    from semindex import pictures

    pictures.training(args.save_dir, args.tags, args.output_file)
    print(args.output_file)


if __name__ == "__main__":
    cli.run(main)
