"""Text files to checked rows, and rows to batches. Formats and errors as docs/data.md says."""

import array
import gzip
import hashlib
import itertools
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

import numpy as np

from deploy.python.serving.ragged import Ragged
from options import UserError

SHAPES = {1: "one text a line", 2: "text<TAB>text", 3: "query<TAB>positive<TAB>hard negative"}


@dataclass
class Lines:
    """What reading a file met beside its rows: the file, and how many lines were passed over."""

    path: str
    blank: int = 0
    bad: int = 0
    rows: int = 0
    unlike: int = 0

    def notes(self) -> str:
        """Return ', 2 blank lines skipped' or the like, '' where there is nothing to tell."""
        parts = [(self.blank, "blank"), (self.bad, "malformed"), (self.unlike, "label-0")]
        return "".join(f", {n} {what} line{'s' * (n > 1)} skipped" for n, what in parts if n)


def open_binary(path: str) -> BinaryIO:
    """Open a file, gzipped where its name ends in .gz, or standard input for -; UserError for none or an empty one."""
    if path == "-":
        return sys.stdin.buffer
    if not path:
        raise UserError("an empty file name was given")
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file")
    if os.path.isdir(path):
        raise UserError(f"{path}: is a directory, a file was expected")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise UserError(f"{path}: is empty")
    return cast(BinaryIO, gzip.open(path, "rb")) if path.endswith(".gz") else open(path, "rb")


