"""The directory an index is saved in with its texts: written atomically, checked before it is read, used again."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from semindex import manifest, runtime
from semindex.directories import atomic_directory, check_replaceable, opened
from semindex.encode.vector_file import VectorFile
from semindex.errors import UserError
from semindex.fields import check_fields, file_names, mapping_of, read_fields, text, whole
from semindex.files import checksum
from semindex.locks import locked
from semindex.search.index import (
    ENGINES,
    EXACT_UP_TO,
    EXACT_UP_TO_QUERIES,
    Content,
    IndexSettings,
    VectorIndex,
    build_index,
    engine,
)
from semindex.text.corpus import Corpus
from semindex.text.counted import counted

META, FORMAT = "index.json", 1
_COUNT = whole(0, 2**40)
FIELDS = {
    "format": whole(1, 2**31), "kind": text(), "space": text(), "dimension": whole(1, 65_536), "count": _COUNT,
    "parameters": mapping_of(_COUNT), "encoder": text(), "corpus": text(), "source": text(),
}
OLDER = FIELDS | {"checksums": file_names(text()), "seal": text()}  # from before manifests


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
        with atomic_directory(directory, "index", _older) as partial:
            self.index.save(partial)
            self.corpus.save(os.path.join(partial, "texts.txt"))
            np.save(os.path.join(partial, "rows.npy"), self.corpus.inverse)
            meta = {
                "format": FORMAT, "kind": self.index.kind, "space": "ip", "dimension": self.index.dimension,
                "count": len(self.index), "parameters": self.index.parameters(), "encoder": self.encoder,
                "corpus": self.corpus.fingerprint,
                "source": self.source.encode(errors="backslashreplace").decode(),  # a file's name may be no UTF-8
            }
            with open(os.path.join(partial, META), "w", encoding="utf-8") as file:
                json.dump(meta, file, ensure_ascii=False, indent=2)
            manifest.write(partial, "index")

    @classmethod
    def load(cls, directory: str, settings: IndexSettings | None = None, trust: bool = False) -> "TextIndex":
        """Read an index directory, all of it as it is at one moment; UserError where it is not what was written.

        settings: of the search (ef, threads); what was built stays as it is. trust: see manifest.check.
        """
        while True:
            with opened(directory) as place:
                before = os.stat(place)
                try:
                    return cls._load(place, settings, trust)
                except (UserError, OSError):
                    if not os.path.isdir(directory) or os.stat(directory).st_ino == before.st_ino:
                        raise  # else another took its place, and this one's files were removed while we read

    @classmethod
    def _load(cls, directory: str, settings: IndexSettings | None, trust: bool) -> "TextIndex":
        meta = check_files(directory, trust)
        index = engine(meta["kind"]).load(directory, meta)
        index.use(settings)
        corpus = Corpus.load(os.path.join(directory, "texts.txt"))
        corpus.inverse = np.load(os.path.join(directory, "rows.npy"), allow_pickle=False)
        if len(corpus) != len(index):
            raise UserError(f"{directory}: {counted(len(corpus), 'text')} for {counted(len(index), 'vector')}")
        return cls(index, corpus, meta["encoder"], meta["source"])


def _older(path: str) -> set[str] | None:
    """Return the files of an index from before manifests, see directories.Older."""
    try:
        meta = read_meta(path)
    except UserError:
        return None
    return {META, *meta["checksums"]} if "seal" in meta else None


def check_files(directory: str, trust: bool = False) -> dict[str, Any]:
    """Return index.json once every file is what was written; UserError where one is not. trust: see manifest.check."""
    advice = "build the index again with --rebuild_index"
    if manifest.check(directory, "index", trust) is not None:
        return read_meta(directory)
    meta = read_meta(directory)  # from before manifests: it has the checksums, and a seal
    if "seal" not in meta:
        raise UserError(f"{os.path.join(directory, manifest.NAME)}: missing; {advice}")
    for name, wanted in meta["checksums"].items():
        path = os.path.join(directory, name)
        if not os.path.isfile(path):
            raise UserError(f"{path}: missing; {advice}")
        if not trust and checksum(path) != wanted:
            raise UserError(f"{path}: truncated or altered (its checksum differs from {META}); {advice}")
    return meta


def check_directory(directory: str) -> bool:
    """Return whether the directory holds an index; UserError where it holds something else or cannot be written."""
    return check_replaceable(directory, "--index_dir", "index", _older)


def read_meta(directory: str) -> dict[str, Any]:
    """Return index.json of a directory, checked for form; UserError where it is no index or is damaged."""
    path = os.path.join(directory, META)
    if not os.path.isfile(path):
        raise UserError(f"{directory}: no index (no {META})")
    advice = "build the index again with --rebuild_index"
    meta = read_fields(path, FIELDS, others=True, advice=advice)
    if meta["format"] > FORMAT or meta["kind"] not in ENGINES or meta["space"] != "ip":
        raise UserError(f"{path}: written by another version of this project")
    known = engine(meta["kind"]).fields
    check_fields(f"{path}: parameters", meta["parameters"], known, others=not known, advice=advice)
    if ("seal" in meta or "checksums" in meta) and check_fields(
            path, meta, OLDER, others=True, advice=advice)["seal"] != _seal(meta):
        raise UserError(f"{path}: damaged (it was altered); {advice}")
    return meta


def _seal(meta: dict[str, Any]) -> str:
    """Return a checksum over index.json's own content: hnswlib would believe an altered dimension."""
    content = {key: value for key, value in meta.items() if key != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def reusable_index(directory: str, encoder: str, corpus: str, settings: IndexSettings,
                   trust: bool = False, dimension: int = 0) -> TextIndex | None:
    """Load the index of a directory, None where there is none yet.

    encoder, corpus: fingerprints of what is to be searched; dimension: of its vectors, 0: not compared.
    Raises UserError where the directory holds something else: the index of another encoder, corpus, kind or build.
    """
    if not check_directory(directory):
        return None
    meta = read_meta(directory)
    advice = "pass --rebuild_index to replace it, or name another directory"
    if dimension and dimension != meta["dimension"]:
        raise UserError(f"--index_dir {directory}: holds vectors of {meta['dimension']} numbers, the encoder gives "
                        f"{dimension} (see --truncate_dim); {advice}")
    for what, ours in (("encoder", encoder), ("corpus", corpus)):
        if ours != meta[what]:
            raise UserError(f"--index_dir {directory}: was built with another {what}; {advice}")
    built: dict[str, str | int] = {"index_type": meta["kind"]}
    given: dict[str, str | int | None] = {"index_type": None if settings.kind == "auto" else settings.kind}
    if "m" in meta["parameters"]:
        built |= {f"hnsw_{name}": value for name, value in meta["parameters"].items()}
        given |= {"hnsw_m": settings.m, "hnsw_ef_construction": settings.ef_construction}
    for flag, value in given.items():
        if value not in (None, built[flag]):
            raise UserError(f"--{flag} {value}: the index in {directory} was built with {built[flag]}; {advice}")
    found = TextIndex.load(directory, settings, trust)
    if (found.encoder, found.corpus.fingerprint) != (encoder, corpus):
        raise UserError(f"--index_dir {directory}: another process wrote it anew just now; start again")
    return found


def open_index(directory: str | None, corpus: Corpus, encode_corpus: Callable[[], np.ndarray],
               settings: IndexSettings, encoder: str, source: str, queries: int,
               rebuild: bool = False, trust: bool = False, file: VectorFile | None = None,
               dimension: int = 0, full_text: bool = False) -> TextIndex | None:
    """Reuse the index of a directory where it fits; else encode, build and, given a directory, save. None off rank 0.

    encode_corpus: called by every rank where there is something to encode. encoder: the checkpoint's fingerprint.
    queries: how many will be asked. file: where encode_corpus keeps the vectors meanwhile; removed once they are used.
    dimension: see reusable_index; full_text: see Content.
    Raises UserError as reusable_index does, unless rebuild is true.
    """
    index: TextIndex | None = None

    def reuse() -> bool:
        nonlocal index
        if directory and not rebuild:
            index = reusable_index(directory, encoder, corpus.fingerprint, settings, trust, dimension)
        return index is not None

    def build(vectors: np.ndarray) -> None:
        nonlocal index
        runtime.say("start build index..........")
        began = time.perf_counter()
        content = Content(corpus, encoder, kept=bool(directory), full_text=full_text)
        index = TextIndex(build_index(vectors, settings, None if directory else queries, content),
                          corpus, encoder, source)
        runtime.say(f"Total index number:{len(index.index)} ({index.index.kind}, {time.perf_counter() - began:.1f} s)")
        if index.index.kind == "exact" and settings.kind == "auto":
            runtime.say(f"exact search, as for every corpus of up to {EXACT_UP_TO} texts"
                        + ("" if directory else f" and for up to {EXACT_UP_TO_QUERIES} queries of an index that is not "
                           "kept") + "; --index_type hnsw insists")
        if directory:
            index.save(directory)
            runtime.say(f"index saved in {directory}")

    if runtime.on_rank_0(reuse):
        runtime.say(f"index of {directory} reused")
        if file is not None and runtime.rank() == 0:
            with contextlib.suppress(UserError), locked(str(directory)):  # of a killed run, unless somebody writes
                file.remove()
        return index
    with contextlib.ExitStack() as stack:
        if directory:
            runtime.on_rank_0(lambda: stack.enter_context(locked(directory, "--index_dir")) and None)
        vectors = encode_corpus()
        runtime.on_rank_0(lambda: build(vectors))
        if file is not None:
            runtime.on_rank_0(file.remove)
    return index
