"""A .npy file of vectors that is written in parts, by several processes, and that a killed run goes on with."""

import glob
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable
from typing import IO, Any

import numpy as np

from semindex import runtime
from semindex.errors import UserError
from semindex.files import atomic_file
from semindex.locks import shared_path

FLUSH_SECONDS = 10  # what a kill may cost


def _write_head(out: IO[bytes], rows: int, dimension: int, dtype: Any = np.float32) -> None:
    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (rows, dimension)}
    np.lib.format.write_array_header_1_0(out, about)  # type: ignore[no-untyped-call]


def write_blocks(path: str, rows: int, dimension: int, blocks: Iterable[np.ndarray]) -> None:
    """Write the rows of some arrays of one dtype as a .npy file [rows, dimension]; a pipe will do, in which np.save
    wants to seek."""
    with atomic_file(path, "wb") as out:
        for number, block in enumerate(blocks):
            if not number:
                _write_head(out, rows, dimension, block.dtype)
            out.write(block.tobytes())


def save_vectors(path: str, vectors: np.ndarray, rows: np.ndarray) -> None:
    """Write vectors[rows] as a .npy file of float32, a block at a time."""
    write_blocks(path, len(rows), vectors.shape[1], (np.asarray(vectors[rows[start : start + 65_536]], np.float32)
                                                     for start in range(0, max(1, len(rows)), 65_536)))


class VectorFile:
    """float32 [count, dimension], written under a hidden name beside it until finish() gives it its own.

    Beside it a file tells what it is made of, and one for each process which parts that has written. key: of
    encoder, texts and all else that decides the vectors: parts of another key are not used.
    """

    def __init__(self, path: str, count: int, dimension: int, key: str) -> None:
        self.path, self.count, self.dimension = path, count, dimension
        self.partial, self.progress = shared_path(path, "vectors"), shared_path(path, "progress")
        self.about = {"count": count, "dimension": dimension, "key": hashlib.sha256(key.encode()).hexdigest()}
        self.waiting: list[int] = []
        self.offset, self.flushed = 0, time.monotonic()

    @staticmethod
    def possible(path: str) -> bool:
        """Tell whether such a file can be made under a name: not under that of a device or a pipe, nor compressed."""
        return not path.endswith(".gz") and (os.path.isfile(path) or not os.path.lexists(os.path.realpath(path)))

    def prepare(self) -> None:
        """Make the file, unless one of the same key is there; UserError where there is no room. For rank 0."""
        try:
            with open(self.progress, encoding="utf-8") as file:
                if json.load(file) == self.about and os.path.isfile(self.partial):
                    return
        except (OSError, ValueError):
            pass
        self.remove()
        size = self.count * self.dimension * 4
        try:
            with open(self.partial, "wb") as out:
                _write_head(out, self.count, self.dimension)
                os.posix_fallocate(out.fileno(), 0, out.tell() + size)
            with open(self.progress, "w", encoding="utf-8") as file:
                json.dump(self.about, file)
        except OSError as error:
            self.remove()
            raise UserError(f"{self.path}: no vectors can be written there: {size} bytes are wanted "
                            f"({error.strerror})") from None

    def mark(self) -> str:
        """Leave a mark beside the file and return its name: who finds it sees this file, not another of that path."""
        name = uuid.uuid4().hex
        with open(f"{self.progress}.{name}", "wb"):
            return name

    def has_mark(self, name: str) -> bool:
        """Tell whether a mark is there."""
        return os.path.exists(f"{self.progress}.{name}")

    def remove_mark(self, name: str) -> None:
        """Remove a mark."""
        os.unlink(f"{self.progress}.{name}")

    def done(self) -> set[int]:
        """Return the first rows of the parts that were written."""
        starts: set[int] = set()
        for name in glob.glob(f"{glob.escape(self.progress)}.*"):
            with open(name, encoding="utf-8") as file:
                # a kill may cut a line short, and 40960 must not pass for 4096
                starts.update(int(line[:-1]) for line in file.read().split("\n") if line.endswith(";"))
        return starts

    def write(self, start: int, vectors: np.ndarray) -> None:
        """Write the rows from `start` on; they count as done after flush, which is called now and then."""
        with open(self.partial, "r+b") as out:
            if not self.offset:
                np.lib.format.read_magic(out)  # type: ignore[no-untyped-call]
                np.lib.format.read_array_header_1_0(out)  # type: ignore[no-untyped-call]
                self.offset = out.tell()
            out.seek(self.offset + start * self.dimension * 4)
            out.write(np.ascontiguousarray(vectors, np.float32).tobytes())
        self.waiting.append(start)
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """See that what was written is on the disk, then note it as done."""
        if not self.waiting:
            return
        with open(self.partial, "r+b") as out:
            os.fsync(out.fileno())
        with open(f"{self.progress}.{runtime.rank()}", "a", encoding="utf-8") as file:
            file.write("".join(f"\n{start};" for start in self.waiting))
        self.waiting, self.flushed = [], time.monotonic()

    def vectors(self) -> np.ndarray:
        """Return what was written, memory-mapped, read-only."""
        return np.load(self.partial, mmap_mode="r", allow_pickle=False)

    def finish(self, rows: np.ndarray) -> None:
        """Give the file its name, holding vectors()[rows], a block at a time. For rank 0."""
        if len(rows) == self.count and (rows == np.arange(self.count)).all():
            os.replace(self.partial, os.path.realpath(self.path))  # a link stays a link
        else:
            save_vectors(self.path, self.vectors(), rows)
        self.remove()

    def remove(self) -> None:
        """Remove all that is not the finished file. For rank 0."""
        for name in [self.partial, *glob.glob(f"{glob.escape(self.progress)}*")]:
            if os.path.exists(name):
                os.unlink(name)
