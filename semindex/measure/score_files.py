"""Files of scores against labelled pairs: what evaluate.py prints of them. No paddle here."""

import math
from argparse import Namespace

import numpy as np

from semindex.errors import UserError
from semindex.measure import report
from semindex.measure.labelled import at_threshold, binary_metrics, correlations
from semindex.runtime import warn
from semindex.text.counted import counted, verb
from semindex.text.tables import labelled_table, read_rows


def read_scores(path: str) -> np.ndarray:
    """Return the number at the beginning of each line, float64 [lines]; nan as predict.py leaves it is one."""
    found = []
    for number, fields in read_rows(path, (1, 2), what="score, or score<TAB>0 or 1, as predict.py writes them"):
        try:
            found.append(float(fields[0]))
        except ValueError:
            raise UserError(f"{path}:{number}: '{fields[0]}' is no number; expected a score, as predict.py writes "
                            "them") from None
    return np.array(found)


def of_scores(args: Namespace) -> dict[str, dict[str, float]]:
    """Return the metrics of each file of scores; of a line without a score the pair is left out, with a warning.

    Labels of 0 and 1: binary metrics, at --threshold where that is given; of all labels the correlations.
    """
    pairs, labels, lines = labelled_table(args.labelled_file, args.skip_bad_lines)
    total, places = lines.rows + lines.blank + lines.bad, np.array(lines.places) - 1
    binary = bool(np.isin(labels, (0, 1)).all())
    if len(np.unique(labels)) < 2:
        raise UserError(f"{args.labelled_file}: all labels are {labels[0]:g}: there is nothing to tell apart")
    if args.threshold is not None and not binary:
        raise UserError(f"--threshold: the labels of {args.labelled_file} are not all 0 or 1; leave it out")
    results = {}
    for path in args.score_file:
        scores = read_scores(path)
        if len(scores) != total:
            raise UserError(f"{path}: holds {counted(len(scores), 'score')}, {args.labelled_file} "
                            f"{counted(total, 'line')}; was it written for others?")
        own = scores[places]
        there = np.isfinite(own)
        if not there.any():
            raise UserError(f"{path}: holds no score of a pair")
        lacking = int((~there).sum())
        if lacking:
            warn(f"{path}: {counted(lacking, 'pair')} {verb(lacking, 'has', 'have')} no score, left out")
        found = {}
        if binary:
            found = binary_metrics(own[there], labels[there])
            if args.threshold is not None:
                found = {"average_precision": found["average_precision"]} | at_threshold(own[there], labels[there],
                                                                                         args.threshold)
        found |= correlations(own[there], labels[there])
        results[path] = {name: value for name, value in found.items() if not math.isnan(value)}
    return results


def show(args: Namespace) -> None:
    """Print the metrics of all files as --format says; correlations and shares in percent, thresholds as they are."""
    part = 100 if args.fractions else 1
    results = {path: {name: round(value, 4) if name.endswith("threshold") else round(value / part, 5)
                      for name, value in found.items()} for path, found in of_scores(args).items()}
    report.show(results, args.format or ("table" if len(results) > 1 else "lines"), 4 if args.fractions else 2)
