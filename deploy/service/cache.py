"""The vectors asked for last, for a while. Standard library and NumPy."""

import collections
import time
from collections.abc import Callable, Hashable

import numpy as np


class Cache:
    """Values by key, the least recently used dropped; a value is forgotten after so many seconds. For one thread."""

    def __init__(self, size: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.size, self.seconds, self.clock = size, seconds, clock
        self.hits = self.misses = 0
        self._kept: collections.OrderedDict[Hashable, tuple[float, np.ndarray]] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> np.ndarray | None:
        """Return a value, None where it is not there any more."""
        found = self._kept.get(key)
        if found is not None and self.clock() - found[0] < self.seconds:
            self._kept.move_to_end(key)
            self.hits += 1
            return found[1]
        self._kept.pop(key, None)
        self.misses += 1
        return None

    def put(self, key: Hashable, value: np.ndarray) -> None:
        """Keep a value."""
        if self.size:
            self._kept[key] = self.clock(), value
            self._kept.move_to_end(key)
            while len(self._kept) > self.size:
                self._kept.popitem(last=False)
