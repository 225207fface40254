"""A .npy file of vectors that is written in parts, by several processes, and that a killed run goes on with."""

import glob
import hashlib
import json
import os
import time
from typing import IO

import numpy as np

from semindex import runtime
from semindex.errors import UserError
from semindex.files import atomic_file

FLUSH_SECONDS = 10  # what a kill may cost


class VectorFile:
    """float32 [count, dimension], written under PATH.partial until finish() gives it its name.

    Beside it PATH.progress tells what it is made of, and PATH.progress.R which parts process R has written. key: of
    encoder, texts and all else that decides the vectors: parts of another key are not used. Processes on several
    machines need a common file system.
    """

    def __init__(self, path: str, count: int, dimension: int, key: str) -> None:
        self.path, self.count, self.dimension = path, count, dimension
        self.about = {"count": count, "dimension": dimension, "key": hashlib.sha256(key.encode()).hexdigest()}
        self.waiting: list[int] = []
        self.offset, self.flushed = 0, time.monotonic()

    def _head(self, out: IO[bytes], rows: int) -> None:
        about = {"descr": "<f4", "fortran_order": False, "shape": (rows, self.dimension)}
        np.lib.format.write_array_header_1_0(out, about)  # type: ignore[no-untyped-call]

    def prepare(self) -> None:
        """Make the file, unless one of the same key is there; UserError where there is no room. For rank 0."""
        try:
            with open(f"{self.path}.progress", encoding="utf-8") as file:
                if json.load(file) == self.about and os.path.isfile(f"{self.path}.partial"):
                    return
        except (OSError, ValueError):
            pass
        self.remove()
        size = self.count * self.dimension * 4
        try:
            with open(f"{self.path}.partial", "wb") as out:
                self._head(out, self.count)
                os.posix_fallocate(out.fileno(), 0, out.tell() + size)
            with open(f"{self.path}.progress", "w", encoding="utf-8") as file:
                json.dump(self.about, file)
        except OSError as error:
            self.remove()
            raise UserError(f"{self.path}: no vectors can be written there: {size} bytes are wanted "
                            f"({error.strerror})") from None

    def done(self) -> set[int]:
        """Return the first rows of the parts that were written."""
        starts: set[int] = set()
        for name in glob.glob(f"{glob.escape(self.path)}.progress.*"):
            with open(name, encoding="utf-8") as file:
                # a kill may cut a line short, and 40960 must not pass for 4096
                starts.update(int(line[:-1]) for line in file.read().split("\n") if line.endswith(";"))
        return starts

    def write(self, start: int, vectors: np.ndarray) -> None:
        """Write the rows from `start` on; they count as done after flush, which is called now and then."""
        with open(f"{self.path}.partial", "r+b") as out:
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
        with open(f"{self.path}.partial", "r+b") as out:
            os.fsync(out.fileno())
        with open(f"{self.path}.progress.{runtime.rank()}", "a", encoding="utf-8") as file:
            file.write("".join(f"\n{start};" for start in self.waiting))
        self.waiting, self.flushed = [], time.monotonic()

    def vectors(self) -> np.ndarray:
        """Return what was written, memory-mapped, read-only."""
        return np.load(f"{self.path}.partial", mmap_mode="r")

    def finish(self, rows: np.ndarray) -> None:
        """Give the file its name, holding vectors()[rows], a block at a time. For rank 0."""
        if len(rows) == self.count and (rows == np.arange(self.count)).all():
            os.replace(f"{self.path}.partial", self.path)
        else:
            vectors = self.vectors()
            with atomic_file(self.path, "wb") as out:
                self._head(out, len(rows))
                for start in range(0, len(rows), 65_536):
                    out.write(vectors[rows[start : start + 65_536]].tobytes())
        self.remove()

    def remove(self) -> None:
        """Remove all that is not the finished file. For rank 0."""
        for name in [f"{self.path}.partial", *glob.glob(f"{glob.escape(self.path)}.progress*")]:
            if os.path.exists(name):
                os.unlink(name)
