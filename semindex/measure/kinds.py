"""Every kind of files that evaluate.py measures, one after the other. No paddle here."""

from argparse import Namespace

from semindex.measure import faq, report, score_files, vectors
from semindex.measure.hits import percent
from semindex.runtime import rank

READERS = {"run_file": report.of_runs, "vectors_dir": vectors.of_vectors, "reply_file": faq.of_replies,
           "recall_result_file": report.of_results}


def measure(args: Namespace) -> None:
    """Read, count and print what the flags name; UserError before anything is printed of ranked lists."""
    kinds = report.check(args)
    if rank() > 0:
        return
    found = {kind: read(args) for kind, read in READERS.items() if kind in kinds}
    for kind, values in found.items():
        _show(args, kind, values)
    if "score_file" in kinds:
        score_files.show(args)


def _show(args: Namespace, kind: str, values: dict[str, dict[str, list[float]]]) -> None:
    """Print the metrics of one kind of files, or compare them."""
    if args.compare:
        report.compare(values, args.seed, faq.BY_STATE if kind == "reply_file" else ())
        return
    results = {path: {name: percent(row) for name, row in found.items()} for path, found in values.items()}
    report.show({path: {name: round(value / 100, 5) if args.fractions else value for name, value in row.items()}
                 for path, row in results.items()},
                args.format or ("table" if len(results) > 1 else "lines"), 4 if args.fractions else 2)
    if args.result_tsv and kind == "recall_result_file":
        report.append_result(args.result_tsv, results)
