"""What is searched while entries come and go: a snapshot that does not change, what came since, what is gone.

One thread calls everything here; a rebuild alone runs beside it, on what freeze() returned.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from deploy.service.store import Change
from semindex.faq.directory import Found
from semindex.faq.ranking import rank_entries
from semindex.search.fusion import Ranking, fuse
from semindex.search.index import VectorIndex, engine
from semindex.search.keyword import KeywordIndex, KeywordSettings
from semindex.search.methods import Method
from semindex.search.rows import with_room
from semindex.text.same_text import closest, plain


@dataclass
class Frozen:
    """A moment of a live index, for a rebuild. number: of the last change that is in it; rows as Live keeps them."""

    store: str
    number: int
    next: int
    keyword: KeywordSettings
    ids: np.ndarray
    owners: np.ndarray
    texts: list[str]
    vectors: Callable[[], np.ndarray]


@dataclass
class Live:
    """Questions of entries under ids of their own. encoder: fingerprint; snapshot: vectors that do not change; delta:
    those that came since; store: identity of the store that changes come from; number, base: of the last change that
    is in it, and in its snapshot; gone: ids of the snapshot that are not to be found; entry_of: of each question its
    entry, -1 where it is gone, with room for more."""

    encoder: str
    snapshot: VectorIndex
    delta: VectorIndex
    keyword: KeywordIndex
    store: str = ""
    number: int = 0
    base: int = 0
    next: int = 0
    gone: set[int] = field(default_factory=set)
    entry_of: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    text: dict[int, str] = field(default_factory=dict)
    questions: dict[int, list[int]] = field(default_factory=dict)  # entry -> questions
    same: dict[str, list[int]] = field(default_factory=dict)  # plain text -> questions that read so, ascending

    @classmethod
    def empty(cls, encoder: str, dimension: int, store: str = "", keyword: KeywordSettings | None = None) -> "Live":
        """Return an index without entries."""
        exact = engine("exact")
        return cls(encoder, exact(dimension), exact(dimension), KeywordIndex(keyword), store)

    def __len__(self) -> int:
        return len(self.text)

    @property
    def pending(self) -> int:
        """How much a rebuild would clear: questions that came, and that are gone, since the snapshot."""
        return len(self.delta) + len(self.gone)

    def apply(self, changes: Sequence[Change], vectors: np.ndarray) -> None:
        """Take changes that are newer than all before. vectors: of the questions of all their entries, in order."""
        added, texts, rows, start = list[int](), list[str](), list[int](), 0
        for change in changes:
            assert change.number > self.number
            self.number = change.number
            for id in self.questions.pop(change.id, []):
                if id in added:  # came within these changes
                    place = added.index(id)
                    del added[place], texts[place], rows[place]
                    self._forget(id)
                else:
                    self._remove(id)
            if change.entry is None:
                continue
            own = change.entry.questions
            for one in own:
                added.append(self.next)
                texts.append(one)
                rows.append(start)
                self._know(self.next, change.id, one)
                start += 1
                self.next += 1
        if added:
            ids = np.array(added, np.int64)
            self.delta.add(vectors[rows], ids)
            self.keyword.add(texts, ids)

    def _know(self, id: int, entry: int, one: str) -> None:
        self.entry_of = with_room(self.entry_of, id, 1)
        self.entry_of[id], self.text[id] = entry, one
        self.questions.setdefault(entry, []).append(id)
        self.same.setdefault(plain([one])[0], []).append(id)

    def _forget(self, id: int) -> None:
        form = plain([self.text.pop(id)])[0]
        self.entry_of[id] = -1
        self.same[form].remove(id)
        if not self.same[form]:
            del self.same[form]

    def _remove(self, id: int) -> None:
        self._forget(id)
        self.keyword.remove(np.array([id]))
        if len(self.delta) and id in self.delta.ids:
            self.delta.remove(np.array([id]))
        else:
            self.gone.add(id)

    def dense(self, vectors: np.ndarray, k: int) -> Ranking:
        """Return the k nearest questions, as an index without what is gone would."""
        wanted, gone = k, np.fromiter(self.gone, np.int64, len(self.gone))
        while True:
            ids, scores = self.snapshot.search(vectors, wanted)
            there = ~np.isin(ids, gone)
            # what is gone took places: look deeper, until no query lacks any that is there
            if not len(gone) or wanted >= len(self.snapshot) or there.sum(axis=1).min(initial=k) >= k:
                break
            wanted = min(len(self.snapshot), max(2 * wanted, wanted + 16))
        new, values = self.delta.search(vectors, k)
        ids, scores = np.concatenate([ids, new], axis=1), np.concatenate([scores, values], axis=1)
        hidden = np.concatenate([~there, np.zeros(new.shape, bool)], axis=1)
        order = np.lexsort((ids, np.where(hidden, np.inf, -scores)), axis=1)[:, :k]
        rows = np.arange(len(ids))[:, None]
        return Ranking(np.where(hidden[rows, order], -1, ids[rows, order]), scores[rows, order])

    def search(self, queries: Sequence[str], vectors: np.ndarray | None, method: Method, k: int,
               temperature: float = 0.0) -> Found:
        """Return the k best entries of each query, -1 for none.

        vectors: float32 [queries, dimension], None where the method is keyword.
        """
        return self.join(queries, self.rankings(queries, vectors, max(k, method.depth)), method, k, temperature)

    def rankings(self, queries: Sequence[str], vectors: np.ndarray | None, depth: int) -> dict[str, Ranking]:
        """Return the questions that each source finds."""
        keyword = {"keyword": Ranking(*self.keyword.search(queries, depth))}
        return keyword if vectors is None else {"dense": self.dense(vectors, depth)} | keyword

    def join(self, queries: Sequence[str], found: Mapping[str, Ranking], method: Method, k: int,
             temperature: float = 0.0) -> Found:
        """Return what search does of questions that were found."""
        owners = self.entry_of[: self.next]
        sources = {name: rank_entries(ranking, owners, temperature if name == "dense" else 0.0)
                   for name, ranking in found.items()}
        exact = np.array([self._exact(query, form) for query, form in zip(queries, plain(list(queries)))], np.int64)
        entries = np.array([owners[id] if id >= 0 else -1 for id in exact.tolist()], np.int64)
        weights = {"dense": (1.0, 0.0), "keyword": (0.0, 1.0)}.get(method.name, method.fusion.weights)
        if "dense" not in found:
            weights = weights[1:]
        fusion = type(method.fusion)(method.fusion.kind, method.fusion.k, weights)
        return Found(fuse(list(sources.values()), fusion, k, entries), sources, exact)

    def _exact(self, query: str, form: str) -> int:
        """Return the question that reads as a query, -1 for none; of several the one that is closest."""
        alike = self.same.get(form, []) if form else []
        return alike[closest(query, [self.text[id] for id in alike])] if alike else -1

    def adopt(self, snapshot: VectorIndex, frozen: Frozen) -> None:
        """Go on with a snapshot of an earlier moment; ids only grow, so what came since is told by them."""
        own = self.delta.ids
        newer = own[own >= frozen.next]
        delta = engine("exact")(snapshot.dimension)
        if len(newer):
            delta.add(self.delta.vectors_of(newer), newer)
        self.snapshot, self.delta, self.base = snapshot, delta, frozen.number
        self.gone = {id for id in frozen.ids.tolist() if id not in self.text}

    def freeze(self) -> Frozen:
        """Return this moment. Its vectors may be fetched by another thread: what they lie in does not change."""
        ids = np.array(sorted(self.text), np.int64)
        owners = self.entry_of[ids]
        snapshot, own = self.snapshot, self.delta.ids
        delta = self.delta.vectors_of(own) if len(own) else np.empty([0, snapshot.dimension], np.float32)

        def vectors() -> np.ndarray:
            found = np.empty([len(ids), snapshot.dimension], np.float32)
            new = np.isin(ids, own)
            found[~new] = snapshot.vectors_of(ids[~new])
            found[new] = delta[np.searchsorted(own, ids[new])]
            return found

        return Frozen(self.store, self.number, self.next, self.keyword.settings, ids, owners,
                      [self.text[id] for id in ids.tolist()], vectors)


def batches(changes: Sequence[Change], size: int) -> list[list[Change]]:
    """Return changes in parts of so many."""
    rows = iter(changes)
    return list(iter(lambda: list(itertools.islice(rows, size)), []))
