"""A result for each line of a file, whatever the line: what cannot be computed leaves a gap and shifts nothing."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from semindex.text.tables import ReadReport, read_rows

PAIR = "text<TAB>text, a third column passed over"
WINDOW = 4096  # lines read, encoded and written at once


def aligned_rows(path: str, columns: Sequence[int], skip_bad_lines: bool,
                 lines: ReadReport) -> Iterator[list[str] | None]:
    """Yield the fields of every line, None for a blank one and a malformed one; errors as read_rows raises them."""
    last = 0
    for number, fields in read_rows(path, columns, skip_bad_lines, lines, PAIR if 2 in columns else ""):
        yield from itertools.repeat(None, number - last - 1)
        yield fields
        last = number
    yield from itertools.repeat(None, lines.rows + lines.blank + lines.bad - last)


def aligned_results(rows: Iterable[list[str] | None],
                    work: Callable[[list[list[str]]], Iterable[object]]) -> Iterator[str]:
    """Yield a window's results, a line each, nan where the row is None. work: from rows to a result for each."""
    waiting = iter(rows)
    while window := list(itertools.islice(waiting, WINDOW)):
        results = ["nan"] * len(window)
        there = [i for i, fields in enumerate(window) if fields is not None]
        if there:
            for i, result in zip(there, work([fields for fields in window if fields is not None])):
                results[i] = str(result)
        yield "\n".join(results) + "\n"
