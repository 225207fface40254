"""What ask.py and calibrate.py read: the FAQ with its calibration, questions, labelled questions."""

import argparse
import os
from collections.abc import Iterator

from semindex import runtime
from semindex.errors import UserError
from semindex.faq.directory import Faq
from semindex.search.by_hand import typed
from semindex.search.index import IndexSettings
from semindex.search.methods import Calibration
from semindex.search.milvus_settings import MilvusSettings
from semindex.text.tables import read_rows


def calibration_path(faq_dir: str) -> str:
    """Return where calibrate.py leaves a FAQ's calibration: beside it, since the directory is written as a whole."""
    return os.path.normpath(faq_dir) + ".calibration.json"


def open_faq(args: argparse.Namespace) -> tuple[Faq, Calibration | None, str]:
    """Return the FAQ of the flags, its calibration where there is one that fits, and that one's path.

    A calibration made with another encoder or index is passed over with a warning; UserError where it is damaged, or
    was named and is not there.
    """
    settings = IndexSettings(milvus=MilvusSettings.from_flags(args))
    faq = Faq.load(args.faq_dir, args.trust_files, settings)
    path = calibration_path(args.faq_dir) if args.calibration is None else args.calibration
    advice = "not calibrated: it cannot tell when it has no answer; calibrate.py sets the thresholds"
    if args.calibration is None and not os.path.exists(path) or not path:
        runtime.warn(f"{args.faq_dir}: {advice}")
        return faq, None, path
    found = Calibration.load(path)
    wrong = "FAQ" if found.corpus != faq.fingerprint else ""
    wrong = "encoder" if found.encoder != faq.encoder["fingerprint"] else wrong
    if wrong:
        runtime.warn(f"{path}: was made with another {wrong}; {args.faq_dir} is {advice}")
        return faq, None, path
    if found.thresholds is None:
        runtime.warn(f"{path}: holds no thresholds; {args.faq_dir} is {advice}")
    return faq, found, path


def read_questions(path: str, skip_bad_lines: bool) -> list[str]:
    """Return the questions of a file, with those that stand twice."""
    return [fields[0] for _, fields in read_rows(path, (1, 2), skip_bad_lines, what="a question", may_lack=True)]


def entries_of(faq: Faq, wanted: list[str], path: str) -> list[int]:
    """Return the entry of each wanted question, -1 for ''; UserError for one that the FAQ does not have."""
    places = dict(zip(faq.questions, faq.owners.tolist()))
    for target in wanted:
        if target and target not in places:
            raise UserError(f"{path}: '{target}' is no question of the FAQ")
    return [places[target] if target else -1 for target in wanted]


def typed_questions(skip_bad_lines: bool) -> Iterator[str]:
    """Yield the questions typed at the terminal, or piped."""
    return (line for line in typed(skip_bad_lines, "question> ") if line)
