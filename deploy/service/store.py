"""The truth: entries and feedback in SQLite. What was acknowledged is on the disk. Standard library only."""

import contextlib
import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from semindex.errors import UserError
from semindex.faq.entries import Entry

FORMAT = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY AUTOINCREMENT, question TEXT NOT NULL, answer TEXT NOT NULL,
    category TEXT NOT NULL, similar TEXT NOT NULL, changed INTEGER NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS by_change ON entries (changed);
CREATE TABLE IF NOT EXISTS questions (text TEXT PRIMARY KEY, entry INTEGER NOT NULL REFERENCES entries (id));
CREATE INDEX IF NOT EXISTS by_entry ON questions (entry);
CREATE TABLE IF NOT EXISTS removed (changed INTEGER PRIMARY KEY, id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS feedback (id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, query TEXT NOT NULL,
    question TEXT NOT NULL, label INTEGER NOT NULL);
"""


class ConflictError(Exception):
    """A question that another entry has, or that stands twice."""


class UncertainError(Exception):
    """A write that did not end in time: it may be on the disk, now or later."""


class UnknownError(Exception):
    """An id that no entry has."""


@dataclass(frozen=True)
class Change:
    """A row of the log: an entry as it is now, or None where it was removed. number: grows with every change."""

    number: int
    id: int
    entry: Entry | None


class Store:
    """Entries by id, each change numbered. identity: of this database and its copies; no other has it.

    Threads may share it: one writes at a time, each has its own connection.
    """

    def __init__(self, path: str) -> None:
        self.path, self._turn, self._local = path, threading.Lock(), threading.local()
        self._open: list[sqlite3.Connection] = []
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        try:
            with self._writing() as db:
                db.executescript(SCHEMA)
                db.execute("INSERT OR IGNORE INTO about VALUES ('format', ?)", (str(FORMAT),))
                db.execute("INSERT OR IGNORE INTO about VALUES ('identity', ?)", (uuid.uuid4().hex,))
            found, self.identity = (self._db().execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()[0]
                                    for name in ("format", "identity"))
        except sqlite3.Error as error:
            raise UserError(f"{path}: no database of the service ({error})") from None
        if found != str(FORMAT):
            raise UserError(f"{path}: written by another version of this project (format {found})")

    def _db(self) -> sqlite3.Connection:
        if not hasattr(self._local, "db"):
            db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            self._local.db = db
            self._open.append(db)
        return self._local.db

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection within a transaction that is on the disk once it ends."""
        with self._turn:
            db = self._db()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                if db.in_transaction:
                    db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # a full disk ends some by itself
                    db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close every connection."""
        for db in self._open:
            db.close()

    def _next(self, db: sqlite3.Connection) -> int:
        last = db.execute("SELECT value FROM about WHERE name = 'last'").fetchone()
        number = int(last[0]) + 1 if last else 1
        db.execute("INSERT OR REPLACE INTO about VALUES ('last', ?)", (str(number),))
        return number

    def _put(self, db: sqlite3.Connection, entry: Entry, id: int | None) -> Change:
        number = self._next(db)
        row = entry.question, entry.answer, entry.category, json.dumps(entry.similar, ensure_ascii=False), number
        if id is None:
            id = db.execute("INSERT INTO entries (question, answer, category, similar, changed) VALUES (?, ?, ?, ?, ?)",
                            row).lastrowid
            assert id is not None
        else:
            changed = db.execute("UPDATE entries SET question = ?, answer = ?, category = ?, similar = ?, changed = ? "
                                 "WHERE id = ?", (*row, id)).rowcount
            if not changed:
                raise UnknownError(id)
            db.execute("DELETE FROM questions WHERE entry = ?", (id,))
        for text in entry.questions:
            try:
                db.execute("INSERT INTO questions VALUES (?, ?)", (text, id))
            except sqlite3.IntegrityError:
                raise ConflictError(text) from None
        return Change(number, id, entry)

    def add(self, entries: Iterable[Entry]) -> list[Change]:
        """Add entries, all or none; ConflictError for a question that is there."""
        with self._writing() as db:
            return [self._put(db, entry, None) for entry in entries]

    def change(self, id: int, entry: Entry) -> Change:
        """Put an entry in the place of one; UnknownError, ConflictError."""
        with self._writing() as db:
            return self._put(db, entry, id)

    def remove(self, id: int) -> Change:
        """Remove an entry; UnknownError."""
        with self._writing() as db:
            number = self._next(db)
            db.execute("DELETE FROM questions WHERE entry = ?", (id,))
            if not db.execute("DELETE FROM entries WHERE id = ?", (id,)).rowcount:
                raise UnknownError(id)
            db.execute("INSERT INTO removed VALUES (?, ?)", (number, id))
        return Change(number, id, None)

    def get(self, id: int) -> Entry:
        """Return an entry; UnknownError."""
        row = self._db().execute("SELECT question, answer, category, similar FROM entries WHERE id = ?",
                                 (id,)).fetchone()
        if row is None:
            raise UnknownError(id)
        return _entry(row)

    def several(self, ids: Sequence[int]) -> dict[int, Entry]:
        """Return those entries of some ids that are there."""
        found = dict[int, Entry]()
        for start in range(0, len(ids), 500):  # SQLite takes so many parameters
            part = ids[start : start + 500]
            rows = self._db().execute("SELECT id, question, answer, category, similar FROM entries WHERE id IN "
                                      f"({','.join('?' * len(part))})", part)
            found |= {row[0]: _entry(row[1:]) for row in rows}
        return found

    def some(self, after: int = 0, limit: int = 100, like: str = "") -> list[tuple[int, Entry]]:
        """Return entries by id behind `after`; like: those whose question or answer holds it."""
        mark = "%" + like.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        rows = self._db().execute(
            "SELECT id, question, answer, category, similar FROM entries WHERE id > ? AND (question LIKE ? "
            "ESCAPE '\\' OR answer LIKE ? ESCAPE '\\') ORDER BY id LIMIT ?", (after, mark, mark, limit))
        return [(row[0], _entry(row[1:])) for row in rows]

    def count(self) -> int:
        """Return how many entries there are."""
        return int(self._db().execute("SELECT COUNT(*) FROM entries").fetchone()[0])

    def last(self) -> int:
        """Return the number of the last change, 0 for none."""
        row = self._db().execute("SELECT value FROM about WHERE name = 'last'").fetchone()
        return int(row[0]) if row else 0

    def since(self, number: int) -> list[Change]:
        """Return what became of every entry that changed after a number, in the order of the last change of each."""
        db = self._db()
        db.execute("BEGIN")  # one moment for both
        try:
            rows = db.execute("SELECT changed, id, question, answer, category, similar FROM entries WHERE changed > ?",
                              (number,)).fetchall()
            gone = db.execute("SELECT changed, id FROM removed WHERE changed > ?", (number,)).fetchall()
        finally:
            db.execute("COMMIT")
        found = [Change(row[0], row[1], _entry(row[2:])) for row in rows]
        found += [Change(row[0], row[1], None) for row in gone]
        return sorted(found, key=lambda change: change.number)

    def add_feedback(self, at: float, query: str, question: str, label: int) -> int:
        """Keep what a user said of a question that was found; return its number."""
        with self._writing() as db:
            row = db.execute("INSERT INTO feedback (at, query, question, label) VALUES (?, ?, ?, ?)",
                             (at, query, question, label))
            return int(row.lastrowid or 0)

    def feedback(self) -> Iterator[tuple[str, str, int]]:
        """Yield (query, question, label), the last word on each pair."""
        yield from self._db().execute("SELECT query, question, label FROM feedback WHERE id IN "
                                      "(SELECT MAX(id) FROM feedback GROUP BY query, question) ORDER BY id")


def _entry(row: tuple[Any, ...]) -> Entry:
    return Entry(row[0], row[1], row[2], json.loads(row[3]))
