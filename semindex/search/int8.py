"""Vectors kept in 8 bits a number: what is near by them is scored again by the float32 vectors, from their file."""

import os
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from semindex import runtime
from semindex.encode.vector_file import save_vectors, write_blocks
from semindex.errors import UserError
from semindex.search.index import IndexSettings, VectorIndex, load_ids
from semindex.search.labelled import IDS, Labelled
from semindex.search.rows import BLOCK, Rows, in_memory, let_go, load_rows, workers
from semindex.search.selection import best_of, nearest

VECTORS, SCALE, CODES = "vectors.npy", "scale.npy", "codes.npy"
SAMPLE, SAMPLES = 4096, 64  # vectors read together, and how many such parts the ranges are taken from
PACK = 4096  # codes that a thread multiplies at once
PLAIN = 1 << 26  # bytes of codes up to which their file is read besides
MANY = 64  # queries up to which the 8-bit product is faster than that of float32 vectors in memory


class Int8Index(Labelled):
    """What engines of 8-bit vectors share; each finds some candidates more than are asked for.

    The float32 vectors stay with who lent them: an array of the caller's, or a file that is memory-mapped, as after
    load. A number x of dimension d is kept as round(x / scale[d]), -127 to 127. The ranges are taken from the corpus,
    and anew once the index has doubled since.
    """

    more: ClassVar[tuple[float, int]]  # candidates beyond those asked for: a share of them, and a number
    each_dimension: ClassVar[bool]  # has a range of its own: not where products between vectors count, as in a graph

    def __init__(self, dimension: int, settings: IndexSettings | None = None) -> None:
        super().__init__(dimension, settings)
        self.scale = np.ones(dimension, np.float32)
        self._calibrated = 0  # labels there were
        self._hold(np.empty([0, dimension], np.float32), np.empty(0, np.int64))
        self._clear()

    def _hold(self, lent: np.ndarray, places: np.ndarray) -> None:
        """Take up float32 vectors, and the place of each label's among them."""
        self._rows, self._places = Rows(lent), places

    @abstractmethod
    def _clear(self) -> None:
        """Forget all codes."""

    @abstractmethod
    def _append(self, codes: np.ndarray, start: int) -> None:
        """Take up codes, int8 [n, dimension], of the labels from `start` on."""

    @abstractmethod
    def _candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """Return labels, int64 [queries, some], of at least so many that are near; -1 for none. Some may be gone."""

    @abstractmethod
    def _save_codes(self, directory: str) -> list[str]:
        """Write the codes of all labels; return the names of the files."""

    @abstractmethod
    def _load_codes(self, directory: str, labels: int) -> None:
        """Read them; UserError where they are not those of so many labels."""

    @classmethod
    def build(cls, vectors: np.ndarray, settings: IndexSettings | None = None,
              ids: np.ndarray | None = None) -> "Int8Index":
        """Make an index of vectors without copying them; see VectorIndex.build."""
        index = cls(vectors.shape[1], settings)
        rows = vectors if vectors.dtype == np.float32 else np.asarray(vectors, np.float32)
        ids = index._checked(rows, ids)
        index._hold(rows, np.arange(len(ids)))
        index._know(ids.copy())
        index._rebuild()
        return index

    def _add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        before = len(self._id_of)
        self._places = np.concatenate([self._places, np.arange(len(self._rows), len(self._rows) + len(ids))])
        self._rows.add(vectors)
        self._know(np.concatenate([self._id_of, ids]))
        if len(self._id_of) > 2 * self._calibrated:
            self._rebuild()
        else:
            for start in range(0, len(ids), BLOCK):
                self._append(self.coded(vectors[start : start + BLOCK]), before + start)

    def _rebuild(self) -> None:
        live = np.flatnonzero(self._id_of >= 0)
        self._rows, self._places = self._rows.only(self._places[live])
        self._know(self._id_of[live])
        self._clear()
        self._calibrated = len(live)
        parts = -(-len(live) // SAMPLE)
        if parts:
            some = np.unique(np.linspace(0, parts - 1, min(parts, SAMPLES)).astype(int))
            ranges = np.max([np.abs(vectors).max(axis=0) for _, vectors in self._blocks(SAMPLE, some)], axis=0)
            widest = ranges if self.each_dimension else np.full_like(ranges, ranges.max())
            self.scale = np.where(widest > 0, widest / 127, 1).astype(np.float32)
        for start, vectors in self._blocks(BLOCK, range(-(-len(live) // BLOCK))):
            self._append(self.coded(vectors), start)

    def _blocks(self, size: int, numbers: Any) -> Iterator[tuple[int, np.ndarray]]:
        """Yield blocks of the vectors of all labels by their numbers, each with its first label."""
        for number in numbers:
            yield number * size, self._rows[self._places[number * size : (number + 1) * size]]

    def coded(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors in 8 bits, int8 of the same shape."""
        numbers = vectors / self.scale
        np.rint(numbers, out=numbers)
        return np.clip(numbers, -127, 127, out=numbers).astype(np.int8)

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        share, number = self.more
        labels = self._candidates(queries, k + int(share * k) + number)
        ids = np.where(labels < 0, -1, self._id_of[labels])
        found, best = np.empty([len(queries), k], np.int64), np.empty([len(queries), k], np.float32)
        step, threads = max(1, BLOCK // labels.shape[1]), self.settings.threads or runtime.threads()
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            scores = self._rows.products(self._places[labels[part]], queries[part], threads)
            there = ids[part] >= 0
            found[part], best[part] = best_of(np.where(there, scores, -np.inf), ids[part], k)
        lacking = (ids >= 0).sum(axis=1) < k
        if lacking.any():
            found[lacking], best[lacking] = self.exact().search(queries[lacking], k)
        return found, best

    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """See VectorIndex."""
        return self._rows[self._places[self._labels_of(ids)]]

    def exact(self) -> VectorIndex:
        """Return the same vectors behind exact search; those that were lent are not copied."""
        from semindex.search.exact import ExactIndex

        if self._all_lent():
            return ExactIndex.build(self._rows.lent, ids=self._id_of)
        return super().exact()

    def _all_lent(self) -> bool:
        """Tell whether the lent vectors are all there are, each under the label of its place."""
        count = len(self._rows.lent)
        return len(self._ids) == len(self._places) == count and bool((self._places == np.arange(count)).all())

    def save(self, directory: str) -> list[str]:
        """Write the float32 vectors of what is there, the ranges, the codes, and ids where they are not 0 to n - 1."""
        live = np.flatnonzero(self._id_of >= 0)
        rows: Any = self._rows  # is indexed as an array is
        save_vectors(os.path.join(directory, VECTORS), rows, self._places[live])
        np.save(os.path.join(directory, SCALE), self.scale)
        names = [VECTORS, SCALE, *self._save_codes(directory)]
        if (self._id_of == np.arange(len(self._id_of))).all():
            return names
        np.save(os.path.join(directory, IDS), self._id_of)
        return [*names, IDS]

    @classmethod
    def load(cls, directory: str, meta: dict[str, Any]) -> "Int8Index":
        """Read what save wrote, the float32 vectors memory-mapped; UserError where it is not what index.json says."""
        known = meta["parameters"]
        index = cls(meta["dimension"], IndexSettings(cls.kind, known.get("m"),
                                                     ef_construction=known.get("ef_construction")))
        id_of = load_ids(os.path.join(directory, IDS), meta["count"])
        live = np.flatnonzero(id_of >= 0)
        index.scale = np.load(os.path.join(directory, SCALE), allow_pickle=False)
        if len(live) != meta["count"] or index.scale.shape != (index.dimension,) or index.scale.dtype != np.float32:
            raise UserError(f"{directory}: {IDS} or {SCALE} is not what index.json says; build the index again with "
                            "--rebuild_index")
        places = np.zeros(len(id_of), np.int64)
        places[live] = np.arange(len(live))
        index._hold(load_rows(os.path.join(directory, VECTORS), meta["count"], index.dimension), places)
        index._know(id_of)
        index._calibrated = len(id_of)
        index._load_codes(directory, len(id_of))
        return index


def _shares(rows: int, places: range, threads: int) -> list[tuple[slice, range]]:
    """Return parts of rows times places, one for each thread as far as there are so many: of places first."""
    across = min(len(places), threads)
    down = min(rows, threads // max(across, 1))
    count = len(places)
    return [(slice(rows * n // down, rows * (n + 1) // down), places[count * m // across : count * (m + 1) // across])
            for m in range(across) for n in range(down)]


class ExactInt8(Int8Index):
    """The 8-bit product with every vector."""

    kind = "int8"
    more = 0.1, 5  # with these all of 100,000 vectors' 50 nearest are found; without any, 0.993 of them
    each_dimension = True

    def _clear(self) -> None:
        # Codes in numkong's own order, which takes longer to make than a search; of the last block plain, too; and the
        # first ones in their file, where there is one: a query alone is multiplied faster with those.
        self.packed: list[Any] = []
        self.last = self.plain = np.empty([0, self.dimension], np.int8)

    def _append(self, codes: np.ndarray, start: int) -> None:
        import numkong

        codes = np.concatenate([self.last, codes])
        del self.packed[start // PACK :]
        self.packed += [numkong.dots_pack(codes[place : place + PACK]) for place in range(0, len(codes), PACK)]
        self.last = codes[len(codes) // PACK * PACK :].copy()

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        lent = self._rows.lent
        if len(queries) <= MANY or not self._all_lent() or not in_memory(lent):
            return super()._search(queries, k)

        def product(block: np.ndarray, part: slice, out: np.ndarray) -> None:
            np.matmul(block, np.asarray(lent[part]).T, out=out)
            let_go(lent)

        # float32 vectors that are in memory all the same are multiplied themselves: nothing is left to score again.
        return nearest(queries, self._id_of, k, product)

    def _candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        import numkong

        labels = np.arange(len(self._id_of))
        gone = np.flatnonzero(self._id_of < 0)
        threads = self.settings.threads or runtime.threads()

        def product(block: np.ndarray, part: slice, out: np.ndarray) -> None:
            def alone(ends: tuple[int, int]) -> None:
                own = self.plain[slice(*ends)]
                out[:, ends[0] - part.start : ends[1] - part.start] = numkong.cdist(block, own, "dot")

            def share(own: tuple[slice, range]) -> None:
                rows, places = own
                for place in places:
                    scores = numkong.dots_packed(block[rows], self.packed[place // PACK])
                    out[rows, place - part.start : place - part.start + PACK] = scores

            plain = min(len(self.plain) // PACK * PACK, part.stop) if len(block) == 1 else 0
            if plain > part.start:
                ends = np.linspace(part.start, plain, threads + 1).astype(int).tolist()
                list(workers(threads).map(alone, zip(ends, ends[1:])))
            places = range(max(part.start, plain), part.stop, PACK)
            list(workers(threads).map(share, _shares(len(block), places, threads)))
            hidden = gone[np.searchsorted(gone, part.start) : np.searchsorted(gone, part.stop)]
            out[:, hidden - part.start] = -np.inf

        scaled = queries * self.scale
        largest = np.abs(scaled).max(axis=1, keepdims=True)
        coded = np.rint(scaled / np.where(largest > 0, largest / 127, 1)).astype(np.int8)
        return nearest(coded, labels, min(count, len(labels)), product, PACK)[0]

    def _save_codes(self, directory: str) -> list[str]:
        labels = len(self._id_of)
        blocks = self._blocks(BLOCK, range(max(1, -(-labels // BLOCK))))
        write_blocks(os.path.join(directory, CODES), labels, self.dimension, (self.coded(rows) for _, rows in blocks))
        return [CODES]

    def _load_codes(self, directory: str, labels: int) -> None:
        path = os.path.join(directory, CODES)
        codes = np.load(path, mmap_mode="r", allow_pickle=False)
        if codes.shape != (labels, self.dimension) or codes.dtype != np.int8:
            raise UserError(f"{path}: holds {codes.dtype} {list(codes.shape)}, index.json says otherwise")
        for start in range(0, labels, BLOCK):
            self._append(np.asarray(codes[start : start + BLOCK]), start)
            let_go(codes)
        if codes.nbytes <= PLAIN:
            self.plain = codes
