"""Samples to batches: tokenised once, dealt by seed and epoch, with the false negatives of each batch."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from semindex.text.prompts import NO_PROMPTS, Prompts
from semindex.text.ragged import Ragged
from semindex.text.tokenizer import TextTokenizer


@dataclass
class Batch:
    """A step's samples. ids: int64 [columns, samples of all processes], which text stands where.

    share: this process's part of the samples; chunks, order: that part's token ids, see Ragged.padded_chunks,
    column after column. labels: float32 [samples of all processes, ...], None where samples carry none.
    """

    ids: np.ndarray
    share: slice
    counts: list[int]
    chunks: list[np.ndarray] = field(repr=False)
    order: np.ndarray = field(repr=False)
    labels: np.ndarray | None = None


class Guide(Protocol):
    """What knows of more false negatives than those that stand in one pair, see training.guide.Guide.

    identity: what a resumed run must find equal; batches: how many of the first ones it reports on.
    """

    identity: str
    batches: int

    def mask(self, ids: np.ndarray, known: np.ndarray | None) -> np.ndarray:
        """Return the known false negatives of a batch and its own, bool [samples, candidates], see Neighbours.mask."""


class Labels(Protocol):
    """Labels that are made as a batch asks for them, such as a teacher's vectors.

    identity: what a resumed run must find equal.
    """

    identity: str

    def __getitem__(self, samples: np.ndarray) -> np.ndarray:
        """Return the labels of some samples, float32 [samples, ...]."""


class TrainingSet:
    """Samples of one to three texts, tokenised once, dealt into batches by seed and epoch.

    A sample of one text stands in its batch twice, as two columns: SimCSE's two views; once where views is 1.

    rows: int64 [samples, columns], which distinct text stands where. tokens: of the distinct texts. as_queries: where
    queries have a prompt of their own, `tokens` has all texts once more as queries, from this place on. positives:
    which texts are known to mean the same. labels: float32 [samples] or [samples, ...], a number or a teacher's scores
    each; or Labels. balanced: whether a batch has as many samples with a label above 0 as others; an epoch then has
    each sample of the larger kind once, and the smaller kind as often as that takes. guide: see mask. source: the name
    of the file, for people.
    Every process makes the same batches of batch_size * world samples and takes its own part of each, so that
    N processes see what one process with the joined batch sees. What follows a position in an epoch depends
    on nothing that came before it, so that a run can continue from anywhere.
    """

    def __init__(self, rows: np.ndarray, tokens: Ragged, positives: "Neighbours", batch_size: int, seed: int = 0,
                 rank: int = 0, world: int = 1, pad_id: int = 0, no_duplicates: bool = False, chunk: int = 64,
                 labels: np.ndarray | Labels | None = None, as_queries: int = 0, balanced: bool = False,
                 views: int = 2, guide: "Guide | None" = None, source: str = "") -> None:
        self.as_queries, self.balanced, self.views = as_queries, balanced, views
        self.rows, self.tokens, self.positives, self.labels = rows, tokens, positives, labels
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.pad_id, self.no_duplicates, self.chunk = pad_id, no_duplicates, chunk
        self.guide, self.source = guide, source

    @classmethod
    def from_samples(cls, samples: Sequence[Sequence[str]], tokenize: TextTokenizer,
                     batch_size: int, *more: Any, prompts: Prompts = NO_PROMPTS, alike: np.ndarray | None = None,
                     **options: Any) -> "TrainingSet":
        """Make one from rows of texts; prompts: of queries, the first column, and of passages; the rest is __init__'s.

        Samples of one text are all queries. alike: which samples' texts are known to mean the same, bool [samples], all
        where left out.
        """
        places: dict[str, int] = {}
        flat = [places.setdefault(text, len(places)) for row in samples for text in row]
        rows = np.array(flat, np.int64).reshape(len(samples), -1)
        texts = list(places)
        tokens = tokenize.prompted(prompts.of("query" if rows.shape[1] == 1 else "passage"))(texts)
        if prompts.differ and rows.shape[1] > 1:
            tokens = tokens.followed_by(tokenize.prompted(prompts.of("query"))(texts))
            options["as_queries"] = len(texts)
        known = Neighbours(rows[:, :2], len(places)) if alike is None else OwnNeighbours(rows[alike, :2], len(places))
        return cls(rows, tokens, known, batch_size, *more, **options)

    @property
    def columns(self) -> int:
        """Columns of a batch."""
        return self.views if self.rows.shape[1] == 1 else self.rows.shape[1]

    @property
    def joined_batch(self) -> int:
        """Samples a batch over all processes."""
        return self.batch_size * self.world

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Return the samples of each batch of an epoch, in order.

        A last batch with less than two samples a process has nothing to contrast and is left out.
        """
        rng = np.random.default_rng([self.seed, epoch])
        if self.balanced:
            assert isinstance(self.labels, np.ndarray)
            batches = deal_balanced(self.labels > 0, self.joined_batch, rng)
            return [batch for batch in batches if len(batch) >= 2 * self.world]
        order = rng.permutation(len(self.rows))
        if self.no_duplicates:
            batches = deal_without_duplicates(self.rows, order, self.joined_batch)
        else:
            batches = [order[i : i + self.joined_batch] for i in range(0, len(order), self.joined_batch)]
        return [batch for batch in batches if len(batch) >= 2 * self.world]

    def batch(self, samples: np.ndarray) -> Batch:
        """Make the batch of some samples, this process's part of it tokenised and padded."""
        ids = self.rows[samples].T
        batch = self._batch(ids if len(ids) > 1 else ids.repeat(self.views, 0))
        if self.labels is not None:
            batch.labels = self.labels[samples]
        return batch

    def _batch(self, ids: np.ndarray) -> Batch:
        """Make the batch of some texts, int64 [columns, samples]."""
        samples = ids.shape[1]
        edges = [samples * r // self.world for r in range(self.world + 1)]
        share = slice(edges[self.rank], edges[self.rank + 1])
        places = ids[:, share].copy()
        places[0] += self.as_queries
        chunks, order = self.tokens.padded_chunks(places.reshape(-1), self.chunk, self.pad_id)
        counts = [b - a for a, b in zip(edges, edges[1:])]
        return Batch(ids, share, counts, chunks, order)

    def mask(self, ids: np.ndarray, known: bool = True) -> np.ndarray | None:
        """Return the false negatives of a batch, bool [samples, candidates], None where there are none to look for.

        ids: Batch.ids. known: whether those count that stand in one pair; those of the guide do where there is one.
        """
        mask = self.positives.mask(ids) if known else None
        return mask if self.guide is None else self.guide.mask(ids, mask)

    def fingerprint(self) -> str:
        """Return a SHA-256 over the samples as token ids."""
        digest = hashlib.sha256()
        for values in (self.rows, self.tokens.starts, self.tokens.flat):
            digest.update(np.ascontiguousarray(values).tobytes())
        if isinstance(self.labels, np.ndarray):
            digest.update(np.ascontiguousarray(self.labels).tobytes())
        elif self.labels is not None:
            digest.update(self.labels.identity.encode())
        return digest.hexdigest()

    def shared_texts(self) -> int:
        """Return how many samples share a text with another one."""
        uses = np.bincount(self.rows[:, :2].reshape(-1))
        return int((uses[self.rows[:, :2]] > 1).any(1).sum())


class Neighbours:
    """Which texts are known to mean the same: those that stand in one pair. CSR over text numbers."""

    def __init__(self, pairs: np.ndarray, texts: int) -> None:
        both = pairs if pairs.shape[1] == 1 else np.concatenate([pairs, pairs[:, ::-1]])
        both = np.asarray(np.unique(both, axis=0)) if both.shape[1] == 2 else np.empty([0, 2], np.int64)
        self.starts = np.asarray(np.searchsorted(both[:, 0], np.arange(texts + 1)))
        self.flat = both[:, 1]

    def mask(self, ids: np.ndarray) -> np.ndarray:
        """Mark the false negatives of a batch.

        ids: int64 [columns, samples], query, positive and any negatives. Returns bool [samples, candidates], the
        positives and then the negatives in column order. A positive is marked where a text of its pair is one of the
        sample's two, or stands in a pair with one of them: the relation goes both ways, as a symmetric loss needs.
        A negative is marked where it is so itself. A sample's own positive never is.
        """
        samples = ids.shape[1]
        mask = self._touching(ids[:2], ids[1:].reshape(-1))
        pairs = mask[:, :samples] | self._touching(ids[:2], ids[0])
        mask[:, :samples] = pairs | pairs.T
        mask[np.arange(samples), np.arange(samples)] = False
        return mask

    def _touching(self, own: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Mark candidates that are one of a sample's own texts, [2, samples], or stand in a pair with one of them."""
        samples = own.shape[1]
        by_id = np.argsort(candidates, kind="stable")
        ranked = candidates[by_id]
        anchors = own.reshape(-1)
        degree = self.starts[anchors + 1] - self.starts[anchors]
        near = self.flat[np.repeat(self.starts[anchors] - np.cumsum(degree) + degree, degree) + np.arange(degree.sum())]
        sample = np.tile(np.arange(samples), len(anchors) // samples)
        near = np.concatenate([anchors, near])
        sample = np.concatenate([sample, np.repeat(sample, degree)])
        low, high = np.searchsorted(ranked, near), np.searchsorted(ranked, near, side="right")
        count = high - low
        place = np.repeat(low - np.cumsum(count) + count, count) + np.arange(count.sum())
        mask = np.zeros([samples, len(candidates)], bool)
        mask[np.repeat(sample, count), by_id[place]] = True
        return mask


class OwnNeighbours(Neighbours):
    """Of samples whose two texts need not mean the same: a text is judged by itself, not by the pair it stands in."""

    def mask(self, ids: np.ndarray) -> np.ndarray:
        """Mark the candidates that are one of a sample's own texts or known to mean the same as one of them."""
        mask = self._touching(ids[:2], ids[1:].reshape(-1))
        samples = np.arange(ids.shape[1])
        mask[samples, samples] = False
        return mask


def deal_balanced(matching: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Deal samples into batches of half one kind and half the other, one after the other; the last may be short.

    matching: which samples are of the first kind, bool [samples], some and not all; size: of a batch, even. The smaller
    kind is gone through again, in another order, until each sample of the larger one has been dealt once.
    """
    kinds = [np.flatnonzero(matching), np.flatnonzero(~matching)]
    most = max(map(len, kinds))
    both = np.stack([np.concatenate([rng.permutation(kind) for _ in range(-(-most // len(kind)))])[:most]
                     for kind in kinds], axis=1)
    return [both[start : start + size // 2].reshape(-1) for start in range(0, most, size // 2)]


def deal_without_duplicates(rows: np.ndarray, order: np.ndarray, size: int) -> list[np.ndarray]:
    """Deal samples into batches in which no text of a query or positive stands twice; none is lost.

    A sample that clashes waits for the next batch; the last batches may be short.
    """
    texts = rows[:, :2].tolist()
    fresh = iter(order.tolist())
    waiting: list[int] = []
    batches: list[np.ndarray] = []
    while True:
        used: set[int] = set()
        batch: list[int] = []
        later: list[int] = []
        queue = iter(waiting)
        for sample in itertools.chain(queue, fresh):
            if used.isdisjoint(texts[sample]):
                used.update(texts[sample])
                batch.append(sample)
                if len(batch) == size:
                    break
            else:
                later.append(sample)
        if not batch:
            return batches
        batches.append(np.array(batch))
        waiting = [*later, *queue]
