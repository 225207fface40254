"""The recall_result format: lines of query<TAB>recalled text<TAB>cosine, read with care and written atomically."""

import gzip
import itertools
import math
import operator
import os
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from semindex.errors import UserError
from semindex.files import atomic_file
from semindex.text.tables import ReadReport, open_binary, read_rows


class _FlawError(Exception):
    """A line that the fast reader leaves to the careful one."""


def _blocks(file: BinaryIO, size: int = 2**20) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines: small ones, whose memory is used again for the next."""
    rest = b""
    while block := file.read(size):
        whole, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            yield whole + newline
    if rest:
        yield rest + b"\n"


def _flawless_rankings(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield what read_recall_result does, some times as fast; _FlawError at the first line with any flaw."""
    asked: set[str] = set()
    query, texts, cosines = "", list[str](), list[float]()

    def whole() -> tuple[str, list[str]]:
        distinct = set(texts)
        # To rise by less than 1e-6 is no flaw, but rare; infinities of both signs add up to no number.
        if (not query or query in asked or len(distinct) < len(texts) or "" in distinct
                or any(map(operator.gt, cosines[1:], cosines)) or math.isnan(sum(cosines))):
            raise _FlawError
        asked.add(query)
        return query, texts

    with open_binary(path) as file:
        for block in _blocks(file):
            array = np.frombuffer(block, np.uint8)
            marks = array[(array == 9) | (array == 10)]
            if block.startswith(b"\xef\xbb\xbf") or len(marks) % 3 or (marks.reshape(-1, 3) != [9, 9, 10]).any():
                raise _FlawError
            try:
                fields = list(map(str.strip, block.decode("utf-8").replace("\n", "\t").split("\t")))
                values = list(map(float, fields[2::3]))
            except ValueError:
                raise _FlawError from None
            found, start = fields[1::3], 0
            for name, same in itertools.groupby(fields[:-1:3]):  # behind the last line stands an empty field
                stop = start + sum(1 for _ in same)
                if name != query:
                    if texts:
                        yield whole()
                    query, texts, cosines = name, [], []
                texts += found[start:stop]
                cosines += values[start:stop]
                start = stop
    yield whole()


def read_recall_result(path: str, skip_bad_lines: bool = False,
                       lines: ReadReport | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yield (query, texts, best first) of a file with lines of query<TAB>recalled text<TAB>cosine.

    Raises UserError with file:line for a text that a query recalls twice, a cosine that rises within a query,
    and a query whose lines are not together: such a file was shuffled, joined or cut. With skip_bad_lines
    those lines are counted in `lines` and skipped.
    """
    done = 0
    if os.path.isfile(path):
        try:
            for ranking in _flawless_rankings(path):
                yield ranking
                done += 1
            return
        except (_FlawError, EOFError, zlib.error, gzip.BadGzipFile):
            pass
    yield from itertools.islice(_checked_rankings(path, skip_bad_lines, lines or ReadReport(path)), done, None)


def _checked_rankings(path: str, skip_bad_lines: bool, lines: ReadReport) -> Iterator[tuple[str, list[str]]]:
    """Yield what read_recall_result does, and say what is wrong with a line."""
    asked: set[str] = set()
    query: str | None = None
    last, texts, seen = 0.0, list[str](), set[str]()
    for number, (name, text, score) in read_rows(path, (3,), skip_bad_lines, lines,
                                                 "query<TAB>recalled text<TAB>cosine"):
        fault = None
        try:
            cosine = float(score)
        except ValueError:
            cosine = float("nan")
        if cosine != cosine:
            fault = f"'{score}' is not a cosine"
        elif name != query:
            if name in asked:
                fault = f"lines of the query '{name}' stand apart: the file was shuffled or joined"
            else:
                if query is not None:
                    yield query, texts
                asked.add(name)
                query, texts, seen, last = name, [text], {text}, cosine
                continue
        elif text in seen:
            fault = f"the query '{name}' recalls '{text}' twice"
        elif cosine > last + 1e-6:
            fault = f"the cosine rises from {last} to {cosine}: the file was shuffled"
        if fault is None:
            texts.append(text)
            seen.add(text)
            last = cosine
        elif skip_bad_lines:
            lines.bad += 1
        else:
            raise UserError(f"{path}:{number}: {fault}; write the file anew with recall.py "
                            "or pass --skip_bad_lines")
    if query is not None:
        yield query, texts


def write_recall_result(path: str, rankings: Iterable[tuple[str, Iterable[tuple[str, float]]]]) -> int:
    """Write lines of query<TAB>text<TAB>cosine, best first; return how many. Whole or not at all."""
    count = 0
    with atomic_file(path) as file:
        for query, found in rankings:
            for text, score in found:
                file.write(f"{query}\t{text}\t{score}\n")
                count += 1
    return count
