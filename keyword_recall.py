"""Recall by BM25 over Chinese characters and character pairs, or over words: the baseline an encoder has to beat."""

from semindex import cli, flags


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--corpus_file", required=True, metavar="FILE", help="texts to recall from, one a line")
    flags.add_pairs(parser)
    flags.add_result_file(parser)
    flags.add_bad_lines(parser)
    parser.add_argument("--recall_num", type=cli.positive_int, default=50, metavar="N",
                        help="texts to recall a query [50]")
    parser.add_argument("--tokens", choices=["bigram", "word"], default="bigram",
                        help="bigram: characters and pairs of neighbours; word: words by jieba [bigram]")
    parser.add_argument("--k1", type=cli.nonnegative, default=1.5, help="saturation of term frequency [1.5]")
    parser.add_argument("--b", type=cli.fraction, default=0.75, help="weight of text length [0.75]")
    parser.reads("corpus_file")
    return parser


def main() -> None:
    """Index, search, write."""
    args = parser().parse_args()
    from semindex.search.keyword import Bm25
    from semindex.search.recall_files import read_inputs, write_result

    queries, corpus = read_inputs(args)
    index = Bm25(corpus.slice(0, len(corpus)), args.tokens, args.k1, args.b, args.corpus_file)
    found, scores = index.search(queries, args.recall_num)
    rows = ((query, [(corpus[i], score) for i, score in zip(ids, values) if score > 0])
            for query, ids, values in zip(queries, found.tolist(), scores.tolist()))
    write_result(args, rows)


if __name__ == "__main__":
    cli.run(main)
