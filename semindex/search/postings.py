"""An inverted index of some texts that does not change, and the best of them for a query by BM25."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from semindex.errors import UserError
from semindex.search.sums import add_terms, sum_rows
from semindex.text.ragged import places_of

BATCH = 64  # queries whose candidates are scored at once
FEW = 50_000  # texts up to which all terms are added: looking what may be left out costs more
GROUP = 64  # texts of which the best one alone takes part in the bound on the k best
SHARES = (0.03, 0.01)  # of a query's highest score: what the terms that are left out may add (measured)
ROUNDING, SMALLEST = 1.2e-7, 1e-30  # of one sum in float32; what a text with a term scores at least


@dataclass
class Statistics:
    """What BM25 asks of all entries: k1, b and the mean length in terms. At least one entry has a term."""

    k1: float
    b: float
    mean: float

    def norms(self, lengths: np.ndarray) -> np.ndarray:
        """Return the norm of each text, float64: a term gives it the score idf * count / (count + norm)."""
        return self.k1 * (1 - self.b + self.b * lengths / self.mean)


class Postings:
    """Some texts by term and by text; each may be marked as removed. All arrays may be memory-mapped.

    ids: int64 [n], ascending; lengths: int32 [n], in terms; marks: uint64 [n], a hash of each entry.
    terms: uint64 [t], keys, ascending; starts: int64 [t + 1]; slots, counts: of each term the texts (int32, as places
    in ids) and how often it stands there. row_starts: int64 [n + 1]; row_terms, row_counts: the same by text.
    peaks: float32 [t], the largest count / (count + norm) of each term where the mean length is `mean`. weights:
    float32, beside counts: count / (count + norm), of the terms that were asked for. Not saved.
    """

    # What is saved, with the kind of number.
    arrays = {"ids": "i8", "lengths": "i4", "marks": "u8", "terms": "u8", "starts": "i8", "slots": "i4", "counts": "u",
              "row_starts": "i8", "row_terms": "i4", "row_counts": "u", "peaks": "f4"}
    ids: np.ndarray
    lengths: np.ndarray
    marks: np.ndarray
    terms: np.ndarray
    starts: np.ndarray
    slots: np.ndarray
    counts: np.ndarray
    row_starts: np.ndarray
    row_terms: np.ndarray
    row_counts: np.ndarray
    peaks: np.ndarray

    def __init__(self, arrays: dict[str, np.ndarray], mean: float) -> None:
        for name in self.arrays:
            setattr(self, name, arrays[name])
        self.mean = mean
        self.alive = np.ones(len(self.ids), bool)
        self.living = len(self.ids)
        self.gone: np.ndarray = np.zeros(len(self.terms), np.int64)  # texts of each term that were removed
        self._statistics: Statistics | None = None

    @classmethod
    def build(cls, ids: np.ndarray, owner: np.ndarray, keys: np.ndarray, k1: float, b: float) -> "Postings":
        """Index texts with ascending ids; owner, keys: as term_keys gives them."""
        terms, columns = map(np.asarray, np.unique(keys, return_inverse=True))
        table = sparse.csr_array((np.ones(len(keys), np.int64), (owner, columns.reshape(-1))),
                                 shape=(len(ids), len(terms)))
        lengths = np.bincount(owner, minlength=len(ids)).astype(np.int32)
        return cls._of_table(ids, lengths, terms, table, k1, b)

    @classmethod
    def joined(cls, parts: list["Postings"], k1: float, b: float) -> "Postings":
        """Return the texts of several that were not removed."""
        terms = np.unique(np.concatenate([part.terms for part in parts])).reshape(-1)
        tables = []
        for part in parts:
            columns = np.asarray(np.searchsorted(terms, part.terms))[part.row_terms]
            table = sparse.csr_array((part.row_counts.astype(np.int64), columns, part.row_starts),
                                     shape=(len(part.ids), len(terms)))
            tables.append(table if part.living == len(part.ids) else table[np.flatnonzero(part.alive)])
        ids = np.concatenate([part.ids[part.alive] for part in parts])
        lengths = np.concatenate([part.lengths[part.alive] for part in parts])
        table, order = sparse.vstack(tables, format="csr"), np.argsort(ids, kind="stable")
        if (np.diff(order) < 0).any():
            table, ids, lengths = table[order], ids[order], lengths[order]
        used = np.bincount(table.indices, minlength=len(terms)) > 0
        if not used.all():
            places = np.cumsum(used) - 1
            terms = terms[used]
            table = sparse.csr_array((table.data, places[table.indices], table.indptr), shape=(len(ids), len(terms)))
        return cls._of_table(ids, lengths, terms, table, k1, b)

    @classmethod
    def _of_table(cls, ids: np.ndarray, lengths: np.ndarray, terms: np.ndarray, table: Any, k1: float,
                  b: float) -> "Postings":
        """table: sparse.csr_array [texts, terms] of counts."""
        table.sum_duplicates()
        by_term = table.tocsc()
        small = np.min_scalar_type(int(table.data.max(initial=0)))
        row_starts = table.indptr.astype(np.int64)
        arrays = {
            "ids": ids, "lengths": lengths, "marks": _marks(ids, terms, table), "terms": terms,
            "starts": by_term.indptr.astype(np.int64), "slots": by_term.indices.astype(np.int32),
            "counts": by_term.data.astype(small), "row_starts": row_starts,
            "row_terms": table.indices.astype(np.int32), "row_counts": table.data.astype(small),
            "peaks": np.zeros(len(terms), np.float32),
        }
        mean = float(lengths.mean()) if len(lengths) and lengths.any() else 1.0
        made = cls(arrays, mean)
        made.set(Statistics(k1, b, mean))
        made._weigh(np.arange(len(terms)))
        if len(terms):
            made.peaks = np.maximum.reduceat(made.weights, made.starts[:-1])
        return made

    def save(self, directory: str) -> None:
        """Write one .npy file for each array."""
        for name in self.arrays:
            np.save(os.path.join(directory, f"{name}.npy"), getattr(self, name))

    @classmethod
    def load(cls, directory: str, mean: float) -> "Postings":
        """Open what save wrote, memory-mapped; UserError where the arrays do not fit each other."""
        arrays: dict[str, np.ndarray] = {}
        for name, dtype in cls.arrays.items():
            path = os.path.join(directory, f"{name}.npy")
            try:
                array = np.load(path, mmap_mode="r" if os.path.getsize(path) > 128 else None, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise UserError(f"{path}: damaged ({error}); build the index again") from None
            if array.ndim != 1 or (array.dtype.kind if dtype == "u" else array.dtype) != dtype:
                raise UserError(f"{path}: holds {array.dtype} {list(array.shape)}; build the index again")
            arrays[name] = array.view(np.ndarray)  # a memmap's slices are slow
        sizes = {name: len(array) for name, array in arrays.items()}
        texts, terms, found = sizes["ids"], sizes["terms"], sizes["slots"]
        wanted = {"lengths": texts, "marks": texts, "starts": terms + 1, "counts": found, "row_starts": texts + 1,
                  "row_terms": found, "row_counts": found, "peaks": terms}
        for name, size in wanted.items():
            if sizes[name] != size:
                raise UserError(f"{os.path.join(directory, name)}.npy: holds {sizes[name]} numbers, {size} were "
                                "expected; build the index again")
        for name in ("starts", "row_starts"):
            if arrays[name][0] != 0 or arrays[name][-1] != found:
                raise UserError(f"{os.path.join(directory, name)}.npy: does not fit slots.npy; build the index again")
        return cls(arrays, mean)

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Return the slot of each id, int64, -1 where it is not there or was removed."""
        if not len(self.ids):
            return np.full(len(ids), -1)
        slots = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where((self.ids[slots] == ids) & self.alive[slots], slots, -1)

    def remove(self, slots: np.ndarray) -> None:
        """Mark texts as removed, each once."""
        self.alive[slots] = False
        self.living -= len(slots)
        places, _ = places_of(self.row_starts, slots)
        np.add.at(self.gone, self.row_terms[places], 1)
        self._statistics = None

    def columns(self, keys: np.ndarray) -> np.ndarray:
        """Return the place of each key among the terms, -1 where no text has it."""
        if not len(self.terms):
            return np.full(len(keys), -1)
        places = np.minimum(np.searchsorted(self.terms, keys), len(self.terms) - 1)
        return np.where(self.terms[places] == keys, places, -1)

    def frequencies(self, columns: np.ndarray) -> np.ndarray:
        """Return how many texts have each term, int64; 0 for -1."""
        found = self.starts[columns + 1] - self.starts[columns] - self.gone[columns] if len(self.terms) else 0
        return np.where(columns >= 0, found, 0)

    def set(self, statistics: Statistics) -> None:
        """Take the statistics that scores are computed with from now on; weights are computed as they are asked for."""
        if statistics == self._statistics:
            return
        norms = statistics.norms(self.lengths)
        norms[~self.alive] = np.inf  # what was removed scores 0
        self._norms, self._fresh = norms, np.zeros(len(self.terms), bool)
        self.weights = np.zeros(len(self.slots), np.float32)
        self._statistics = statistics

    def _weigh(self, columns: np.ndarray) -> None:
        """Compute count / (count + norm) of the texts that have a term."""
        for column in columns[~self._fresh[columns]].tolist():
            part = slice(self.starts[column], self.starts[column + 1])
            counts = self.counts[part]
            self.weights[part] = counts / (counts + self._norms[self.slots[part]])
        self._fresh[columns] = True

    def search(self, starts: np.ndarray, columns: np.ndarray, idf: np.ndarray,
               k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (ids, scores float32) of each query: up to k texts that score above 0, best first, equal ones by id.

        starts: int64 [queries + 1], where each query's terms begin; columns: their places, each query's rarest first;
        idf: float64, of each.
        """
        sums = np.zeros(-(-len(self.ids) // GROUP) * GROUP, np.float32)
        for first in range(0, len(starts) - 1, BATCH):
            bounds = starts[first : first + BATCH + 1]
            part = slice(bounds[0], bounds[-1])
            yield from self._search(bounds - bounds[0], columns[part], idf[part], k, sums)

    def _search(self, starts: np.ndarray, columns: np.ndarray, idf: np.ndarray, k: int,
                sums: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        shares = SHARES if len(self.ids) > max(FEW, 4 * GROUP * k) else ()
        slots, found = map(list, zip(*self._candidates(starts, columns, idf, k, shares, sums)))
        sizes = [len(some) for some in slots]
        owner, places, scores = np.repeat(np.arange(len(slots)), sizes), np.concatenate(slots), np.concatenate(found)
        if shares:
            scores = self.scores(places, np.append(0, np.cumsum(sizes)), starts, columns, idf)
        order = np.lexsort((places, -scores, owner))
        ids, scores, last = self.ids[places[order]], scores[order], 0
        for size in sizes:
            best = slice(last, last + min(size, k))
            yield ids[best], scores[best]
            last += size

    def _candidates(self, starts: np.ndarray, columns: np.ndarray, idf: np.ndarray, k: int, shares: Sequence[float],
                    sums: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield for each query the slots of some texts that hold the k best, and their sums: scores, with no shares.

        Terms that most texts have weigh little, and make up most of the work. So they are left out once their highest
        weights together cannot lift a text above the k best of the others (Turtle and Flood 1995, MaxScore): shares
        says when to look.
        """
        assert self._statistics
        self._weigh(np.unique(columns))
        highest = idf * self.peaks[columns] * max(1.0, self._statistics.mean / self.mean)
        owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        whole = np.bincount(owner, highest, len(starts) - 1)
        before = np.cumsum(highest) - highest
        rest = np.append(whole[owner] - before + before[starts[owner]], 0)  # what a query's terms from each on can add
        counts = [np.bincount(owner, rest[:-1] > share * whole[owner], len(starts) - 1) for share in shares]
        stops = np.stack([*(starts[:-1] + count.astype(np.int64) for count in counts), starts[1:]], axis=1)
        factors, grid = idf.astype(np.float32), sums.reshape(GROUP, -1)
        for done, last, row in zip(starts[:-1].tolist(), starts[1:].tolist(), stops.tolist()):
            sums.fill(0)
            slack = 4 * ROUNDING * (last - done + 8) if shares else 0.0  # else they are the scores themselves
            for until in row:
                add_terms(columns[done:until], factors[done:until], self.starts, self.slots, self.weights, sums)
                done = until
                missing, tops, kth = rest[until] if until < last else 0.0, grid.max(axis=0), 0.0
                if len(tops) >= k:  # at least k texts reach what the k-th of their groups' best does
                    kth = float(np.partition(tops, -k)[-k])
                least = max(kth - missing - slack * (kth + missing), SMALLEST)
                if least > SMALLEST or until == last:
                    slots = np.flatnonzero(sums >= least)
                    if until == last or len(slots) <= 4 * k + len(self.ids) // 50:
                        break
            yield slots, sums[slots]

    def scores(self, slots: np.ndarray, bounds: np.ndarray, starts: np.ndarray, columns: np.ndarray,
               idf: np.ndarray) -> np.ndarray:
        """Return the scores of some texts, float32: summed as the sums of search are, the term of the last key first.

        bounds: int64 [queries + 1], where each query's texts begin; starts, columns, idf: see search.
        """
        number: np.ndarray = np.zeros(len(self.terms), np.int32)  # one query's terms, from 1 on
        places, row = places_of(self.row_starts, slots)
        asked = self.row_terms[places]
        ends = np.append(0, np.cumsum(self.row_starts[slots + 1] - self.row_starts[slots]))[bounds].tolist()
        for query, (first, last) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist())):
            number[columns[first:last]] = np.arange(first + 1, last + 1)
            part = slice(ends[query], ends[query + 1])
            asked[part] = number[asked[part]]
            number[columns[first:last]] = 0
        shared = np.flatnonzero(asked)[::-1]
        row, counts = row[shared], self.row_counts[places[shared]]
        weights = (counts / (counts + self._norms[slots][row])).astype(np.float32)
        sizes = np.bincount(row, minlength=len(slots))[::-1]
        return sum_rows(weights, asked[shared] - 1, idf.astype(np.float32), sizes)[::-1]


def _marks(ids: np.ndarray, terms: np.ndarray, table: Any) -> np.ndarray:
    """Return a hash of each text's id and counted terms, uint64 [n]."""
    odd = np.uint64(0x9E3779B97F4A7C15)
    each = (terms[table.indices] ^ table.data.astype(np.uint64) * odd) * np.uint64(0xBF58476D1CE4E5B9)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(each ^ each >> np.uint64(29), dtype=np.uint64)])
    found = (sums[table.indptr[1:]] - sums[table.indptr[:-1]] + ids.astype(np.uint64)) * odd
    return (found ^ found >> np.uint64(32)) * np.uint64(0x94D049BB133111EB)