def read_rows(path: str, columns: Sequence[int], skip_bad_lines: bool = False, lines: Lines | None = None,
              what: str = "", may_lack: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of a tab-separated UTF-8 file, fields stripped of outer white space.

    columns: the numbers of fields a line may have. may_lack: all but the first may be empty. A byte-order mark, CRLF
    and blank lines are tolerated.
    Raises UserError with file:line for another shape, an empty field or invalid UTF-8 (counted and skipped
    with skip_bad_lines), and for a file that has no line left.
    """
    lines = lines or Lines(path)
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
                if len(fields) in columns and (all(fields) or may_lack and fields[0]):
                    lines.rows += 1
                    yield number, fields
                elif not line.strip():
                    lines.blank += 1
                elif len(fields) not in columns:
                    fault(f"{len(fields)} column{'s' * (len(fields) > 1)}")
                else:
                    fault(f"column {fields.index('') + 1} is empty")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{path}: not a whole gzip file ({error})") from None
    if lines.rows == 0:
        raise UserError(f"{path}: holds no line of {what} (of {number}{lines.notes()})")


def read_table(path: str, columns: Sequence[int], skip_bad_lines: bool = False) -> tuple[list[list[str]], Lines]:
    """Read a whole file whose lines all have as many columns as its first one; see read_rows."""
    lines = Lines(path)
    rows: list[list[str]] = []
    for number, fields in read_rows(path, columns, skip_bad_lines, lines):
        if rows and len(fields) != len(rows[0]) and not skip_bad_lines:
            raise UserError(f"{path}:{number}: {len(fields)} columns, but the lines before have {len(rows[0])}; "
                            "mend the line or pass --skip_bad_lines")
        rows.append(fields)
    (usual, count), = Counter(map(len, rows)).most_common(1)
    if count < len(rows):
        lines.bad += len(rows) - count
        lines.rows = count
        rows = [fields for fields in rows if len(fields) == usual]
    return rows, lines


def numbers(rows: Sequence[Sequence[str]]) -> np.ndarray | None:
    """Return the third column as float64 [rows], None where there is none or it is text."""
    try:
        return np.array([float(row[2]) for row in rows]) if len(rows[0]) == 3 else None
    except ValueError:
        return None


def read_pairs(path: str, columns: Sequence[int] = (2, 3),
               skip_bad_lines: bool = False) -> tuple[list[list[str]], Lines]:
    """Read evaluation pairs as read_table does; of labelled pairs, a number in the third column, those above 0."""
    rows, lines = read_table(path, columns, skip_bad_lines)
    labels = numbers(rows)
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


class Corpus:
    """Distinct texts in order of first appearance, held as UTF-8 bytes: 10 million are no 10 million objects.

    inverse: int64 [rows of the file], the text of each row. fingerprint: SHA-256 over the distinct texts.
    """

    def __init__(self, buffer: np.ndarray, ends: np.ndarray, inverse: np.ndarray) -> None:
        self.buffer, self.ends, self.inverse = buffer, ends, inverse
        self.fingerprint = hashlib.sha256(buffer.tobytes() if buffer.size < 2**20 else buffer.data).hexdigest()

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> str:
        start = self.ends[i - 1] if i else 0
        return self.buffer[start : self.ends[i] - 1].tobytes().decode("utf-8")

    def slice(self, start: int, stop: int) -> list[str]:
        """Return texts start to stop (exclusive)."""
        low = self.ends[start - 1] if start else 0
        high = self.ends[min(stop, len(self)) - 1]
        return self.buffer[low : high - 1].tobytes().decode("utf-8").split("\n")

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), 4096):
            yield from self.slice(start, start + 4096)

    def first_rows(self) -> np.ndarray:
        """Return the file row, from 0, at which each distinct text stands first."""
        return np.unique(self.inverse, return_index=True)[1]

    @classmethod
    def from_texts(cls, texts: Iterator[str] | Sequence[str]) -> "Corpus":
        """Make one from any texts without line breaks."""
        data, ends, hashes = bytearray(), array.array("q"), array.array("q")
        digest = hashlib.blake2b
        for text in texts:
            raw = text.encode("utf-8") + b"\n"
            data += raw
            ends.append(len(data))
            hashes.append(int.from_bytes(digest(raw, digest_size=8).digest(), "little", signed=True))
        buffer, all_ends = np.frombuffer(data, np.uint8), np.frombuffer(ends, np.int64)
        # Texts of one 64-bit hash count as one: the chance of a false match in 10 million is 3e-6.
        _, first, inverse = np.unique(np.frombuffer(hashes, np.int64), return_index=True, return_inverse=True)
        if len(first) == len(all_ends):
            return cls(buffer, all_ends, np.arange(len(all_ends)))
        order = np.argsort(first)  # np.unique sorts by hash; the file's order is wanted
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        lengths = np.diff(all_ends, prepend=0)
        keep = np.zeros(len(all_ends), bool)
        keep[first] = True
        return cls(buffer[np.repeat(keep, lengths)], np.cumsum(lengths[keep]), place[inverse.reshape(-1)])

    @classmethod
    def load(cls, path: str) -> "Corpus":
        """Read what `save` wrote; memory-mapped."""
        buffer = np.memmap(path, np.uint8, "r")
        ends = np.flatnonzero(buffer == 10) + 1
        return cls(buffer, ends, np.arange(len(ends)))

    def save(self, path: str) -> None:
        """Write the distinct texts, one a line."""
        self.buffer.tofile(path)


def read_corpus(path: str, skip_bad_lines: bool = False) -> tuple[Corpus, Lines]:
    """Stream a file of one text a line into a Corpus."""
    lines = Lines(path)
    return Corpus.from_texts(fields[0] for _, fields in read_rows(path, (1,), skip_bad_lines, lines)), lines


@dataclass
class Batch:
    """A step's samples. ids: int64 [columns, samples of all processes], which text stands where.

    share: this process's part of the samples; chunks, order: that part's token ids, see Ragged.padded_chunks,
    column after column.
    """

    ids: np.ndarray
    share: slice
    counts: list[int]
    chunks: list[np.ndarray] = field(repr=False)
    order: np.ndarray = field(repr=False)


class TrainingSet:
    """Samples of one to three texts, tokenised once, dealt into batches by seed and epoch.

    A sample of one text stands in its batch twice, as two columns: SimCSE's two views.

    rows: int64 [samples, columns], which distinct text stands where. tokens: of the distinct texts. positives: which
    texts are known to mean the same.
    Every process makes the same batches of batch_size * world samples and takes its own part of each, so that
    N processes see what one process with the joined batch sees. What follows a position in an epoch depends
    on nothing that came before it, so that a run can continue from anywhere.
    """

    def __init__(self, rows: np.ndarray, tokens: Ragged, positives: "Neighbours", batch_size: int, seed: int = 0,
                 rank: int = 0, world: int = 1, pad_id: int = 0, no_duplicates: bool = False, chunk: int = 64) -> None:
        self.rows, self.tokens, self.positives = rows, tokens, positives
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.pad_id, self.no_duplicates, self.chunk = pad_id, no_duplicates, chunk

    @classmethod
    def from_samples(cls, samples: Sequence[Sequence[str]], tokenize: Callable[[Sequence[str]], Ragged],
                     batch_size: int, *more: Any, **options: Any) -> "TrainingSet":
        """Make one from rows of texts; the other arguments are __init__'s."""
        places: dict[str, int] = {}
        flat = [places.setdefault(text, len(places)) for row in samples for text in row]
        rows = np.array(flat, np.int64).reshape(len(samples), -1)
        return cls(rows, tokenize(list(places)), Neighbours(rows[:, :2], len(places)), batch_size, *more, **options)

    @property
    def columns(self) -> int:
        """Columns of a batch."""
        return max(2, self.rows.shape[1])

    @property
    def joined_batch(self) -> int:
        """Samples a batch over all processes."""
        return self.batch_size * self.world

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Return the samples of each batch of an epoch, in order.

        A last batch with less than two samples a process has nothing to contrast and is left out.
        """
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        if self.no_duplicates:
            batches = deal_without_duplicates(self.rows, order, self.joined_batch)
        else:
            batches = [order[i : i + self.joined_batch] for i in range(0, len(order), self.joined_batch)]
        return [batch for batch in batches if len(batch) >= 2 * self.world]

    def batch(self, samples: np.ndarray) -> Batch:
        """Make the batch of some samples, this process's part of it tokenised and padded."""
        return self._batch(self.rows[samples].T if self.rows.shape[1] > 1 else self.rows[samples].T.repeat(2, 0))

    def _batch(self, ids: np.ndarray) -> Batch:
        """Make the batch of some texts, int64 [columns, samples]."""
        samples = ids.shape[1]
        edges = [samples * r // self.world for r in range(self.world + 1)]
        share = slice(edges[self.rank], edges[self.rank + 1])
        chunks, order = self.tokens.padded_chunks(ids[:, share].reshape(-1), self.chunk, self.pad_id)
        counts = [b - a for a, b in zip(edges, edges[1:])]
        return Batch(ids, share, counts, chunks, order)

    def fingerprint(self) -> str:
        """Return a SHA-256 over the samples as token ids."""
        digest = hashlib.sha256()
        for array_ in (self.rows, self.tokens.starts, self.tokens.flat):
            digest.update(np.ascontiguousarray(array_).tobytes())
        return digest.hexdigest()

    def shared_texts(self) -> int:
        """Return how many samples share a text with another one."""
        uses = np.bincount(self.rows[:, :2].reshape(-1))
        return int((uses[self.rows[:, :2]] > 1).any(1).sum())


class Neighbours:
    """Which texts are known to mean the same: those that stand in one pair. CSR over text numbers."""

    def __init__(self, pairs: np.ndarray, texts: int) -> None:
        both = pairs if pairs.shape[1] == 1 else np.concatenate([pairs, pairs[:, ::-1]])
        both = np.asarray(np.unique(both, axis=0)) if both.shape[1] == 2 else np.empty([0, 2], np.int64)
        self.starts = np.asarray(np.searchsorted(both[:, 0], np.arange(texts + 1)))
        self.flat = both[:, 1]

    def mask(self, ids: np.ndarray) -> np.ndarray:
        """Mark the false negatives of a batch.

        ids: int64 [columns, samples], query, positive and any negatives. Returns bool [samples, candidates], the
        positives and then the negatives in column order. A positive is marked where a text of its pair is one of the
        sample's two, or stands in a pair with one of them: the relation goes both ways, as a symmetric loss needs.
        A negative is marked where it is so itself. A sample's own positive never is.
        """
        samples = ids.shape[1]
        mask = self._touching(ids[:2], ids[1:].reshape(-1))
        pairs = mask[:, :samples] | self._touching(ids[:2], ids[0])
        mask[:, :samples] = pairs | pairs.T
        mask[np.arange(samples), np.arange(samples)] = False
        return mask

    def _touching(self, own: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Mark candidates that are one of a sample's own texts, [2, samples], or stand in a pair with one of them."""
        samples = own.shape[1]
        by_id = np.argsort(candidates, kind="stable")
        ranked = candidates[by_id]
        anchors = own.reshape(-1)
        degree = self.starts[anchors + 1] - self.starts[anchors]
        near = self.flat[np.repeat(self.starts[anchors] - np.cumsum(degree) + degree, degree) + np.arange(degree.sum())]
        sample = np.tile(np.arange(samples), len(anchors) // samples)
        near = np.concatenate([anchors, near])
        sample = np.concatenate([sample, np.repeat(sample, degree)])
        low, high = np.searchsorted(ranked, near), np.searchsorted(ranked, near, side="right")
        count = high - low
        place = np.repeat(low - np.cumsum(count) + count, count) + np.arange(count.sum())
        mask = np.zeros([samples, len(candidates)], bool)
        mask[np.repeat(sample, count), by_id[place]] = True
        return mask


def deal_without_duplicates(rows: np.ndarray, order: np.ndarray, size: int) -> list[np.ndarray]:
    """Deal samples into batches in which no text of a query or positive stands twice; none is lost.

    A sample that clashes waits for the next batch; the last batches may be short.
    """
    texts = rows[:, :2].tolist()
    fresh = iter(order.tolist())
    waiting: list[int] = []
    batches: list[np.ndarray] = []
    while True:
        used: set[int] = set()
        batch: list[int] = []
        later: list[int] = []
        queue = iter(waiting)
        for sample in itertools.chain(queue, fresh):
            if used.isdisjoint(texts[sample]):
                used.update(texts[sample])
                batch.append(sample)
                if len(batch) == size:
                    break
            else:
                later.append(sample)
        if not batch:
            return batches
        batches.append(np.array(batch))
        waiting = [*later, *queue]
