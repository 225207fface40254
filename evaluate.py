"""Recall@1/5/10/20/50 of recall_result files against the pairs that should have been found."""

import json
import os
import time
from argparse import Namespace
from dataclasses import dataclass

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


@dataclass
class Hits:
    """What a file recalls. ranks: of each query's positives, in the order of the pairs; longest: list of a query."""

    ranks: list[list[int]]
    longest: int


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
    if not found:
        raise options.UserError(f"{path}: has no line for any query of {args.similar_text_pair_file}; "
                                "was it written for other pairs?")
    if len(found) < len(positives):
        first = next(query for query in positives if query not in found)
        warn(f"{path}: no line for {len(positives) - len(found)} of {len(positives)} queries, they count as missed "
             f"(the first: '{first}')")
    if lines.bad:
        warn(f"{path}{lines.notes()}")
    if strangers:
        warn(f"{path}: {strangers} queries are not in {args.similar_text_pair_file} and are passed over")
    return Hits([found.get(query, []) for query in positives], longest)


def measure(hits: Hits, positives: dict[str, list[str]], args: Namespace) -> dict[str, float]:
    """Return the metrics of one file, in percent."""
    import metrics

    totals = [len(texts) for texts in positives.values()] if args.recall_of == "all" else None
    result = metrics.recalls(hits.ranks, args.recall_num, totals)
    if args.mrr:
        result[f"mrr@{args.recall_num}"] = round(100 * metrics.mrr_at(hits.ranks, args.recall_num), 3)
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
    hits = {path: read(path, positives, args) for path in args.recall_result_file}
    longest = max(found.longest for found in hits.values())
    if args.recall_num > longest:
        warn(f"--recall_num {args.recall_num}: the longest list holds {longest} texts, no more can be found")
    if args.format == "short" and args.recall_num < 10:
        raise options.UserError(f"--format short shows Recall@10 and @50, --recall_num {args.recall_num} is below both")
    results = {path: measure(found, positives, args) for path, found in hits.items()}
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
