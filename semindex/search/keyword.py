"""Keyword search by BM25 over characters and character pairs, or words: an index that takes and loses entries."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from semindex import manifest
from semindex.directories import atomic_directory, opened
from semindex.errors import UserError
from semindex.fields import one_of, read_fields, real, text, whole
from semindex.search.index import checked_ids, whole_ids
from semindex.search.postings import Postings, Statistics
from semindex.text.counted import counted
from semindex.text.terms import KINDS, term_keys

KIND, META, FORMAT = "keyword", "keyword.json", 1
FIELDS = {"format": whole(1, 2**31), "tokens": one_of(*KINDS), "k1": real(0, 1e9), "b": real(0, 1),
          "count": whole(0, 2**31), "length": whole(0, 2**62), "mean": real(0, 2**40), "mark": whole(0, 2**64 - 1),
          "corpus": text().optional()}
BLOCK = 50_000  # texts split into terms at once
RATIO = 4  # how many times larger than the next each part is at least


@dataclass
class KeywordSettings:
    """tokens: bigram, characters and pairs of neighbours, or word, jieba's; k1: saturation of term frequency; b: weight
    of text length.
    """

    tokens: str = "bigram"
    k1: float = 1.5
    b: float = 0.75


class KeywordIndex:
    """Lucene's BM25 (Robertson et al. 1994, TREC-3) of texts, each under an id; the texts themselves are not kept.

    Entries stand in parts that do not change, each at least four times as large as the next (a log-structured merge
    tree, O'Neil et al. 1996): what is added makes a new part, and parts are joined when they have grown alike. What is
    removed is marked. How many entries have a term, and their mean length, are counted without what was removed, so
    scores are always those of an index built anew.
    """

    def __init__(self, settings: KeywordSettings | None = None) -> None:
        self.settings = settings or KeywordSettings()
        if self.settings.tokens not in KINDS:
            raise UserError(f"tokens {self.settings.tokens}: unknown; known are {', '.join(KINDS)}")
        self.parts: list[Postings] = []
        self.length, self.mark = 0, 0  # terms of all entries; the sum of their marks

    @classmethod
    def build(cls, texts: Iterable[str], settings: KeywordSettings | None = None,
              source: str = "the corpus") -> "KeywordIndex":
        """Index texts under 0 to n - 1. Raises UserError where none has a term; source: how it names them."""
        index = cls(settings)
        left = iter(texts)
        while block := list(islice(left, BLOCK)):
            index.parts.append(index._split(block, np.arange(len(index), len(index) + len(block))))
        if not index.length:
            raise UserError(f"{source}: holds neither letters nor digits to search for")
        if len(index.parts) > 1:
            index._join(0)
        return index

    def _split(self, texts: Sequence[str], ids: np.ndarray) -> Postings:
        part = Postings.build(ids, *term_keys(texts, self.settings.tokens), self.settings.k1, self.settings.b)
        self.length += int(part.lengths.sum(dtype=np.int64))
        self._count_marks(part.marks, 1)
        return part

    def _count_marks(self, marks: np.ndarray, sign: int) -> None:
        self.mark = (self.mark + sign * int(marks.sum(dtype=np.uint64))) % 2**64

    def _join(self, first: int) -> None:
        """Make one of the parts from the first on."""
        self.parts[first:] = [Postings.joined(self.parts[first:], self.settings.k1, self.settings.b)]

    def __len__(self) -> int:
        return sum(part.living for part in self.parts)

    @property
    def ids(self) -> np.ndarray:
        """The ids that can be found, int64, ascending."""
        return np.sort(np.concatenate([np.empty(0, np.int64), *(part.ids[part.alive] for part in self.parts)]))

    def add(self, texts: Sequence[str], ids: np.ndarray | None = None) -> np.ndarray:
        """Add texts, and return their ids, int64 [n]; ids: those behind the largest one where left out.

        Raises UserError for an id that is there or stands twice, or a negative one.
        """
        largest = max((int(part.ids[part.alive][-1]) for part in self.parts if part.living), default=-1)
        ids = checked_ids(ids, len(texts), largest, self._known, "texts")
        if len(texts):
            order = np.argsort(ids)
            self.parts.append(self._split([texts[place] for place in order.tolist()], ids[order]))
            first = len(self.parts) - 1
            while first and self.parts[first - 1].living <= RATIO * sum(part.living for part in self.parts[first:]):
                first -= 1
            if first < len(self.parts) - 1:
                self._join(first)
        return ids

    def _known(self, ids: np.ndarray) -> np.ndarray:
        found = np.zeros(len(ids), bool)
        for part in self.parts:
            found |= part.find(ids) >= 0
        return found

    def remove(self, ids: np.ndarray) -> None:
        """Remove entries by their ids. Raises UserError, and removes none, for an id that is not there."""
        ids = np.unique(whole_ids(ids))
        lacking = ids[~self._known(ids)]
        if len(lacking):
            raise UserError(f"the id {lacking[0]} is not in the index")
        for place in range(len(self.parts) - 1, -1, -1):
            part = self.parts[place]
            slots = part.find(ids)
            slots = slots[slots >= 0]
            if len(slots):
                self.length -= int(part.lengths[slots].sum(dtype=np.int64))
                self._count_marks(part.marks[slots], -1)
                part.remove(slots)
                if not part.living:
                    del self.parts[place]
                elif 2 * part.living < len(part.ids):
                    self.parts[place] = Postings.joined([part], self.settings.k1, self.settings.b)

    def _terms_of(self, queries: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
        """Return (where each query's terms begin, their idf, where their places in each part stand, these places)."""
        owner, keys = term_keys(queries, self.settings.tokens)
        distinct, numbers = np.unique(keys, return_inverse=True)
        columns = [part.columns(distinct) for part in self.parts]
        df = np.zeros(len(distinct), np.int64)
        for part, places in zip(self.parts, columns):
            df += part.frequencies(places)
        idf = np.log1p((len(self) - df + 0.5) / (df + 0.5))
        owner, numbers = np.divmod(np.unique(owner * len(distinct) + numbers.reshape(-1)), max(1, len(distinct)))
        known = df[numbers] > 0
        owner, numbers = owner[known], numbers[known]
        numbers = numbers[np.lexsort((-idf[numbers], owner))]
        for part in self.parts:
            part.set(Statistics(self.settings.k1, self.settings.b, self.length / len(self)))
        starts = np.searchsorted(owner, np.arange(len(queries) + 1)).reshape(-1)
        return starts, idf, numbers, columns

    def search(self, queries: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int64, scores float32), both [queries, min(k, len)], best first, equal scores by id.

        Where fewer than k entries share a term with the query, the rest is id -1 and score 0.
        """
        k = max(0, min(k, len(self)))
        found, scores = np.full([len(queries), k], -1, np.int64), np.zeros([len(queries), k], np.float32)
        if not k or not self.length or not len(queries):
            return found, scores
        starts, idf, numbers, columns = self._terms_of(queries)
        answers = []
        for part, places in zip(self.parts, columns):
            there = places[numbers] >= 0
            own = numbers[there]
            answers.append(part.search(np.append(0, np.cumsum(there))[starts], places[own], idf[own], k))
        for row, each in enumerate(zip(*answers)):
            ids, values = each[0] if len(each) == 1 else map(np.concatenate, zip(*each))
            order = np.lexsort((ids, -values))[:k] if len(each) > 1 else slice(k)
            count = len(ids[order])
            found[row, :count], scores[row, :count] = ids[order], values[order]
        return found, scores

    def scores(self, queries: Sequence[str], ids: np.ndarray) -> np.ndarray:
        """Return the score of each query's own entry, float32 [queries]; UserError for an id that is not there."""
        ids = whole_ids(ids)
        found = np.zeros(len(queries), np.float32)
        lacking = ids[~self._known(ids)]
        if len(lacking):
            raise UserError(f"the id {lacking[0]} is not in the index")
        if not len(queries) or not self.length:
            return found
        distinct = list(dict.fromkeys(queries))
        starts, idf, numbers, columns = self._terms_of(distinct)
        places_of = {query: place for place, query in enumerate(distinct)}
        asked = np.fromiter(map(places_of.__getitem__, queries), np.int64, len(queries))
        for part, places in zip(self.parts, columns):
            slots = part.find(ids)
            rows = np.flatnonzero(slots >= 0)
            rows = rows[np.argsort(asked[rows], kind="stable")]
            there = places[numbers] >= 0
            own = numbers[there]
            bounds = np.searchsorted(asked[rows], np.arange(len(distinct) + 1)).reshape(-1)
            begin = np.append(0, np.cumsum(there))[starts]
            found[rows] = part.scores(slots[rows], bounds, begin, places[own], idf[own])
        return found

    def fingerprint(self) -> str:
        """Return a text that changes with the settings and with the entries: their ids and terms, in any order."""
        content = [FORMAT, *asdict(self.settings).values(), len(self), self.length, self.mark]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def save(self, directory: str, corpus: str = "") -> None:
        """Write the index into a directory that is absent, empty or holds one; UserError where it is another.

        corpus: fingerprint of the corpus whose texts it holds under 0 to n - 1, see kept_keyword.
        """
        if len(self.parts) > 1 or any(part.living < len(part.ids) for part in self.parts):
            self._join(0)
        part = self.parts[0] if self.parts else self._split([], np.empty(0, np.int64))
        with atomic_directory(directory, KIND) as partial:
            part.save(partial)
            meta = {"format": FORMAT, **asdict(self.settings), "count": len(self), "length": self.length,
                    "mean": part.mean, "mark": self.mark} | ({"corpus": corpus} if corpus else {})
            with open(os.path.join(partial, META), "w", encoding="utf-8") as file:
                json.dump(meta, file, indent=2)
            manifest.write(partial, KIND)

    @classmethod
    def load(cls, directory: str, trust: bool = False) -> "KeywordIndex":
        """Open a saved index, memory-mapped, all of it as it is at one moment. trust: see manifest.check.

        Raises UserError where it is not what was saved.
        """
        directory = os.fspath(directory)
        if not os.path.isdir(directory):
            raise UserError(f"{directory}: no keyword index")
        while True:
            with opened(directory) as place:
                before = os.stat(place)
                try:
                    return cls._load(place, trust)
                except (UserError, OSError):
                    if not os.path.isdir(directory) or os.stat(directory).st_ino == before.st_ino:
                        raise  # else another took its place, and this one's files were removed while we read

    @classmethod
    def _load(cls, directory: str, trust: bool) -> "KeywordIndex":
        meta = read_meta(directory, trust)
        index = cls(KeywordSettings(meta["tokens"], meta["k1"], meta["b"]))
        part = Postings.load(directory, meta["mean"])
        if len(part.ids) != meta["count"]:
            raise UserError(f"{os.path.join(directory, META)}: tells of {counted(meta['count'], 'entry', 'entries')}, "
                            f"ids.npy holds {len(part.ids)}; build the index again")
        index.length, index.mark = meta["length"], meta["mark"]
        index.parts = [part] if len(part.ids) else []
        return index


def read_meta(directory: str, trust: bool = False) -> dict[str, Any]:
    """Return keyword.json once every file is what was written; UserError where not. trust: see manifest.check."""
    if manifest.check(directory, KIND, trust) is None:
        raise UserError(f"{directory}: no keyword index (no {manifest.NAME})")
    return read_fields(os.path.join(directory, META), FIELDS, advice="build the index again", newest=FORMAT)
