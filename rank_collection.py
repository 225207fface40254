"""Rank a collection's documents for its queries, or given candidates, into a TREC run."""

import options


def parser() -> options.Parser:
    """Return the command line."""
    parser = options.Parser(__doc__)
    options.add_device(parser)
    options.add_checkpoint(parser)
    options.add_collection(parser, training=False)
    parser.add_argument("--candidates_file", metavar="FILE",
                        help="rank these only: lines of query<TAB>document (ids), or a TREC run [all documents]")
    parser.add_argument("--run_file", required=True, metavar="FILE", help="the TREC run to write")
    parser.add_argument("--depth", type=options.positive_int, default=1000, metavar="N",
                        help="documents a query [1000]")
    options.add_engine(parser)
    options.add_bad_lines(parser)
    options.add_index(parser)
    return parser


def main() -> None:
    """Tokenise, encode, rank, write."""
    args = parser().parse_args()
    if not (args.corpus_file and args.queries_file):
        raise options.UserError("give --corpus_file and --queries_file")
    import runtime

    runtime.start(args.device, args.seed)
    import ance_training

    ance_training.rank(args)


if __name__ == "__main__":
    options.run(main)
