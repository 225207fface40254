"""Whether two texts match: their cosine against a threshold. Neither paddle nor numpy here."""

import argparse
from collections.abc import Iterable

from semindex.cli import Parser, number
from semindex.errors import UserError


def threshold(value: str) -> float | str:
    """Return a cosine, or the word auto; an argparse type."""
    return value if value == "auto" else float(number(float, -2, 2, "a cosine, or auto")(value))


def add_threshold(parser: Parser, where: str) -> None:
    """`--threshold` of the scripts that print cosines. where: what keeps one."""
    parser.add_argument("--threshold", type=threshold, metavar="T",
                        help=f"print <TAB>1 behind cosines from T up, else <TAB>0; auto: the threshold that {where} "
                             "keeps of its last evaluation on labels, see train_labelled.py")


def chosen_threshold(args: argparse.Namespace, kept: float | None, path: str) -> float | None:
    """Return the number of --threshold, None where it is not given; UserError where there is none for auto."""
    if args.threshold == "auto" and kept is None:
        raise UserError(f"--threshold auto: {path} keeps no threshold; train_labelled.py finds one with a "
                        "--dev_set_file of labels 0 and 1, or give a number")
    return kept if args.threshold == "auto" else args.threshold


def judged(cosines: Iterable[float], threshold: float | None) -> list[str]:
    """Return each cosine as text, with <TAB>1 behind those from the threshold up and <TAB>0 behind the others."""
    if threshold is None:
        return [str(value) for value in cosines]
    return [f"{value}\t{int(float(value) >= threshold)}" for value in cosines]
