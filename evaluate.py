"""Metrics of recall_result files against pairs, or of TREC runs against qrels; compare systems."""

import json
import os
import time
from argparse import Namespace
from collections.abc import Collection, Container
from dataclasses import dataclass

import options

TREC_METRICS = ("mrr@10", "recall@1000", "ndcg@10", "map", "hole@10")


def parser() -> options.Parser:
    """Return the command line."""
    parser = options.Parser(__doc__)
    group = parser.add_argument_group("recall_result files")
    group.add_argument(*options.PAIR_FLAGS, metavar="FILE", dest="similar_text_pair_file",
                       help="lines of query<TAB>positive")
    group.add_argument("--recall_result_file", nargs="+", metavar="FILE",
                       help="what recall.py or keyword_recall.py wrote; several files make a table")
    group.add_argument("--recall_num", type=options.positive_int, default=50, metavar="N",
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
    parser.add_argument("--seed", type=options.seed, default=1000, help="of --compare [1000]")
    parser.add_argument("--format", choices=["lines", "short", "json", "table"],
                        help="lines: recall@1=45.183; short: Recall@10<TAB>Recall@50 [lines; table for several files]")
    options.add_bad_lines(parser)
    return parser


def check(args: Namespace) -> None:
    """Raise UserError where the flags name no files, or two kinds of them."""
    if bool(args.run_file) == bool(args.recall_result_file):
        raise options.UserError("give either --similar_text_pair and --recall_result_file, or --qrels_file and "
                                "--run_file")
    needed, given = (("qrels_file", "run_file") if args.run_file else ("similar_text_pair_file", "recall_result_file"))
    if not getattr(args, needed):
        raise options.UserError(f"--{given} needs --{needed}")


@dataclass
class Hits:
    """What a file recalls. ranks: of each query's positives, in the order of the pairs; longest: list of a query."""

    ranks: list[list[int]]
    longest: int


def check_queries(path: str, found: Container[str], asked_file: str, asked: Collection[str]) -> None:
    """Warn of queries that a file has no line for; UserError where it has one for none."""
    from runtime import warn

    lacking = [query for query in asked if query not in found]
    if len(lacking) == len(asked):
        raise options.UserError(f"{path}: has no line for any query of {asked_file}; was it written for others?")
    if lacking:
        warn(f"{path}: no line for {len(lacking)} of {len(asked)} queries, they count as missed (the first: "
             f"'{lacking[0]}')")


def read(path: str, positives: dict[str, list[str]], args: Namespace) -> Hits:
    """Return at which ranks a file recalls the positives; UserError where it is of other pairs."""
    import data
    import metrics
    from runtime import warn

    lines = data.Lines(path)
    found: dict[str, list[int]] = {}
    strangers = longest = 0
    for query, texts in metrics.read_recall_result(path, args.skip_bad_lines, lines):
        longest = max(longest, len(texts))
        if query in positives:
            found[query] = metrics.hit_ranks(query, texts[: args.recall_num], positives[query])
        else:
            strangers += 1
    check_queries(path, found, args.similar_text_pair_file, positives)
    if lines.bad:
        warn(f"{path}{lines.notes()}")
    if strangers:
        warn(f"{path}: {strangers} queries are not in {args.similar_text_pair_file} and are passed over")
    return Hits([found.get(query, []) for query in positives], longest)


def measure(hits: Hits, positives: dict[str, list[str]], args: Namespace) -> dict[str, list[float]]:
    """Return each metric's value of each query, from 0 to 1."""
    import metrics

    totals = [len(texts) for texts in positives.values()] if args.recall_of == "all" else None
    result = {f"recall@{k}": metrics.recall_at(hits.ranks, k, totals)
              for k in metrics.RECALL_AT if k <= args.recall_num}
    if args.mrr:
        result[f"mrr@{args.recall_num}"] = metrics.mrr_at(hits.ranks, args.recall_num)
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
        columns = [max(11, len(name) + 2) for name in names]
        print(" " * width + "".join(f"{name:>{column}}" for name, column in zip(names, columns)))
    for path, result in results.items():
        if style == "table":
            print(f"{shown[path]:<{width}}" + "".join(
                f"{value:>{column}.2f}" for value, column in zip(result.values(), columns)))
        elif style == "short":
            print("\t".join(str(result[name]) for name in ("recall@10", "recall@50") if name in result))
        else:
            for name, value in result.items():
                print(f"{name}={value}")


def compare(values: dict[str, dict[str, list[float]]], seed: int) -> None:
    """Print each metric's mean with its interval, and the files against the first one; values from 0 to 1."""
    import numpy as np

    import significance

    base = next(iter(values))
    width = max(map(len, values))
    for name in values[base]:
        print(f"{name}, percent; 95 % bootstrap interval over {len(values[base][name])} queries")
        for path, found in values.items():
            own = np.array(found[name])
            mean = significance.interval(100 * own, seed)
            line = f"  {path:<{width}} {mean.mean:7.2f} [{mean.low:.2f}, {mean.high:.2f}]"
            if path != base:
                gap = significance.difference(100 * own, 100 * np.array(values[base][name]), seed)
                line += f"  {gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}] p={gap.p:.4f}"
            print(line)


def of_runs(args: Namespace) -> dict[str, dict[str, list[float]]]:
    """Return the values of TREC runs: of each file, each metric, each query."""
    import trec
    import trec_metrics

    trec_metrics.check(args.metrics)
    qrels = trec.read_qrels(args.qrels_file, args.skip_bad_lines)
    values = {}
    for path in args.run_file:
        run = trec.read_run(path, args.skip_bad_lines)
        check_queries(path, run, args.qrels_file, qrels)
        found = trec_metrics.per_query(run, qrels, args.metrics)
        values[path] = {name: list(row.values()) for name, row in found.items()}
    return values


def of_results(args: Namespace) -> dict[str, dict[str, list[float]]]:
    """Return the values of recall_result files: of each file, each metric, each query."""
    import data
    from runtime import warn

    pairs, lines = data.read_pairs(args.similar_text_pair_file, skip_bad_lines=args.skip_bad_lines)
    if lines.notes():
        warn(f"{args.similar_text_pair_file}{lines.notes()}")
    positives = data.group_pairs(pairs)
    hits = {path: read(path, positives, args) for path in args.recall_result_file}
    longest = max(found.longest for found in hits.values())
    if args.recall_num > longest:
        warn(f"--recall_num {args.recall_num}: the longest list holds {longest} texts, no more can be found")
    return {path: measure(found, positives, args) for path, found in hits.items()}


def main() -> None:
    """Read, count, print."""
    args = parser().parse_args()
    check(args)
    from runtime import rank, warn

    if rank() > 0:
        return
    if args.format == "short" and (args.run_file or args.recall_num < 10):
        raise options.UserError("--format short shows Recall@10 and @50 of recall_result files; it wants "
                                "--recall_num 10 or more")
    values = of_runs(args) if args.run_file else of_results(args)
    if args.compare:
        compare(values, args.seed)
        return
    import metrics

    results = {path: {name: metrics.percent(row) for name, row in found.items()}
               for path, found in values.items()}
    show(results, args.format or ("table" if len(results) > 1 else "lines"))
    if args.result_tsv and not args.run_file:
        try:
            with open(args.result_tsv, "a", encoding="utf-8") as file:
                for result in results.values():
                    file.write("\t".join([time.strftime("%Y%m%d-%H%M%S"), *map(str, result.values())]) + "\n")
        except OSError as error:
            warn(f"--result_tsv {args.result_tsv}: not written ({error.strerror})")


if __name__ == "__main__":
    options.run(main)
