"""Metrics of recall_result files against pairs, or of TREC runs against qrels; compare systems."""

from argparse import Namespace

from semindex import cli, flags
from semindex.errors import UserError

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
    group = parser.add_argument_group("TREC runs")
    group.add_argument("--run_file", nargs="+", metavar="FILE", help="query Q0 document rank score name")
    group.add_argument("--qrels_file", metavar="FILE", help="query, document; or query, 0, document, grade")
    group.add_argument("--metrics", nargs="+", metavar="NAME", default=list(TREC_METRICS),
                       help=f"mrr@K, recall@K, ndcg@K, precision@K, map, hole@K (share nobody judged) "
                            f"[{' '.join(TREC_METRICS)}]")
    parser.add_argument("--compare", action="store_true",
                        help="bootstrap intervals over the queries, and each further file against the first one by a "
                             "paired randomisation test")
    parser.add_argument("--seed", type=cli.seed, default=1000, help="of --compare [1000]")
    parser.add_argument("--format", choices=["lines", "short", "json", "table"],
                        help="lines: recall@1=45.183; short: Recall@10<TAB>Recall@50 [lines; table for several files]")
    flags.add_bad_lines(parser)
    parser.reads("similar_text_pair_file", "recall_result_file", "run_file", "qrels_file")
    parser.writes("result_tsv", role="append")
    return parser


def check(args: Namespace) -> None:
    """Raise UserError where the flags name no files, or two kinds of them."""
    if bool(args.run_file) == bool(args.recall_result_file):
        raise UserError("give either --similar_text_pair and --recall_result_file, or --qrels_file and "
                                "--run_file")
    needed, given = (("qrels_file", "run_file") if args.run_file else ("similar_text_pair_file", "recall_result_file"))
    if not getattr(args, needed):
        raise UserError(f"--{given} needs --{needed}")


def main() -> None:
    """Read, count, print."""
    args = parser().parse_args()
    check(args)
    if args.format == "short" and (args.run_file or args.recall_num < 10):
        raise UserError("--format short shows Recall@10 and @50 of recall_result files; it wants "
                                "--recall_num 10 or more")
    from semindex.measure import report
    from semindex.measure.hits import percent
    from semindex.runtime import rank

    if rank() > 0:
        return
    values = report.of_runs(args) if args.run_file else report.of_results(args)
    if args.compare:
        report.compare(values, args.seed)
        return
    results = {path: {name: percent(row) for name, row in found.items()} for path, found in values.items()}
    report.show(results, args.format or ("table" if len(results) > 1 else "lines"))
    if args.result_tsv and not args.run_file:
        report.append_result(args.result_tsv, results)


if __name__ == "__main__":
    cli.run(main)
