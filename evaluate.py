"""Metrics of recall_result files, TREC runs, vectors, scores of labelled pairs, replies of a FAQ; systems compared.

Kinds of files that are given together are measured one after the other.
"""

from semindex import cli, flags

TREC_METRICS = ("mrr@10", "recall@1000", "ndcg@10", "map", "hole@10")


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    group = parser.add_argument_group("recall_result files")
    group.add_argument(*flags.PAIR_FLAGS, metavar="FILE", dest="similar_text_pair_file",
                       help="lines of query<TAB>positive")
    group.add_argument("--recall_result_file", nargs="+", metavar="FILE",
                       help="what recall.py or keyword_recall.py wrote; several files make a table")
    group.add_argument("--recall_num", type=cli.positive_int, default=50, metavar="N",
                       help="look at the first N texts of each query [50]")
    group.add_argument("--recall_of", choices=["any", "all"], default="any",
                       help="any: the share of queries with a positive among the first k, as in the recipe; "
                            "all: the share of all positives found [any]")
    group.add_argument("--mrr", action="store_true", help="print MRR at --recall_num too")
    group.add_argument("--result_tsv", default="result.tsv", metavar="FILE",
                       help="append a line of time and metrics there; '' writes none [result.tsv]")
    group = parser.add_argument_group("TREC runs, or vectors")
    group.add_argument("--run_file", nargs="+", metavar="FILE", help="query Q0 document rank score name")
    group.add_argument("--vectors_dir", nargs="+", metavar="DIR",
                       help="what run_ann_data_gen.py --inference wrote: passages are searched whole, by inner product")
    group.add_argument("--candidates_file", metavar="FILE", help="of vectors: documents to rank, as lines or a run")
    group.add_argument("--depth", type=cli.positive_int, default=1000, metavar="N",
                       help="of vectors: documents a query [1000]")
    group.add_argument("--qrels_file", metavar="FILE", help="query, document; or query, 0, document, grade")
    group.add_argument("--metrics", nargs="+", metavar="NAME", default=list(TREC_METRICS),
                       help=f"mrr@K, recall@K, ndcg@K, precision@K, map, hole@K, hole (share nobody judged) "
                            f"[{' '.join(TREC_METRICS)}]")
    group = parser.add_argument_group("replies of a FAQ")
    group.add_argument("--reply_file", nargs="+", metavar="FILE", help="what ask.py --questions_file wrote")
    group.add_argument("--questions_file", metavar="FILE",
                       help="question<TAB>question of the FAQ that means the same, the second empty where none does")
    group = parser.add_argument_group("scores of labelled pairs")
    group.add_argument("--score_file", nargs="+", metavar="FILE",
                       help="what predict.py wrote of the labelled file, a score a line")
    group.add_argument("--labelled_file", metavar="FILE", help="text<TAB>text<TAB>label; 0 or 1: the best thresholds")
    group.add_argument("--threshold", type=cli.real, metavar="T",
                       help="1 from the score T up, as found on another file [the best ones]")
    parser.add_argument("--compare", action="store_true",
                        help="bootstrap intervals over the queries, and each further file against the first one by a "
                             "paired randomisation test")
    parser.add_argument("--seed", type=cli.seed, default=1000, help="of --compare [1000]")
    parser.add_argument("--format", choices=["lines", "short", "json", "table"],
                        help="lines: recall@1=45.183; short: Recall@10<TAB>Recall@50 [lines; table for several files]")
    parser.add_argument("--fractions", action="store_true", help="print 0.330 where it is 33.0 percent")
    flags.add_bad_lines(parser)
    flags.add_trust(parser)
    parser.reads("similar_text_pair_file", "recall_result_file", "run_file", "qrels_file", "vectors_dir",
                 "candidates_file", "reply_file", "questions_file", "score_file", "labelled_file")
    parser.writes("result_tsv", role="append")
    return parser


def main() -> None:
    """Read, count, print."""
    args = parser().parse_args()
    from semindex.measure.kinds import measure

    measure(args)


if __name__ == "__main__":
    cli.run(main)
