"""What engines share whose vectors have labels: numbers that count what was ever added and never come back."""

from abc import abstractmethod

import numpy as np

from semindex.search.index import IndexSettings, VectorIndex

IDS = "ids.npy"  # the id of each label, where they are not the same


class Labelled(VectorIndex):
    """An index whose vectors stay where they are: what is removed is only marked, until it is more than the rest.

    A label is never used again: a graph would move the old node to the new place, and its neighbours would lose their
    way. So an id that comes back gets another label.
    """

    def __init__(self, dimension: int, settings: IndexSettings | None = None) -> None:
        super().__init__(dimension, settings)
        self._know(np.empty(0, np.int64))

    def _know(self, id_of: np.ndarray) -> None:
        """Take up the id of each label, -1 where it was removed."""
        live = np.flatnonzero(id_of >= 0)
        live = live[np.argsort(id_of[live], kind="stable")]
        self._id_of, self._labels, self._ids = id_of, live, id_of[live]

    @property
    def ids(self) -> np.ndarray:
        """See VectorIndex."""
        return self._ids

    def _labels_of(self, ids: np.ndarray) -> np.ndarray:
        return self._labels[np.searchsorted(self._ids, ids)]

    def _remove(self, ids: np.ndarray) -> None:
        labels = self._labels_of(ids)
        self._mark(labels)
        id_of = self._id_of.copy()
        id_of[labels] = -1
        self._know(id_of)
        if len(id_of) > 2 * len(self._ids):  # a search would pass over more than it may return
            self._rebuild()

    def _mark(self, labels: np.ndarray) -> None:
        """Note that labels are gone, where more than their ids must know it."""

    @abstractmethod
    def _rebuild(self) -> None:
        """Make the index anew from what can be found."""
