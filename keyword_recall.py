"""Recall by BM25 over Chinese characters and character pairs, or over words: the baseline an encoder has to beat."""

from semindex import cli, flags


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_recall_inputs(parser)
    flags.add_result_file(parser)
    flags.add_bad_lines(parser)
    parser.add_argument("--recall_num", type=cli.positive_int, default=50, metavar="N",
                        help="texts to recall a query [50]")
    parser.add_argument("--tokens", choices=["bigram", "word"], default="bigram",
                        help="bigram: characters and pairs of neighbours; word: words by jieba [bigram]")
    parser.add_argument("--k1", type=cli.nonnegative, default=1.5, help="saturation of term frequency [1.5]")
    parser.add_argument("--b", type=cli.fraction, default=0.75, help="weight of text length [0.75]")
    return parser


def main() -> None:
    """Index, search, write."""
    args = parser().parse_args()
    flags.check_recall_inputs(args)
    from semindex.search.keyword import KeywordIndex, KeywordSettings
    from semindex.search.recall_files import pairs_of, read_inputs, write_results

    inputs = read_inputs(args)
    texts = inputs.corpus.slice(0, len(inputs.corpus))
    index = KeywordIndex.build(texts, KeywordSettings(args.tokens, args.k1, args.b), args.corpus_file)
    found = pairs_of(*index.search(inputs.queries, args.recall_num))
    write_results(args, inputs, [[(text, score) for text, score in row if text >= 0] for row in found], "bm25")


if __name__ == "__main__":
    cli.run(main)
