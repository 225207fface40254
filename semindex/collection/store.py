"""A collection that is tokenised once: passages, queries and judgements as arrays in a directory, memory-mapped."""

import array
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import BinaryIO

import numpy as np

from semindex import manifest
from semindex.collection.passages import Splitter
from semindex.directories import atomic_directory, check_replaceable
from semindex.encode.encoder import tokens_ahead
from semindex.errors import UserError
from semindex.fields import list_of, read_fields, text, whole
from semindex.runtime import on_rank_0, say, warn
from semindex.text.corpus import TextFile
from semindex.text.counted import counted
from semindex.text.prompts import NO_PROMPTS, Prompts
from semindex.text.ragged import Ragged
from semindex.text.tokenizer import TextTokenizer

FORMAT, MARKER = 1, "collection.json"
FILES = ("tokens.bin", "starts.npy", "owner.npy", "groups.npy", "qrels.npy", "document_ids.txt", "query_ids.txt",
         "texts.txt")
_COUNT = whole(0, 2**40)
FIELDS = {"key": text(), "documents": _COUNT, "passages": _COUNT, "queries": _COUNT, "training": _COUNT,
          "chunks": whole(1, 2**40), "format": whole(1, 2**31).optional(),
          "lengths": list_of(_COUNT).optional(), "vocabulary": text().optional(),
          "prompts": list_of(text()).optional()}
WINDOW = 4096  # documents tokenised at once


@dataclass
class About:
    """What collection.json holds. key: of the sources, the tokenizer and the lengths: equal keys, equal arrays.

    documents without any text have no passage; training: how many of the queries, the first ones, are for training.
    lengths: tokens of a passage and of a query; vocabulary: SHA-256 of the tokenizer's; both empty in collections of
    before they were noted. prompts: see Prompts.identity.
    """

    key: str
    documents: int
    passages: int
    queries: int
    training: int
    chunks: int
    format: int = FORMAT
    lengths: list[int] = field(default_factory=list)
    vocabulary: str = ""
    prompts: list[str] = field(default_factory=list)


class Collection:
    """Documents of one passage or several, queries, and which documents answer which query.

    A row is a place in `tokens`: passages first, then queries. owner: int32 [passages], the document of each,
    ascending. groups: int32 [documents + queries], equal for equal texts. qrels: int64 [judgements, 3] of query,
    document, grade. document_ids, query_ids, texts (documents, then queries): held as bytes.
    """

    def __init__(self, directory: str, about: About) -> None:
        self.directory, self.about = directory, about

        def load(name: str) -> np.ndarray:
            return np.load(os.path.join(directory, f"{name}.npy"), mmap_mode="r", allow_pickle=False)

        flat: np.ndarray = np.memmap(os.path.join(directory, "tokens.bin"), np.int32, "r")
        self.tokens = Ragged(flat, load("starts"))
        self.owner, self.groups, self.qrels = load("owner"), load("groups"), np.asarray(load("qrels"))
        self.document_ids, self.query_ids, self.texts = (
            TextFile(os.path.join(directory, f"{name}.txt")) for name in ("document_ids", "query_ids", "texts"))
        # passages of document d: first_passage[d] to first_passage[d + 1]
        self.first_passage: np.ndarray = np.asarray(np.searchsorted(self.owner, np.arange(about.documents + 1)))

    def check_tokenizer(self, tokenizer: TextTokenizer, prompts: Prompts, encoder: str) -> None:
        """Raise UserError where the tokens are not those of an encoder's tokenizer and prompts: other words to it."""
        if self.about.prompts != prompts.identity():
            raise UserError(f"{self.directory}: tokenised with the prompts {self.about.prompts}, {encoder} has "
                            f"{prompts.identity()}; give the collection of this encoder's training")
        if not self.about.vocabulary:
            warn(f"{self.directory}: does not say with which tokenizer it was made; whether it is that of {encoder} "
                 "cannot be checked")
        elif self.about.vocabulary != vocabulary_digest(tokenizer):
            raise UserError(f"{self.directory}: tokenised with another tokenizer than that of {encoder}; give the "
                            "collection of this encoder's training")

    @property
    def passages(self) -> Ragged:
        """Token ids of the passages."""
        return self.tokens.slice(0, self.about.passages)

    def query_tokens(self, queries: np.ndarray) -> Ragged:
        """Return the token ids of some queries, in that order."""
        rows = self.about.passages + queries
        lengths = self.tokens.starts[rows + 1] - self.tokens.starts[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.tokens.starts[rows] - starts[:-1], lengths) + np.arange(starts[-1])
        return Ragged(self.tokens.flat[places], starts)

    @property
    def pairs(self) -> np.ndarray:
        """Training queries with each of their positives that have a text, int64 [pairs, 2]."""
        query, document, grade = self.qrels.T
        filled = self.first_passage[document + 1] > self.first_passage[document]
        return np.ascontiguousarray(self.qrels[(grade > 0) & (query < self.about.training) & filled, :2])

    def judged(self, training: bool) -> np.ndarray:
        """Return the judgements of the queries that are for training, or of the others."""
        return self.qrels[(self.qrels[:, 0] < self.about.training) == training]


