"""A vector index that lives in Milvus: in a file (Milvus Lite) or on a server, which differ in their address alone."""

import contextlib
import functools
import hashlib
import json
import os
import secrets
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from semindex import runtime
from semindex.errors import UserError
from semindex.fields import read_fields, text, truth, whole
from semindex.search.index import Content, IndexSettings, KeywordSearch, VectorIndex, load_ids
from semindex.search.milvus_client import Connection
from semindex.search.milvus_collection import Collection, Rows
from semindex.search.milvus_names import check_owner, publish, temporary_name, unpublish, version_name
from semindex.search.milvus_settings import MilvusSettings
from semindex.text.corpus import Corpus

META, KEYS, IDS, FORMAT = "milvus.json", "keys.npy", "ids.npy", 1
FIELDS = {"format": whole(1, 2**31), "uri": text(), "alias": text(), "collection": text(), "full_text": truth()}
FULL_TEXT_SINCE = (2, 5)  # of a server; Milvus Lite has it


def keys_of(texts: Sequence[str] | Corpus) -> np.ndarray:
    """Return the keys of texts, int64 [n], all different: one that stands again is counted in.

    63 bits of their BLAKE2b, negative, so that none is one of the ids (from 0 up) of vectors without a text.
    """
    digest = functools.partial(hashlib.blake2b, digest_size=8)
    keys = np.frombuffer(b"".join(digest(one.encode()).digest() for one in texts), "<i8") | np.int64(-(2**63))
    turn = 0
    while True:
        _, first = np.unique(keys, return_index=True)
        again = np.setdiff1d(np.arange(len(keys)), first)
        if not len(again):
            return keys
        turn += 1
        keys[again] = keys_of([f"{texts[row]}\0{turn}" for row in again.tolist()])


