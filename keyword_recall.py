"""Recall by BM25 over Chinese characters and character pairs, or over words: the baseline an encoder has to beat."""

from semindex import cli, flags, search_flags


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_recall_inputs(parser)
    flags.add_result_file(parser)
    flags.add_bad_lines(parser)
    parser.add_argument("--recall_num", type=cli.positive_int, default=50, metavar="N",
                        help="texts to recall a query [50]")
    search_flags.add_keyword(parser)
    search_flags.add_keyword_dir(parser)
    return parser


def main() -> None:
    """Index, search, write."""
    args = parser().parse_args()
    flags.check_recall_inputs(args)
    from semindex.search.kept_keyword import open_keyword
    from semindex.search.recall_files import pairs_of, read_inputs, write_results

    inputs = read_inputs(args)
    found = pairs_of(*open_keyword(args, inputs.corpus).search(inputs.queries, args.recall_num))
    write_results(args, inputs, [[(text, score) for text, score in row if text >= 0] for row in found], "bm25")


if __name__ == "__main__":
    cli.run(main)