@dataclass(frozen=True)
class Material:
    """What a collection is made of. queries: those for training first.

    documents: streams (id, text) anew, its argument stands between the parts of a text that has several.
    judgements: (query id, document id, grade). origin: whatever changes when the texts do, as the checksums of their
    files.
    """

    documents: Callable[[str], Iterable[tuple[str, str]]]
    queries: Sequence[tuple[str, str]]
    training: int
    judgements: Sequence[tuple[str, str, int]]
    origin: str


@dataclass(frozen=True)
class Sources(Material):
    """Material and how it is tokenised. lengths: tokens of a passage and of a query.

    chunks: passages a document at most, 1 is FirstP; each begins with the passage's prompt.
    """

    lengths: tuple[int, int]
    chunks: int
    prompts: Prompts = NO_PROMPTS


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def _vocabulary(tokenizer: TextTokenizer) -> str:
    return json.dumps([*tokenizer.identity(), tokenizer.separator], sort_keys=True)


def vocabulary_digest(tokenizer: TextTokenizer) -> str:
    """Return a SHA-256 over what makes tokens of texts."""
    return hashlib.sha256(_vocabulary(tokenizer).encode()).hexdigest()


def key_of(sources: Sources, tokenizer: TextTokenizer) -> str:
    """Return a SHA-256 over all that decides the arrays."""
    parts = (sources.origin, sources.training, sources.lengths, sources.chunks, _vocabulary(tokenizer), FORMAT,
             *sources.prompts.identity())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def read_about(directory: str) -> About | None:
    """Return what collection.json says, None where there is none, UserError where it is damaged."""
    path = os.path.join(directory, MARKER)
    if not os.path.isfile(path):
        return None
    about = About(**read_fields(path, FIELDS, advice=f"remove {directory}"))
    if about.training > about.queries:
        raise UserError(f"{path}: training is {about.training}, expected at most queries, {about.queries}; "
                        f"remove {directory}")
    return about


def _older(path: str) -> set[str] | None:
    """Return the files of a collection from before manifests, see directories.Older."""
    return None if read_about(path) is None else {MARKER, *FILES}


def load(directory: str, trust: bool = False) -> Collection:
    """Open a collection's directory; UserError where it is none, altered or of another version. trust: see manifest."""
    if manifest.check(directory, "collection", trust) is None and read_about(directory) is not None:
        warn(f"{directory}: from before there were checksums, its files are not checked")
    about = read_about(directory)
    if about is None:
        raise UserError(f"{directory}: holds no tokenised collection ({MARKER} is missing); prepare_collection.py "
                        "makes one, and so does train_ance.py where --train_set_file or --queries_file names the data")
    if about.format != FORMAT:
        raise UserError(f"{directory}: written by another version of this project; remove it")
    return Collection(directory, about)


def build(directory: str, sources: Sources, tokenizer: TextTokenizer) -> bool:
    """Tokenise a collection into a directory; return whether that was needed. Whole or not at all.

    A directory whose marker has the same key is left as it is. Judgements of what is not there are left out, with a
    warning. Raises UserError for ids that stand twice, and for a directory that holds something else.
    """
    key = key_of(sources, tokenizer)
    about = read_about(directory)
    if about is not None and about.key == key:
        return False
    check_replaceable(directory, "--data_dir", "collection", _older)
    with atomic_directory(directory, "collection", _older) as partial:
        about = _write(partial, sources, tokenizer, key)
        with open(os.path.join(partial, MARKER), "w", encoding="utf-8") as file:
            json.dump(asdict(about), file, indent=2)
        manifest.write(partial, "collection")
    return True


