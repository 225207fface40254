"""Tab-separated text files to checked rows. Formats and errors as docs/data.md says."""

import array
import gzip
import itertools
import math
import os
import select
import stat
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

import numpy as np

from semindex.errors import UserError
from semindex.text.counted import counted
from semindex.text.streams import standard_input

WRITER_SECONDS = 30  # how long a named pipe may lack a writer
SHAPES = {1: "one text a line", 2: "text<TAB>text", 3: "query<TAB>positive<TAB>hard negative"}


@dataclass
class ReadReport:
    """What reading a file met beside its rows: the file, and how many lines were passed over.

    places: the line number of each row that read_table returned.
    """

    path: str
    blank: int = 0
    bad: int = 0
    rows: int = 0
    unlike: int = 0
    places: "array.array[int]" = field(default_factory=lambda: array.array("q"), repr=False)

    def notes(self) -> str:
        """Return ', 2 blank lines skipped' or the like, '' where there is nothing to tell."""
        parts = [(self.blank, "blank"), (self.bad, "malformed"), (self.unlike, "label-0")]
        return "".join(f", {counted(n, what + ' line')} skipped" for n, what in parts if n)


def _open_pipe(path: str) -> BinaryIO:
    """Open a named pipe for reading; UserError where nobody writes to it for WRITER_SECONDS."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    look = select.poll()
    look.register(descriptor, select.POLLIN)
    if not look.poll(1000):
        print(f"waiting for somebody to write to the pipe {path}", file=sys.stderr, flush=True)
        if not look.poll(1000 * WRITER_SECONDS):
            os.close(descriptor)
            raise UserError(f"{path}: is a pipe that nobody writes to; start its writer first, or give a file")
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "rb")


def open_binary(path: str) -> BinaryIO:
    """Open a file, gzipped where its name ends in .gz, or standard input for -; UserError for none or an empty one."""
    if path == "-":
        return standard_input()
    if not path:
        raise UserError("an empty file name was given")
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file")
    if os.path.isdir(path):
        raise UserError(f"{path}: is a directory, a file was expected")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise UserError(f"{path}: is empty")
    if stat.S_ISFIFO(os.stat(path).st_mode):
        return _open_pipe(path)
    return cast(BinaryIO, gzip.open(path, "rb")) if path.endswith(".gz") else open(path, "rb")


def read_rows(path: str, columns: Sequence[int], skip_bad_lines: bool = False, lines: ReadReport | None = None,
              what: str = "", may_lack: bool = False, ids: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of a tab-separated UTF-8 file, fields stripped of outer white space.

    columns: the numbers of fields a line may have. may_lack: all but the first may be empty. ids: so many fields at the
    front are ids, without white space: a run, whose columns it sets apart, could not be read again. A byte-order mark,
    CRLF and blank lines are tolerated.
    Raises UserError with file:line for another shape, an empty field, an id with white space or invalid UTF-8 (counted
    and skipped with skip_bad_lines), and for a file that has no line left.
    """
    lines = lines or ReadReport(path)
    what = what or " or ".join(SHAPES[n] for n in columns)

    def fault(text: str) -> None:
        if not skip_bad_lines:
            raise UserError(f"{path}:{number}: {text}; expected {what}; mend the line or pass --skip_bad_lines")
        lines.bad += 1

    number = 0
    with open_binary(path) as file:
        try:
            for number, raw in enumerate(file, 1):
                if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
                    raw = raw[3:]
                try:
                    line = raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    hint = " (GBK? iconv -f gbk -t utf-8 mends the file)"
                    fault(f"invalid UTF-8 at byte {error.start + 1}{hint}")
                    continue
                fields = [text.strip() for text in line.split("\t")]
                if ids and any(len(name.split()) > 1 for name in fields[:ids]):
                    fault(f"the id '{next(name for name in fields[:ids] if len(name.split()) > 1)}' holds white space")
                elif len(fields) in columns and (all(fields) or may_lack and fields[0]):
                    lines.rows += 1
                    yield number, fields
                elif not line.strip():
                    lines.blank += 1
                elif len(fields) not in columns:
                    fault(counted(len(fields), "column"))
                else:
                    fault(f"column {fields.index('') + 1} is empty")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{path}: not a whole gzip file ({error})") from None
    if lines.rows == 0:
        raise UserError(f"{path}: holds no line of {what} (of {number}{lines.notes()})")


