"""float32 vectors that may lie in a file: read where they are, and let go of once they were read."""

import functools
import mmap
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from semindex.errors import UserError

BLOCK = 65_536  # vectors read at once
SMALL = 1 << 28  # bytes of a file whose pages may stay with the process
LOOKS = 64  # places of a file that are looked at for whether it is in memory
CACHED = 2048  # vectors read at once where they are multiplied next: they stay in the cache


@functools.cache
def workers(threads: int) -> ThreadPoolExecutor:
    """Return so many threads for work of a moment, which wait for more: starting them takes as long as a search."""
    return ThreadPoolExecutor(threads, "search")


os.register_at_fork(after_in_child=workers.cache_clear)  # a fork has none of them


def is_mapped(array: np.ndarray) -> bool:
    """Tell whether an array lies in a file that is memory-mapped."""
    return getattr(array, "_mmap", None) is not None


def in_memory(array: np.ndarray) -> bool:
    """Tell whether an array can be read at the speed of memory: one of a file, where the system's cache has its pages.

    A sample of them is asked for without waiting for the disk; where a system or a file cannot be asked, no.
    """
    if not is_mapped(array):
        return True
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    try:
        file = os.open(str(array.filename), os.O_RDONLY)  # type: ignore[attr-defined]
    except OSError:
        return False
    try:
        for place in np.linspace(0, os.fstat(file).st_size - 1, LOOKS).astype(int).tolist():
            os.preadv(file, [bytearray(1)], place, os.RWF_NOWAIT)
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def let_go(array: np.ndarray) -> None:
    """Take the pages of a large memory-mapped array out of this process's memory; they stay in the system's file cache.

    Pages that were read count as memory of the process until the system wants them back: a pass over a file of 10 GB
    would look as 10 GB, and where memory is limited a process can be ended for it.
    """
    pages = getattr(array, "_mmap", None)
    if pages is not None and len(pages) > SMALL and not array.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def with_room(array: np.ndarray, count: int, more: int) -> np.ndarray:
    """Return an array that begins with the first `count` rows of one and has room for more; twice as much, if new."""
    if count + more <= len(array):
        return array
    larger = np.empty([max(count + more, 2 * count), *array.shape[1:]], array.dtype)
    larger[:count] = array[:count]
    return larger


def load_rows(path: str, count: int, dimension: int) -> np.ndarray:
    """Return the vectors of a .npy file, memory-mapped; UserError where it is not float32 [count, dimension]."""
    vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    if vectors.shape != (count, dimension) or vectors.dtype != np.float32:
        raise UserError(f"{path}: holds {vectors.dtype} {list(vectors.shape)}, index.json says otherwise")
    return vectors


class Rows:
    """Vectors by their place, float32: those that somebody lent, in memory or a file, then those that came later."""

    def __init__(self, lent: np.ndarray) -> None:
        self.lent, self.count = lent, len(lent)
        self.later = np.empty([0, lent.shape[1]], np.float32)

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, int]:
        """[count, dimension]."""
        return self.count, self.lent.shape[1]

    def add(self, vectors: np.ndarray) -> None:
        """Copy vectors behind the others."""
        own = self.count - len(self.lent)
        self.later = with_room(self.later, own, len(vectors))
        self.later[own : own + len(vectors)] = vectors
        self.count += len(vectors)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Return the vectors of some places, float32 [*places.shape, dimension]."""
        found = self._read(places)
        let_go(self.lent)
        return found

    def _read(self, places: np.ndarray) -> np.ndarray:
        lent = places < len(self.lent)
        if lent.all():
            return np.asarray(self.lent[places])
        found = np.empty([*places.shape, self.lent.shape[1]], np.float32)
        found[lent], found[~lent] = self.lent[places[lent]], self.later[places[~lent] - len(self.lent)]
        return found

    def products(self, places: np.ndarray, queries: np.ndarray, threads: int) -> np.ndarray:
        """Return the inner products of each query with the vectors of its places, float32 like places [queries, k]."""
        found = np.empty(places.shape, np.float32)
        step = max(1, CACHED // places.shape[1])

        def share(start: int) -> None:
            part = slice(start, start + step)
            np.einsum("qkd,qd->qk", self._read(places[part]), queries[part], out=found[part])

        if len(places) <= step:
            share(0)
        else:
            list(workers(threads).map(share, range(0, len(places), step)))
        let_go(self.lent)
        return found

    def only(self, places: np.ndarray) -> tuple["Rows", np.ndarray]:
        """Return what holds the vectors of some places, each once, and their places in it; lent ones cost nothing."""
        own, places = Rows(self.lent), places.copy()
        later = places >= len(self.lent)
        own.add(self.later[places[later] - len(self.lent)])
        places[later] = np.arange(len(self.lent), len(own))
        return own, places