class MilvusIndex(VectorIndex):
    """Vectors in a collection of Milvus under keys of their own; which id each key has is kept here.

    The keys of texts are made from the texts, so that a corpus which changed costs what changed. An index that is saved
    stays, and the alias stands for it; one that is not goes with this object.
    """

    kind = "milvus"
    fields = {"m": whole(1, 2**31), "ef_construction": whole(1, 2**40)}

    def __init__(self, dimension: int, settings: IndexSettings | None = None, name: str = "",
                 full_text: bool = False) -> None:
        super().__init__(dimension, settings)
        self.milvus = (self.settings.milvus or MilvusSettings()).with_environment()
        self.connection = Connection(self.milvus)
        own = name or f"{self.milvus.collection}_v{secrets.token_hex(8)}"
        self.collection = Collection(self.connection, own, dimension, full_text)
        self._known(np.empty(0, np.int64), np.empty(0, np.int64))
        self._there = False  # whether the collection was made or found
        self._written = False  # whether something was sent since the last search
        self._end: weakref.finalize | None = None

    def _known(self, ids: np.ndarray, keys: np.ndarray) -> None:
        """Take up the key of each id. ids: ascending."""
        self._ids, self._keys = ids, keys
        order = np.argsort(keys)
        self._ordered_keys, self._ids_by_key = keys[order], ids[order]

    @classmethod
    def build(cls, vectors: np.ndarray, settings: IndexSettings | None = None,
              ids: np.ndarray | None = None) -> "MilvusIndex":
        """Make an index of vectors in a new collection; see VectorIndex.build."""
        index = cls(vectors.shape[1], settings)
        index._make()
        index.add(vectors, ids)
        index.collection.finish()
        return index

    @classmethod
    def build_content(cls, vectors: np.ndarray, settings: IndexSettings, content: Content) -> "MilvusIndex":
        """Make an index of the vectors of texts; one that is kept goes on with the collection of the same encoder."""
        index = cls(vectors.shape[1], settings)
        collection, alias = index.collection, index.milvus.collection
        collection.full_text = content.texts is not None and content.full_text and index.full_text_here()
        if not content.kept:
            collection.name = temporary_name(index.connection, alias)
        elif content.texts is not None:
            build = index.parameters(), index.dimension, collection.full_text
            collection.name = version_name(alias, content.encoder, *build)
        ids = index._checked(vectors, None)
        keys = ids if content.texts is None else keys_of(content.texts)
        if content.kept and content.texts is not None:
            check_owner(collection, alias, keys)
        new = index._make(drop=not content.kept or content.texts is None)
        rows = Rows(keys, vectors, content.categories, content.texts)
        sent = collection.converge(rows, "insert into Milvus", new)
        index._known(ids, keys)
        runtime.say(f"{collection}: " + ", ".join(f"{count} {name}" for name, count in sent.items() if count))
        return index

    def full_text_here(self) -> bool:
        """Whether this Milvus has a BM25 of its own, and may be asked for it."""
        if self.milvus.full_text == "never":
            return False
        version = str(self.connection.attempt("get_server_version", lambda client: client.get_server_version()))
        numbers = [int(part) for part in version.lstrip("v").split("-")[0].split(".")[:2] if part.isdigit()]
        return self.milvus.lite or tuple(numbers) >= FULL_TEXT_SINCE

    def _make(self, drop: bool = True) -> bool:
        """Make the collection, where it is not there, and return whether it was not.

        drop: it goes with this object, unless it is saved.
        """
        build = self.parameters()
        new = self.collection.create(build["m"], build["ef_construction"])
        self._there = True
        if drop:
            self._end = weakref.finalize(self, _drop, self.collection)
            self._end.atexit = not self.milvus.lite  # which has ended by then; the next run drops what is left
        return new

    def _ready(self) -> None:
        """See that the collection is there, made or opened, and holds what it held."""
        if self._there:
            return
        if not len(self._ids):
            self._make()
            self.collection.load()
            return
        if not self.collection.exists():
            raise UserError(f"{self.collection}: is not there any more; build the index again with --rebuild_index")
        self.collection.load()
        self.collection.settle(len(self), 10.0)
        self._there = True

    @property
    def ids(self) -> np.ndarray:
        """See VectorIndex."""
        return self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def _keys_by_id(self, ids: np.ndarray) -> np.ndarray:
        return self._keys[np.searchsorted(self._ids, ids)]

    def _add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        self._ready()
        rows = Rows(ids, vectors)  # no text is known: the id tells what it is
        self.collection.insert(rows, np.arange(len(ids)), title="insert into Milvus" if len(ids) > 10_000 else "")
        self._written = True
        every = np.concatenate([self._ids, ids])
        order = np.argsort(every)
        self._known(every[order], np.concatenate([self._keys, ids])[order])

    def _remove(self, ids: np.ndarray) -> None:
        self._ready()
        self.collection.delete(self._keys_by_id(ids))
        self._written = True
        kept = ~np.isin(self._ids, ids)
        self._known(self._ids[kept], self._keys[kept])

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        ids, scores = self._found(queries, k)
        if len(ids) and (ids < 0).any():  # a graph that does not reach them all: more candidates do
            ids, scores = self._found(queries, k, 16 * max(k, 200))
            if (ids < 0).any():
                raise UserError(f"{self.collection}: finds {int((ids >= 0).sum(1).min())} of {k} texts; build it again "
                                "with --rebuild_index, or ask for fewer")
        return ids, scores

    def search_category(self, queries: np.ndarray, k: int, category: str) -> tuple[np.ndarray, np.ndarray]:
        """Return what search does of one category's texts, [queries, k]: -1 and -inf behind the last one."""
        self._check(queries)
        return self._found(queries, k, category=category)

    @property
    def keyword(self) -> KeywordSearch | None:
        """Milvus's own BM25, where the collection holds the texts."""
        return _FullText(self) if self.collection.full_text else None

    def _found(self, queries: Any, k: int, ef: int = 0, category: str | None = None,
               by_text: bool = False) -> tuple[np.ndarray, np.ndarray]:
        self._ready()
        ef = ef or self.settings.ef or max(200, 2 * k)
        for _ in range(4):
            troubles, level = self.connection.troubles, "Strong" if self._written else "Bounded"
            found = list(self.collection.nearest(queries, k, ef, category, by_text, level))
            self._written = False  # what is seen once is seen ever after
            if troubles == self.connection.troubles:
                break
            self.collection.settle(len(self))
        else:
            raise UserError(f"{self.collection}: the server went away in each of four searches; see its log")
        ids = np.full([len(queries), k], -1, np.int64)
        scores = np.full([len(queries), k], -np.inf, np.float32)
        for row, (keys, values) in enumerate(found):
            places = np.minimum(np.searchsorted(self._ordered_keys, np.array(keys, np.int64)), len(self) - 1)
            if len(keys) and (self._ordered_keys[places] != keys).any():
                raise UserError(f"{self.collection}: was changed by another run since it was opened; start "
                                "again, or build the index again with --rebuild_index")
            ids[row, : len(keys)], scores[row, : len(keys)] = self._ids_by_key[places], values
        order = np.lexsort((np.where(ids < 0, 2**63 - 1, ids), -scores))
        return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)

    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """See VectorIndex."""
        if not len(ids):
            return np.empty([0, self.dimension], np.float32)
        self._ready()
        return self.collection.vectors(self._keys_by_id(ids))

    def parameters(self) -> dict[str, Any]:
        """Return what index.json tells of the build."""
        return {"m": self.settings.m or 32, "ef_construction": self.settings.ef_construction or 200}

    def save(self, directory: str) -> list[str]:
        """Count, have the alias stand for the collection, and write where it is and which id each key has."""
        self._ready()
        self.collection.finish()
        self.collection.settle(len(self))
        if self._end is not None:
            self._end.detach()
        publish(self.collection, self.milvus.collection)
        about = {"format": FORMAT, "uri": os.path.abspath(self.milvus.uri) if self.milvus.lite else self.milvus.shown,
                 "alias": self.milvus.collection, "collection": self.collection.name,
                 "full_text": self.collection.full_text}
        with open(os.path.join(directory, META), "w", encoding="utf-8") as file:
            json.dump(about, file, ensure_ascii=False, indent=2)
        np.save(os.path.join(directory, KEYS), self._keys)
        np.save(os.path.join(directory, IDS), self._ids)
        return [META, KEYS, IDS]

    @classmethod
    def load(cls, directory: str, meta: dict[str, Any]) -> "MilvusIndex":
        """Read what save wrote; the first use of it asks Milvus, see `use`."""
        path = os.path.join(directory, META)
        about = read_fields(path, FIELDS, newest=FORMAT)
        known = meta["parameters"]
        settings = IndexSettings("milvus", known["m"], ef_construction=known["ef_construction"],
                                 milvus=MilvusSettings(about["uri"], collection=about["alias"]))
        index = cls(meta["dimension"], settings, about["collection"], about["full_text"])
        ids, keys = (load_ids(os.path.join(directory, name), meta["count"]) for name in (IDS, KEYS))
        if not len(ids) == len(keys) == meta["count"] or (np.diff(ids) <= 0).any():
            raise UserError(f"{path}: {len(keys)} keys for {len(ids)} ids, index.json says {meta['count']}; build the "
                            "index again with --rebuild_index")
        index._known(ids, keys)
        index._there = not len(ids)
        return index

    def use(self, settings: IndexSettings | None) -> None:
        """See VectorIndex.use; where the settings name an address or a token, they hold."""
        super().use(settings)
        if settings and settings.milvus:
            new = settings.milvus
            self.milvus = replace(new, uri=new.uri or self.milvus.uri, collection=self.milvus.collection)
            self.connection.close()
            self.connection = self.collection.connection = Connection(self.milvus)
        self._ready()

    def discard(self) -> None:
        """Remove the collection, and the alias that stands for it."""
        unpublish(self.collection, self.milvus.collection)


class _FullText:
    """The BM25 of a collection."""

    def __init__(self, index: MilvusIndex) -> None:
        self.index = index

    def search(self, queries: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """See KeywordSearch."""
        return self.index._found(queries, min(k, len(self.index)), by_text=True)


def _drop(collection: Collection) -> None:
    """Remove a collection that was not saved, without a word where that fails: nobody waits for it."""
    with contextlib.suppress(Exception):
        collection.connection.client.drop_collection(collection.name, timeout=5)