def read_table(path: str, columns: Sequence[int], skip_bad_lines: bool = False,
               what: str = "") -> tuple[list[list[str]], ReadReport]:
    """Read a whole file whose lines all have as many columns as its first one; see read_rows."""
    lines = ReadReport(path)
    rows: list[list[str]] = []
    for number, fields in read_rows(path, columns, skip_bad_lines, lines, what):
        if rows and len(fields) != len(rows[0]) and not skip_bad_lines:
            raise UserError(f"{path}:{number}: {counted(len(fields), 'column')}, but the lines before have "
                            f"{len(rows[0])}; "
                            "mend the line or pass --skip_bad_lines")
        rows.append(fields)
        lines.places.append(number)
    (usual, count), = Counter(map(len, rows)).most_common(1)
    if count < len(rows):
        rows = _keep(rows, lines, [len(fields) == usual for fields in rows])
    return rows, lines


def _keep(rows: list[list[str]], lines: ReadReport, good: Sequence[bool]) -> list[list[str]]:
    """Return the good rows; the others count as malformed."""
    lines.bad += len(rows) - sum(good)
    lines.rows = sum(good)
    lines.places = array.array("q", itertools.compress(lines.places, good))
    return list(itertools.compress(rows, good))


def _number(text: str) -> float:
    """Return the finite number that a text is, nan for another text."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def numbers(rows: list[list[str]], lines: ReadReport,
            skip_bad_lines: bool = False) -> tuple[list[list[str]], np.ndarray | None]:
    """Return the rows of read_table and their labels: the third column as float64 [rows], None where it is text.

    A third column is labels where more than half of it is numbers, not counting a first line that may be a header.
    Raises UserError with file:line for a line of such a file that has no number there; with skip_bad_lines it counts as
    malformed and is left out.
    """
    if len(rows[0]) != 3:
        return rows, None
    labels = np.array([_number(row[2]) for row in rows])
    good = np.isfinite(labels)
    body = good if good[0] or len(rows) == 1 else good[1:]
    if 2 * body.sum() <= len(body):
        return rows, None
    if not good.all():
        odd = int(np.flatnonzero(~good)[0])
        if not skip_bad_lines:
            header = "; a header? Remove it" if odd == 0 else "; mend the line"
            raise UserError(f"{lines.path}:{lines.places[odd]}: the label '{rows[odd][2]}' is no number, but the third "
                            f"column of {good.sum()} of {len(rows)} lines is{header} or pass --skip_bad_lines")
        rows, labels = _keep(rows, lines, good.tolist()), labels[good]
    return rows, labels


def labelled_table(path: str, skip_bad_lines: bool = False) -> tuple[list[list[str]], np.ndarray, ReadReport]:
    """Read labelled pairs: rows of two texts, and their labels, float64 [rows]; UserError for any other file."""
    rows, lines = read_table(path, (3,), skip_bad_lines, "text<TAB>text<TAB>label")
    rows, labels = numbers(rows, lines, skip_bad_lines)
    if labels is None:
        raise UserError(f"{path}: the third column holds texts, expected text<TAB>text<TAB>label, a number")
    return [row[:2] for row in rows], labels, lines


def read_pairs(path: str, columns: Sequence[int] = (2, 3),
               skip_bad_lines: bool = False) -> tuple[list[list[str]], ReadReport]:
    """Read evaluation pairs as read_table does; of labelled pairs, a number in the third column, those above 0."""
    rows, lines = read_table(path, columns, skip_bad_lines)
    rows, labels = numbers(rows, lines, skip_bad_lines)
    if labels is not None:
        lines.unlike = int((labels <= 0).sum())
        rows = [row for row, label in zip(rows, labels) if label > 0]
        if not rows:
            raise UserError(f"{path}: no pair has a label above 0, there is nothing to find")
    return rows, lines


def group_pairs(rows: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Map each query to its distinct positives, both in file order; rows of one column have none."""
    groups: dict[str, dict[str, None]] = {}
    for row in rows:
        groups.setdefault(row[0], {}).update(dict.fromkeys(row[1:2]))
    return {query: list(positives) for query, positives in groups.items()}


def read_labelled(path: str, skip_bad_lines: bool) -> tuple[list[str], list[str]]:
    """Return the questions of a file, and of each the question of the FAQ that answers it, '' where none does.

    Raises UserError with file:line for a line of one column, and for a question that stands twice.
    """
    what = "question<TAB>question of the FAQ, the second empty where it has no answer"
    questions, wanted = dict[str, int](), list[str]()
    for number, (question, target) in read_rows(path, (2,), skip_bad_lines, what=what, may_lack=True):
        question, target = " ".join(question.split()), " ".join(target.split())  # as a FAQ's own are read
        if question in questions:
            raise UserError(f"{path}:{number}: '{question}' stands in line {questions[question]} too")
        questions[question] = number
        wanted.append(target)
    return list(questions), wanted