def _write(directory: str, sources: Sources, tokenizer: TextTokenizer, key: str) -> About:
    length, query_length = sources.lengths
    splitter = Splitter(tokenizer, sources.prompts.of("passage"), length, sources.chunks)
    short = tokenizer.with_length(query_length).prompted(sources.prompts.of("query"))
    wanted = {document for _, document, _ in sources.judgements}
    numbers: dict[str, int] = {}
    lengths, owners = array.array("q"), array.array("i")
    texts_seen, ids_seen = array.array("q"), array.array("q")

    def path(name: str) -> str:
        return os.path.join(directory, name)

    with (open(path("tokens.bin"), "wb") as flat, open(path("texts.txt"), "wb") as texts,
          open(path("document_ids.txt"), "wb") as ids, open(path("query_ids.txt"), "wb") as query_ids):
        def windows(rows: Iterable[tuple[str, str]], names: BinaryIO) -> Iterator[list[str]]:
            several = iter(rows)
            while window := list(islice(several, WINDOW)):
                names.write("".join(f"{name}\n" for name, _ in window).encode())
                texts.write("".join(f"{text}\n" for _, text in window).encode())
                texts_seen.extend(_digest(text) for _, text in window)
                if names is ids:
                    for name, _ in window:
                        if name in wanted:
                            numbers[name] = len(ids_seen)
                        ids_seen.append(_digest(name))
                yield [text for _, text in window]

        documents = 0
        for tokens in tokens_ahead(windows(sources.documents(tokenizer.separator), ids), splitter.tokenizer):
            parts, counts = splitter.split(tokens)
            parts.flat.tofile(flat)
            lengths.frombytes(parts.lengths.astype(np.int64).tobytes())
            owner = np.repeat(np.arange(documents, documents + len(counts), dtype=np.int32), counts)
            owners.frombytes(owner.tobytes())
            documents += len(counts)
        if not owners:
            raise UserError("the collection has no document with a text")
        for tokens in tokens_ahead(windows(sources.queries, query_ids), short):
            tokens.flat.astype(np.int32).tofile(flat)
            lengths.frombytes(tokens.lengths.astype(np.int64).tobytes())
    if len(np.unique(np.frombuffer(ids_seen, np.int64))) < len(ids_seen):
        raise UserError("two documents of the collection have the same id; ids must differ")
    query_numbers = {name: number for number, (name, _) in enumerate(sources.queries)}
    known = [row for row in sources.judgements if row[0] in query_numbers and row[1] in numbers]
    if len(known) < len(sources.judgements):
        first = next(row for row in sources.judgements if row[0] not in query_numbers or row[1] not in numbers)
        text = (f"{len(sources.judgements) - len(known)} of {len(sources.judgements)} judgements name a query or a "
                f"document that the collection lacks (the first: query {first[0]}, document {first[1]})")
        if not known:
            raise UserError(f"{text}; do the files belong together?")
        warn(f"{text}; they are left out")
    qrels = np.array([(query_numbers[query], numbers[document], grade)
                      for query, document, grade in known], np.int64).reshape(-1, 3)
    groups = np.unique(np.frombuffer(texts_seen, np.int64), return_inverse=True)[1]
    owner = np.frombuffer(owners, np.int32)
    for name, values in (("starts", np.concatenate([[0], np.cumsum(np.frombuffer(lengths, np.int64))])),
                         ("owner", owner), ("groups", groups.reshape(-1).astype(np.int32)), ("qrels", qrels)):
        np.save(path(f"{name}.npy"), values)
    return About(key, documents, len(owner), len(sources.queries), sources.training, sources.chunks, FORMAT,
                 list(sources.lengths), vocabulary_digest(tokenizer), sources.prompts.identity())


def prepare(directory: str, sources: Sources, tokenizer: TextTokenizer) -> Collection:
    """Tokenise a collection into a directory, unless it is there; every rank opens it."""
    def work() -> str:
        before = read_about(directory)
        if not build(directory, sources, tokenizer):
            return "tokenised before"
        return "tokenised" + " anew, since the data, the lengths or the tokenizer changed" * (before is not None)

    how = on_rank_0(work)
    found = load(directory)
    describe(found, how)
    return found


def describe(collection: Collection, how: str) -> None:
    """Print what a collection holds."""
    about = collection.about
    say(f"{collection.directory}: {counted(about.documents, 'document')}, {counted(about.passages, 'passage')}, "
        f"{counted(about.queries, 'query', 'queries')}, {how}")
