"""The directory an index is saved in with its texts: written atomically, checked before it is read, used again."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from semindex import runtime
from semindex.errors import UserError
from semindex.files import atomic_directory, checksum
from semindex.search.index import (
    ENGINES,
    EXACT_UP_TO,
    EXACT_UP_TO_QUERIES,
    IndexSettings,
    VectorIndex,
    build_index,
    engine,
)
from semindex.text.corpus import Corpus

FORMAT = 1


@dataclass
class TextIndex:
    """An index with its texts. Distinct texts are indexed once; corpus.inverse tells which one each row holds."""

    index: VectorIndex
    corpus: Corpus
    encoder: str = ""
    source: str = ""

    def save(self, directory: str) -> None:
        """Write index, texts and index.json into a directory that is absent, empty or holds an index.

        Raises UserError for a directory that holds something else.
        """
        check_directory(directory)
        with atomic_directory(directory) as partial:
            names = self.index.save(partial)
            self.corpus.save(os.path.join(partial, "texts.txt"))
            np.save(os.path.join(partial, "rows.npy"), self.corpus.inverse)
            names += ["texts.txt", "rows.npy"]
            meta = {
                "format": FORMAT, "kind": self.index.kind, "space": "ip", "dimension": self.index.dimension,
                "count": len(self.index), "parameters": self.index.parameters(), "encoder": self.encoder,
                "corpus": self.corpus.fingerprint, "source": self.source,
                "checksums": {name: checksum(os.path.join(partial, name)) for name in names},
            }
            meta["seal"] = _seal(meta)
            with open(os.path.join(partial, "index.json"), "w", encoding="utf-8") as file:
                json.dump(meta, file, ensure_ascii=False, indent=2)

    @classmethod
    def load(cls, directory: str, settings: IndexSettings | None = None) -> "TextIndex":
        """Read an index directory; UserError where anything differs from what was written.

        settings: of the search (ef, threads); what was built stays as it is.
        """
        meta = read_meta(directory)
        for name, wanted in meta["checksums"].items():
            path = os.path.join(directory, name)
            if not os.path.isfile(path):
                raise UserError(f"{path}: missing; build the index again with --rebuild_index")
            if checksum(path) != wanted:
                raise UserError(f"{path}: truncated or altered (its checksum differs from index.json); "
                                "build the index again with --rebuild_index")
        index = engine(meta["kind"]).load(directory, meta)
        if settings:
            index.settings.ef, index.settings.threads = settings.ef, settings.threads
        corpus = Corpus.load(os.path.join(directory, "texts.txt"))
        corpus.inverse = np.load(os.path.join(directory, "rows.npy"), allow_pickle=False)
        if len(corpus) != len(index):
            raise UserError(f"{directory}: {len(corpus)} texts for {len(index)} vectors")
        return cls(index, corpus, meta["encoder"], meta["source"])


def check_directory(directory: str) -> bool:
    """Return whether the directory holds an index; UserError where it holds something else or cannot be written."""
    if os.path.isfile(os.path.join(directory, "index.json")):
        return True
    if os.path.isdir(directory) and os.listdir(directory) or os.path.isfile(directory):
        raise UserError(f"--index_dir {directory}: is there, but is no index; name another directory")
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise UserError(f"--index_dir {directory}: cannot be made ({error.strerror})") from None
    return False


def read_meta(directory: str) -> dict[str, Any]:
    """Return index.json of a directory, checked for form; UserError where it is no index or is damaged."""
    path = os.path.join(directory, "index.json")
    if not os.path.isfile(path):
        raise UserError(f"{directory}: no index (no index.json)")
    try:
        with open(path, encoding="utf-8") as file:
            meta = json.load(file)
        if meta["format"] > FORMAT or meta["kind"] not in ENGINES or meta["space"] != "ip":
            raise UserError(f"{path}: written by another version of this project")
        if meta["seal"] != _seal(meta):
            raise ValueError("it was altered")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); build the index again with --rebuild_index") from None
    return meta


def _seal(meta: dict[str, Any]) -> str:
    """Return a checksum over index.json's own content: hnswlib would believe an altered dimension."""
    content = {key: value for key, value in meta.items() if key != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def reusable_index(directory: str, encoder: str, corpus: str, settings: IndexSettings) -> TextIndex | None:
    """Load the index of a directory, None where there is none yet.

    encoder, corpus: fingerprints of what is to be searched. Raises UserError where the directory holds something
    else: the index of another encoder, corpus, kind or build.
    """
    if not check_directory(directory):
        return None
    meta = read_meta(directory)
    advice = "pass --rebuild_index to replace it, or name another directory"
    for what, ours in (("encoder", encoder), ("corpus", corpus)):
        if ours != meta[what]:
            raise UserError(f"--index_dir {directory}: was built with another {what}; {advice}")
    built: dict[str, str | int] = {"index_type": meta["kind"]}
    given: dict[str, str | int | None] = {"index_type": None if settings.kind == "auto" else settings.kind}
    if meta["kind"] == "hnsw":
        built |= {f"hnsw_{name}": value for name, value in meta["parameters"].items()}
        given |= {"hnsw_m": settings.m, "hnsw_ef_construction": settings.ef_construction}
    for flag, value in given.items():
        if value not in (None, built[flag]):
            raise UserError(f"--{flag} {value}: the index in {directory} was built with {built[flag]}; {advice}")
    return TextIndex.load(directory, settings)


def open_index(directory: str | None, corpus: Corpus, encode_corpus: Callable[[], np.ndarray],
               settings: IndexSettings, encoder: str, source: str, queries: int,
               rebuild: bool = False) -> TextIndex | None:
    """Reuse the index of a directory where it fits; else encode, build and, given a directory, save. None off rank 0.

    encode_corpus: called by every rank where there is something to encode. encoder: the checkpoint's fingerprint.
    queries: how many will be asked.
    Raises UserError as reusable_index does, unless rebuild is true.
    """
    index: TextIndex | None = None

    def reuse() -> bool:
        nonlocal index
        if directory and not rebuild:
            index = reusable_index(directory, encoder, corpus.fingerprint, settings)
        return index is not None

    if runtime.on_rank_0(reuse):
        runtime.say(f"index of {directory} reused")
        return index
    vectors = encode_corpus()

    def build() -> None:
        nonlocal index
        runtime.say("start build index..........")
        began = time.perf_counter()
        index = TextIndex(build_index(vectors, settings, None if directory else queries),
                          corpus, encoder, source)
        runtime.say(f"Total index number:{len(index.index)} ({index.index.kind}, {time.perf_counter() - began:.1f} s)")
        if index.index.kind == "exact" and settings.kind == "auto":
            runtime.say(f"exact search, as for every corpus of up to {EXACT_UP_TO} texts"
                        + ("" if directory else f" and for up to {EXACT_UP_TO_QUERIES} queries of an index that is not "
                           "kept") + "; --index_type hnsw insists")
        if directory:
            index.save(directory)
            runtime.say(f"index saved in {directory}")

    runtime.on_rank_0(build)
    return index
