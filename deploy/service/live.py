"""What is searched while entries come and go: a snapshot that does not change, what came since, what is gone.

One thread calls everything here; a rebuild alone runs beside it, on what freeze() returned.
"""

import itertools
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploy.service.store import Change
from semindex import manifest
from semindex.directories import atomic_directory
from semindex.errors import UserError
from semindex.faq.ranking import rank_entries
from semindex.fields import read_fields, text, whole
from semindex.search.fusion import Fused, Ranking, fuse
from semindex.search.index import IndexSettings, VectorIndex, choose, engine
from semindex.search.keyword import KeywordIndex, KeywordSettings
from semindex.search.methods import Method
from semindex.text.same_text import closest, plain

META, FORMAT, KEPT = "snapshot.json", 1, 2
FIELDS = {"format": whole(1, 2**31), "number": whole(0, 2**62), "encoder": text(), "store": text(), "kind": text(),
          "dimension": whole(1, 65_536), "count": whole(0, 2**40), "next": whole(0, 2**62)}


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
    those that came since; store: identity of the store that changes come from; gone: ids of the snapshot that are
    not to be found."""

    encoder: str
    snapshot: VectorIndex
    delta: VectorIndex
    keyword: KeywordIndex
    store: str = ""
    number: int = 0
    next: int = 0
    gone: set[int] = field(default_factory=set)
    owner: dict[int, int] = field(default_factory=dict)  # question -> entry
    text: dict[int, str] = field(default_factory=dict)
    questions: dict[int, list[int]] = field(default_factory=dict)  # entry -> questions
    same: dict[str, list[int]] = field(default_factory=dict)  # plain text -> questions that read so, ascending

    @classmethod
    def empty(cls, encoder: str, dimension: int, store: str = "", keyword: KeywordSettings | None = None) -> "Live":
        """Return an index without entries."""
        exact = engine("exact")
        return cls(encoder, exact(dimension), exact(dimension), KeywordIndex(keyword), store)

    def __len__(self) -> int:
        return len(self.owner)

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
        self.owner[id], self.text[id] = entry, one
        self.questions.setdefault(entry, []).append(id)
        self.same.setdefault(plain([one])[0], []).append(id)

    def _forget(self, id: int) -> None:
        form = plain([self.text.pop(id)])[0]
        del self.owner[id]
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
               temperature: float = 0.0) -> tuple[Fused, dict[str, Any], list[int]]:
        """Return the k best entries of each query, those of each source, and the question that reads as each query.

        -1 for none. vectors: float32 [queries, dimension], None where the method is keyword.
        """
        depth = max(k, method.depth)
        found = {"keyword": Ranking(*self.keyword.search(queries, depth))}
        if vectors is not None:
            found = {"dense": self.dense(vectors, depth)} | found
        sources = {}
        for name, ranking in found.items():
            known = np.unique(ranking.ids[ranking.ids >= 0])
            owners = np.array([self.owner[id] for id in known.tolist()], np.int64)
            places = np.where(ranking.ids >= 0, np.searchsorted(known, ranking.ids), -1)
            own = rank_entries(Ranking(places, ranking.scores), owners, temperature if name == "dense" else 0.0)
            own.questions = known[own.questions] if len(known) else own.questions  # of places that are filled
            sources[name] = own
        exact = [self._exact(query, form) for query, form in zip(queries, plain(list(queries)))]
        entries = np.array([self.owner[id] if id >= 0 else -1 for id in exact], np.int64)
        weights = {"dense": (1.0, 0.0), "keyword": (0.0, 1.0)}.get(method.name, method.fusion.weights)
        if vectors is None:
            weights = weights[1:]
        fusion = type(method.fusion)(method.fusion.kind, method.fusion.k, weights)
        return fuse(list(sources.values()), fusion, k, entries), sources, exact

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
        self.snapshot, self.delta = snapshot, delta
        self.gone = {id for id in frozen.ids.tolist() if id not in self.owner}

    def freeze(self) -> Frozen:
        """Return this moment. Its vectors may be fetched by another thread: what they lie in does not change."""
        ids = np.array(sorted(self.owner), np.int64)
        owners = np.array([self.owner[id] for id in ids.tolist()], np.int64)
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


def rebuild(frozen: Frozen, directory: str, encoder: str, settings: IndexSettings | None = None) -> str:
    """Write a snapshot of a moment below a directory; return its path. Older ones but KEPT are removed."""
    vectors, settings = frozen.vectors(), settings or IndexSettings()
    index = engine(choose(settings, len(vectors))).build(vectors, settings, frozen.ids)
    path = os.path.join(directory, f"{frozen.number:016d}")
    with atomic_directory(path, "snapshot") as partial:
        index.save(partial)
        keyword = KeywordIndex(frozen.keyword)
        keyword.add(frozen.texts, frozen.ids)
        keyword.save(os.path.join(partial, "keyword"))
        os.makedirs(os.path.join(partial, "rows"))
        np.save(os.path.join(partial, "rows", "ids.npy"), frozen.ids)
        np.save(os.path.join(partial, "rows", "owners.npy"), frozen.owners)
        with open(os.path.join(partial, "rows", "texts.json"), "w", encoding="utf-8") as file:
            json.dump(frozen.texts, file, ensure_ascii=False)
        meta = {"format": FORMAT, "number": frozen.number, "encoder": encoder, "store": frozen.store,
                "kind": index.kind, "dimension": vectors.shape[1], "count": len(index), "next": frozen.next,
                "parameters": index.parameters()}
        with open(os.path.join(partial, META), "w", encoding="utf-8") as file:
            json.dump(meta, file)
        manifest.write(partial, "snapshot")
    for old in snapshots(directory)[KEPT:]:
        shutil.rmtree(os.path.join(directory, old), ignore_errors=True)
    return path


def snapshots(directory: str) -> list[str]:
    """Return the names of the snapshots of a directory, newest first."""
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted((name for name in names if name.isdigit() and len(name) == 16), reverse=True)


def load(directory: str, empty: Live, last: int, warn: Callable[[str], None]) -> Live:
    """Return the newest snapshot below a directory that is whole and of the encoder and store of `empty`, else that.

    last: the number of the store's last change. A snapshot of later ones is removed: the store was put back to an
    earlier moment, and other changes get its numbers. One that is damaged or of another encoder or store is told by
    warn and passed over: the truth is in the store.
    """
    for name in snapshots(directory):
        path = os.path.join(directory, name)
        try:
            if int(name) > last:
                shutil.rmtree(path)
                raise UserError("removed, it is newer than the store")
            return _open(path, empty)
        except (UserError, OSError, ValueError) as error:
            warn(f"{path}: passed over ({error})")
    return empty


def _open(path: str, empty: Live) -> Live:
    if manifest.check(path, "snapshot") is None:
        raise UserError("no manifest")
    meta = read_fields(os.path.join(path, META), FIELDS, others=True, newest=FORMAT)
    if (meta["encoder"], meta["dimension"]) != (empty.encoder, empty.snapshot.dimension):
        raise UserError("of another encoder")
    if meta["store"] != empty.store:
        raise UserError("of another store")
    keyword = KeywordIndex.load(os.path.join(path, "keyword"), trust=True)  # compared just now
    if keyword.settings != empty.keyword.settings:
        raise UserError("of other keyword settings")
    live = Live.empty(empty.encoder, empty.snapshot.dimension, empty.store)
    live.snapshot = engine(meta["kind"]).load(path, meta)
    rows = os.path.join(path, "rows")
    ids, owners = (np.load(os.path.join(rows, f"{name}.npy"), allow_pickle=False) for name in ("ids", "owners"))
    with open(os.path.join(path, "rows", "texts.json"), encoding="utf-8") as file:
        texts = json.load(file)
    live.number, live.next = meta["number"], meta["next"]
    for id, entry, one, form in zip(ids.tolist(), owners.tolist(), texts, plain(texts)):
        live.owner[id], live.text[id] = entry, one
        live.questions.setdefault(entry, []).append(id)
        live.same.setdefault(form, []).append(id)
    live.keyword = keyword
    return live


def open_snapshot(path: str) -> VectorIndex:
    """Return the vector index of a snapshot that this process wrote."""
    meta = read_fields(os.path.join(path, META), FIELDS, others=True)
    return engine(meta["kind"]).load(path, meta)


def batches(changes: Sequence[Change], size: int) -> list[list[Change]]:
    """Return changes in parts of so many."""
    rows = iter(changes)
    return list(iter(lambda: list(itertools.islice(rows, size)), []))
