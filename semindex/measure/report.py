"""The figures of result files and runs, read, compared and printed: what evaluate.py puts together. No paddle here."""

import json
import os
import time
from argparse import Namespace
from collections.abc import Collection, Container
from dataclasses import dataclass

from semindex.errors import UserError
from semindex.files import appended
from semindex.runtime import warn
from semindex.text.counted import counted


@dataclass
class Hits:
    """What a file recalls. ranks: of each query's positives, in the order of the pairs; longest: list of a query."""

    ranks: list[list[int]]
    longest: int


NEEDED = {"recall_result_file": "similar_text_pair_file", "run_file": "qrels_file", "vectors_dir": "qrels_file",
          "reply_file": "questions_file", "score_file": "labelled_file"}


def check(args: Namespace) -> list[str]:
    """Return the kinds of files that the flags name; UserError where they name none."""
    given = [name for name in NEEDED if getattr(args, name)]
    if not given:
        raise UserError("give either --similar_text_pair and --recall_result_file, or --qrels_file and --run_file or "
                        "--vectors_dir, or --questions_file and --reply_file, or --labelled_file and --score_file")
    if args.score_file is None:
        for flag in ("labelled_file", "threshold"):
            if getattr(args, flag) is not None:
                raise UserError(f"--{flag} goes with --score_file")
    elif args.compare:
        raise UserError("--compare does not go with --score_file: scores of pairs are no ranked lists")
    for name in given:
        if not getattr(args, NEEDED[name]):
            raise UserError(f"--{name} needs --{NEEDED[name]}")
    if args.candidates_file and not args.vectors_dir:
        raise UserError("--candidates_file goes with --vectors_dir; rank_collection.py writes a run of them")
    if args.format == "short" and (not args.recall_result_file or args.recall_num < 10):
        raise UserError("--format short shows Recall@10 and @50 of recall_result files; it wants --recall_num >= 10")
    if args.compare and args.fractions:
        raise UserError("--compare prints percent; leave --fractions out")
    return given


def check_queries(path: str, found: Container[str], asked_file: str, asked: Collection[str]) -> None:
    """Warn of queries that a file has no line for; UserError where it has one for none."""
    lacking = [query for query in asked if query not in found]
    if len(lacking) == len(asked):
        raise UserError(f"{path}: has no line for any query of {asked_file}; was it written for others?")
    if lacking:
        warn(f"{path}: no line for {len(lacking)} of {len(asked)} queries, they count as missed (the first: "
             f"'{lacking[0]}')")


def read(path: str, positives: dict[str, list[str]], args: Namespace) -> Hits:
    """Return at which ranks a file recalls the positives; UserError where it is of other pairs."""
    from semindex.measure.hits import hit_ranks
    from semindex.text.counted import counted, verb
    from semindex.text.results import read_recall_result
    from semindex.text.tables import ReadReport
    lines = ReadReport(path)
    found: dict[str, list[int]] = {}
    strangers = longest = 0
    for query, texts in read_recall_result(path, args.skip_bad_lines, lines):
        longest = max(longest, len(texts))
        if query in positives:
            found[query] = hit_ranks(query, texts[: args.recall_num], positives[query])
        else:
            strangers += 1
    check_queries(path, found, args.similar_text_pair_file, positives)
    if lines.bad:
        warn(f"{path}{lines.notes()}")
    if strangers:
        warn(f"{path}: {counted(strangers, 'query', 'queries')} {verb(strangers, 'is', 'are')} not in "
             f"{args.similar_text_pair_file}, passed over")
    return Hits([found.get(query, []) for query in positives], longest)


def measure(hits: Hits, positives: dict[str, list[str]], args: Namespace) -> dict[str, list[float]]:
    """Return each metric's value of each query, from 0 to 1."""
    from semindex.measure import hits as ranks

    totals = [len(texts) for texts in positives.values()] if args.recall_of == "all" else None
    result = {f"recall@{k}": ranks.recall_at(hits.ranks, k, totals)
              for k in ranks.RECALL_AT if k <= args.recall_num}
    if args.mrr:
        result[f"mrr@{args.recall_num}"] = ranks.mrr_at(hits.ranks, args.recall_num)
    return result


def show(results: dict[str, dict[str, float]], style: str, digits: int = 2) -> None:
    """Print the metrics of one file or several; digits: behind the point, in a table."""
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
                f"{value:>{column}.{digits}f}" for value, column in zip(result.values(), columns)))
        elif style == "short":
            print("\t".join(str(result[name]) for name in ("recall@10", "recall@50") if name in result))
        else:
            for name, value in result.items():
                print(f"{name}={value}")


def compare(values: dict[str, dict[str, list[float]]], seed: int, unpaired: Collection[str] = ()) -> None:
    """Print each metric's mean with its interval, and the files against the first one; values from 0 to 1.

    unpaired: metrics whose values are of other queries in each file, which no paired test compares.
    """
    import numpy as np

    from semindex.measure import significance

    base = next(iter(values))
    width = max(map(len, values))
    for name in values[base]:
        count = "its own" if name in unpaired else len(values[base][name])
        print(f"{name}, percent; 95 % bootstrap interval over {count} queries")
        for path, found in values.items():
            own = np.array(found[name])
            if not len(own):
                print(f"  {path:<{width}}       - of no query")
                continue
            mean = significance.interval(100 * own, seed)
            line = f"  {path:<{width}} {mean.mean:7.2f} [{mean.low:.2f}, {mean.high:.2f}]"
            if path != base and name not in unpaired:
                gap = significance.difference(100 * own, 100 * np.array(values[base][name]), seed)
                line += f"  {gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}] p={gap.p:.4f}"
            print(line)


def of_runs(args: Namespace) -> dict[str, dict[str, list[float]]]:
    """Return the values of TREC runs: of each file, each metric, each query."""
    from semindex.measure import trec as trec_metrics
    from semindex.text import trec

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
    from semindex.text.tables import group_pairs, read_pairs

    pairs, lines = read_pairs(args.similar_text_pair_file, skip_bad_lines=args.skip_bad_lines)
    if lines.notes():
        warn(f"{args.similar_text_pair_file}{lines.notes()}")
    positives = group_pairs(pairs)
    hits = {path: read(path, positives, args) for path in args.recall_result_file}
    longest = max(found.longest for found in hits.values())
    if args.recall_num > longest:
        warn(f"--recall_num {args.recall_num}: the longest list holds {counted(longest, 'text')}, no more can be found")
    return {path: measure(found, positives, args) for path, found in hits.items()}


def append_result(path: str, results: dict[str, dict[str, float]]) -> None:
    """Append a line of time and metrics for each file; a failure is a warning, for they were printed.

    UserError where the name can be no file's, or is a pipe's that nobody reads.
    """
    try:
        with appended(path) as file:
            for result in results.values():
                file.write("\t".join([time.strftime("%Y%m%d-%H%M%S"), *map(str, result.values())]) + "\n")
    except OSError as error:
        warn(f"--result_tsv {path}: not written ({error.strerror})")
