"""Collections, queries, judgements and runs as TREC and MS MARCO write them. No paddle here."""

import re
from collections.abc import Iterable, Iterator, Sequence

from semindex.errors import UserError
from semindex.files import atomic_file
from semindex.text.counted import counted
from semindex.text.tables import ReadReport, read_rows

Qrels = dict[str, dict[str, int]]
Run = dict[str, dict[str, float]]
DOCUMENT = "id<TAB>text, or id<TAB>url<TAB>title<TAB>body"
GRADES = 1_000_000  # trec_eval's tables grow with the largest grade: one of 10^8 ends the process


def read_documents(path: str, separator: str, skip_bad_lines: bool = False,
                   lines: ReadReport | None = None) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of a file of id<TAB>text or id<TAB>url<TAB>title<TAB>body, the text may be empty.

    separator: stands between url, title and body in the text. Raises UserError as read_rows does.
    """
    for _, (name, *parts) in read_rows(path, (2, 4), skip_bad_lines, lines, DOCUMENT, may_lack=True, ids=1):
        yield name, f" {separator} ".join(part for part in parts if part)


def read_queries(path: str, skip_bad_lines: bool = False) -> list[tuple[str, str]]:
    """Return (id, text) of a file of id<TAB>text; UserError for an id that stands twice."""
    seen: dict[str, str] = {}
    for number, (name, text) in read_rows(path, (2,), skip_bad_lines, what="id<TAB>query", ids=1):
        if name in seen:
            raise UserError(f"{path}:{number}: the id {name} stands twice")
        seen[name] = text
    return list(seen.items())


def _words(path: str, counts: Sequence[int], what: str, skip_bad_lines: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, words) of a file whose columns are set apart by any white space."""
    for number, fields in read_rows(path, range(1, 100), skip_bad_lines, what=what):
        words = " ".join(fields).split()
        if len(words) in counts:
            yield number, words
        elif not skip_bad_lines:
            raise UserError(f"{path}:{number}: {counted(len(words), 'column')}; expected {what}; mend the line or pass "
                            "--skip_bad_lines")


def read_qrels(path: str, skip_bad_lines: bool = False) -> Qrels:
    """Return {query id: {document id: grade}} of lines of query, document (grade 1) or query, 0, document, grade."""
    qrels: Qrels = {}
    what = "query document, or query 0 document grade"
    for number, words in _words(path, (2, 4), what, skip_bad_lines):
        query, document, grade = (*words, "1") if len(words) == 2 else (words[0], words[2], words[3])
        if re.fullmatch(r"[+-]?[0-9]{1,7}", grade) and abs(int(grade)) <= GRADES:
            qrels.setdefault(query, {})[document] = int(grade)
        elif not skip_bad_lines:
            raise UserError(f"{path}:{number}: the grade '{grade}' is no whole number from -{GRADES} to {GRADES}; mend "
                            "the line or pass --skip_bad_lines")
    return qrels


def read_run(path: str, skip_bad_lines: bool = False) -> Run:
    """Return {query id: {document id: score}} of a TREC run; UserError for a document that a query ranks twice."""
    run: Run = {}
    for number, (query, _, document, _, score, _) in _words(path, (6,), "query Q0 document rank score name",
                                                            skip_bad_lines):
        row = run.setdefault(query, {})
        try:
            value = float(score)
        except ValueError:
            value = float("nan")
        if document in row or value != value:
            if skip_bad_lines:
                continue
            fault = f"the query {query} ranks {document} twice" if document in row else f"'{score}' is no score"
            raise UserError(f"{path}:{number}: {fault}; mend the line or pass --skip_bad_lines")
        row[document] = value
    return run


def _of_run(fields: list[str]) -> list[str]:
    """Return the six words of a line of a run, whatever its second one is; [] for a line of another kind."""
    words = " ".join(fields).split()
    if len(words) != 6 or len(fields) not in (1, 6) and words[1] != "Q0":
        return []
    try:
        int(words[3]), float(words[4])
    except ValueError:
        return []
    return words


def read_candidates(path: str, skip_bad_lines: bool = False) -> dict[str, list[str]]:
    """Return {query id: document ids} of a TREC run, or of lines that begin with query<TAB>document (MS MARCO).

    The first line says which: the rank and the score of a run are numbers. Raises UserError with file:line for a later
    line of the other kind.
    """
    found: dict[str, dict[str, None]] = {}
    what, is_run = "query<TAB>document, or a TREC run", None
    for number, fields in read_rows(path, range(1, 100), skip_bad_lines, what=what, may_lack=True):
        run, pair = _of_run(fields), fields if len(fields) > 1 else fields[0].split()
        if is_run is None:
            is_run = bool(run)
        words = [run[0], run[2]] if is_run and run else [] if is_run else pair[:2]
        if len(words) == 2 and all(len(word.split()) == 1 for word in words):
            found.setdefault(words[0], {})[words[1]] = None
        elif not skip_bad_lines:
            kind = "query Q0 document rank score name, as the lines before" if is_run else what
            raise UserError(f"{path}:{number}: is no line of {kind}; mend the line or pass --skip_bad_lines")
    return {query: list(documents) for query, documents in found.items()}


def write_run(path: str, rows: Iterable[tuple[object, Iterable[tuple[object, float]]]], name: str) -> int:
    """Write (query id, [(document id, score), ...]), best first, as a TREC run; return how many lines."""
    count = 0
    with atomic_file(path) as file:
        for query, found in rows:
            for rank, (document, score) in enumerate(found, 1):
                file.write(f"{query} Q0 {document} {rank} {score} {name}\n")
                count += 1
    return count
