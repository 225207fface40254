"""Recall@1/5/10/20/50 of recall_result files against the pairs that should have been found."""

import json
import os
import time
from argparse import Namespace

import options


def parser() -> options.Parser:
    """Return the command line."""
    parser = options.Parser(__doc__)
    options.add_pairs(parser)
    parser.add_argument("--recall_result_file", required=True, nargs="+", metavar="FILE",
                        help="what recall.py or keyword_recall.py wrote; several files make a table")
    parser.add_argument("--recall_num", type=options.positive_int, default=50, metavar="N",
                        help="look at the first N texts of each query [50]")
    parser.add_argument("--recall_of", choices=["any", "all"], default="any",
                        help="any: the share of queries with a positive among the first k, as in the recipe; "
                             "all: the share of all positives found [any]")
    parser.add_argument("--mrr", action="store_true", help="print MRR at --recall_num too")
    parser.add_argument("--format", choices=["lines", "short", "json", "table"],
                        help="lines: recall@1=45.183; short: Recall@10<TAB>Recall@50 [lines; table for several files]")
    parser.add_argument("--result_tsv", default="result.tsv", metavar="FILE",
                        help="append a line of time and metrics there; '' writes none [result.tsv]")
    options.add_bad_lines(parser)
    return parser


def read(path: str, positives: dict[str, list[str]], args: Namespace) -> dict[str, list[str]]:
    """Return the texts of each query, best first; UserError where the file is of other pairs."""
    import metrics
    from options import UserError
    from runtime import warn

    ranking, lines = metrics.read_recall_result(path, args.skip_bad_lines)
    missing = [query for query in positives if query not in ranking]
    if len(missing) == len(positives):
        raise UserError(f"{path}: has no line for any query of {args.similar_text_pair_file}; "
                        "was it written for other pairs?")
    if missing:
        warn(f"{path}: no line for {len(missing)} of {len(positives)} queries, they count as missed "
             f"(the first: '{missing[0]}')")
    if lines.bad:
        warn(f"{path}{lines.notes()}")
    strangers = sum(query not in positives for query in ranking)
    if strangers:
        warn(f"{path}: {strangers} queries are not in {args.similar_text_pair_file} and are passed over")
    return ranking


def measure(ranking: dict[str, list[str]], positives: dict[str, list[str]], args: Namespace) -> dict[str, float]:
    """Return the metrics of one file, in percent."""
    import metrics

    depth = args.recall_num
    hits = metrics.hit_ranks({query: texts[:depth] for query, texts in ranking.items()}, positives)
    totals = [len(texts) for texts in positives.values()] if args.recall_of == "all" else None
    result = metrics.recalls(hits, depth, totals)
    if args.mrr:
        result[f"mrr@{depth}"] = round(100 * metrics.mrr_at(hits, depth), 3)
    return result


def show(results: dict[str, dict[str, float]], style: str) -> None:
    """Print the metrics of one file or several."""
    if style == "json":
        print(json.dumps(results if len(results) > 1 else next(iter(results.values())), ensure_ascii=False))
        return
    names = list(next(iter(results.values())))
    if style == "table":
        shown = {path: os.path.basename(path) for path in results}
        if len(set(shown.values())) < len(shown):
            shown = {path: path for path in results}
        width = max(map(len, shown.values()))
        print(" " * width + "".join(f"{name:>11}" for name in names))
    for path, result in results.items():
        if style == "table":
            print(f"{shown[path]:<{width}}" + "".join(f"{value:>11.2f}" for value in result.values()))
        elif style == "short":
            print("\t".join(str(result[name]) for name in ("recall@10", "recall@50") if name in result))
        else:
            for name, value in result.items():
                print(f"{name}={value}")


def main() -> None:
    """Read, count, print."""
    args = parser().parse_args()
    import data
    from runtime import rank, warn

    if rank() > 0:
        return
    pairs, lines = data.read_pairs(args.similar_text_pair_file, skip_bad_lines=args.skip_bad_lines)
    if lines.notes():
        warn(f"{args.similar_text_pair_file}{lines.notes()}")
    positives = data.group_pairs(pairs)
    rankings = {path: read(path, positives, args) for path in args.recall_result_file}
    longest = max(len(texts) for ranking in rankings.values() for texts in ranking.values())
    if args.recall_num > longest:
        warn(f"--recall_num {args.recall_num}: the longest list holds {longest} texts, no more can be found")
    if args.format == "short" and args.recall_num < 10:
        raise options.UserError(f"--format short shows Recall@10 and @50, --recall_num {args.recall_num} is below both")
    results = {path: measure(ranking, positives, args) for path, ranking in rankings.items()}
    show(results, args.format or ("table" if len(results) > 1 else "lines"))
    if args.result_tsv:
        try:
            with open(args.result_tsv, "a", encoding="utf-8") as file:
                for result in results.values():
                    file.write("\t".join([time.strftime("%Y%m%d-%H%M%S"), *map(str, result.values())]) + "\n")
        except OSError as error:
            warn(f"--result_tsv {args.result_tsv}: not written ({error.strerror})")


if __name__ == "__main__":
    options.run(main)
