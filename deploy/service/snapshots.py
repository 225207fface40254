"""Snapshots of an index on the disk: written as a whole, checked when read, mapped by who searches them."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from deploy.service.live import Frozen, Live
from semindex import manifest
from semindex.directories import atomic_directory
from semindex.errors import UserError
from semindex.fields import read_fields, text, whole
from semindex.search.index import IndexSettings, VectorIndex, choose, engine
from semindex.search.keyword import KeywordIndex
from semindex.search.milvus_settings import MilvusSettings
from semindex.text.same_text import plain

META, FORMAT, KEPT = "snapshot.json", 1, 2
FIELDS = {"format": whole(1, 2**31), "number": whole(0, 2**62), "encoder": text(), "store": text(), "kind": text(),
          "dimension": whole(1, 65_536), "count": whole(0, 2**40), "next": whole(0, 2**62)}


def write(frozen: Frozen, directory: str, encoder: str, settings: IndexSettings | None = None) -> str:
    """Write a snapshot of a moment below a directory; return its path. Older ones but KEPT are removed."""
    vectors, settings = frozen.vectors(), _apart(settings or IndexSettings(threads=1), encoder, frozen.store)
    index = engine(choose(settings, len(vectors), anew=True)).build(vectors, settings, frozen.ids)
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
    for old in names(directory)[KEPT:]:
        shutil.rmtree(os.path.join(directory, old), ignore_errors=True)
    return path


def _apart(settings: IndexSettings, encoder: str, store: str) -> IndexSettings:
    """Return settings under which Milvus keeps the snapshots of an encoder and a store apart from all others."""
    if settings.kind != "milvus":
        return settings
    milvus = settings.milvus or MilvusSettings()
    own = hashlib.sha256(f"{encoder} {store}".encode()).hexdigest()[:12]
    return replace(settings, milvus=replace(milvus, collection=f"{milvus.collection}_service_{own}"))


def remove(directory: str, settings: IndexSettings | None) -> None:
    """Remove the snapshots of a generation, and what their indexes keep elsewhere, where that can be reached."""
    for name in names(directory):
        with contextlib.suppress(UserError, OSError, ValueError):
            index = open_snapshot(os.path.join(directory, name), settings)
            index.discard()
    shutil.rmtree(directory, ignore_errors=True)


def names(directory: str) -> list[str]:
    """Return the names of the snapshots of a directory, newest first."""
    there = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted((name for name in there if name.isdigit() and len(name) == 16), reverse=True)


def load(directory: str, empty: Live, last: int, warn: Callable[[str], None], owner: bool = True,
         settings: IndexSettings | None = None) -> Live:
    """Return the newest snapshot below a directory that is whole and of the encoder and store of `empty`, else that.

    last: the number of the store's last change. A snapshot of later ones is removed: the store was put back to an
    earlier moment, and other changes get its numbers. owner: whether this process writes them; another one removes
    none, its last change may be of a moment ago. settings: how to search. A snapshot that is damaged or of another
    encoder or store is told by warn and passed over: the truth is in the store.
    """
    for name in names(directory):
        path = os.path.join(directory, name)
        try:
            if int(name) > last and not owner:
                continue
            if int(name) > last:
                shutil.rmtree(path)
                raise UserError("removed, it is newer than the store")
            return _open(path, empty, settings)
        except (UserError, OSError, ValueError) as error:
            warn(f"{path}: passed over ({error})")
    return empty


def _open(path: str, empty: Live, settings: IndexSettings | None) -> Live:
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
    live.snapshot.use(settings)
    rows = os.path.join(path, "rows")
    ids, owners = (np.load(os.path.join(rows, f"{name}.npy"), allow_pickle=False) for name in ("ids", "owners"))
    with open(os.path.join(path, "rows", "texts.json"), encoding="utf-8") as file:
        texts = json.load(file)
    live.number = live.base = meta["number"]
    live.next = meta["next"]
    live.entry_of = np.full(live.next, -1)
    live.entry_of[ids] = owners
    for id, entry, one, form in zip(ids.tolist(), owners.tolist(), texts, plain(texts)):
        live.text[id] = one
        live.questions.setdefault(entry, []).append(id)
        live.same.setdefault(form, []).append(id)
    live.keyword = keyword
    return live


def open_snapshot(path: str, settings: IndexSettings | None = None) -> VectorIndex:
    """Return the vector index of a snapshot that this process wrote. settings: how to search."""
    meta = read_fields(os.path.join(path, META), FIELDS, others=True)
    index = engine(meta["kind"]).load(path, meta)
    index.use(settings)
    return index
