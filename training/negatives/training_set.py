"""What ANCE trains on: a collection's pairs, each with some negatives of the newest generation."""

import hashlib
from typing import Any

import numpy as np

from data import Batch, Neighbours, TrainingSet
from semindex.collection.store import Collection
from semindex.errors import UserError


class AnceTrainingSet(TrainingSet):
    """Pairs of a training query and a positive, each with some of its negatives.

    A batch has a column of queries, then those of the positives' passages, then those of each negative's; of a
    document with fewer passages than others the last one stands again, which changes no maximum. Batch.ids are the
    groups of equal texts. settings: what else a resumed run must have alike. options: as of TrainingSet.
    """

    def __init__(self, collection: Collection, batch_size: int, train_negatives: int, settings: str = "",
                 **options: Any) -> None:
        about = collection.about
        pairs = collection.pairs + [about.documents, 0]  # places in groups
        groups = np.asarray(collection.groups, np.int64)
        neighbours = Neighbours(groups[pairs], int(groups.max()) + 1)
        super().__init__(pairs, collection.tokens, neighbours, batch_size, **options)
        self.collection, self.train_negatives, self.settings = collection, train_negatives, settings
        self.group_of_row = np.concatenate([groups[collection.owner], groups[about.documents :]])
        self.negatives: np.ndarray | None = None
        self.number = -1

    def use(self, number: int, negatives: np.ndarray) -> None:
        """Deal the negatives of a generation from now on, int32 [pairs, negatives]; none for a width of 0."""
        if len(negatives) != len(self.rows):
            raise UserError(f"generation {number} has negatives of {len(negatives)} pairs, the training has "
                            f"{len(self.rows)}; was it made from other data? --overwrite starts anew")
        self.number, self.negatives = number, negatives if negatives.shape[1] else None

    @property
    def columns(self) -> int:
        """Columns of a batch."""
        width = 0 if self.negatives is None else min(self.train_negatives, self.negatives.shape[1])
        return 1 + (1 + width) * self.collection.about.chunks

    def batch(self, samples: np.ndarray) -> Batch:
        """Make the batch of some samples; their negatives follow from seed, generation and samples alone."""
        about, first = self.collection.about, self.collection.first_passage
        documents = self.rows[samples, 1:]
        if self.negatives is not None:
            negatives = self.negatives[samples]
            rng = np.random.default_rng([self.seed, self.number, *samples[:2].tolist()])
            chosen = np.argsort(rng.random(negatives.shape, np.float32), axis=1)[:, : self.train_negatives]
            documents = np.concatenate([documents, np.take_along_axis(negatives, chosen, 1)], 1)
        last = (first[documents + 1] - first[documents] - 1)[..., None]
        rows = first[documents][..., None] + np.minimum(np.arange(about.chunks), last)
        queries = self.rows[samples, :1] - about.documents + about.passages
        ids = np.ascontiguousarray(np.concatenate([queries, rows.reshape(len(samples), -1)], 1).T)
        batch = self._batch(ids)
        batch.ids = self.group_of_row[ids]
        return batch

    def fingerprint(self) -> str:
        """Return a SHA-256 over what is dealt, but for the negatives."""
        parts = (self.collection.about.key, self.train_negatives, self.settings)
        return hashlib.sha256(repr(parts).encode()).hexdigest()
