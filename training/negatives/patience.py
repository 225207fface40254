"""What a job that waits for another one prints of it."""

import time
from collections.abc import Callable

from semindex import runtime


class Patience:
    """Says what a waiting job has seen and not seen: after a minute, then after twice as long, and so on."""

    SECONDS = 60.0

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin to wait anew."""
        self.began, self.after = time.monotonic(), self.SECONDS

    def look(self, seen: Callable[[], str]) -> None:
        """Print what `seen` returns, on rank 0, where it is time to."""
        waited = time.monotonic() - self.began
        if waited < self.after:
            return
        self.after *= 2
        if runtime.rank() == 0:
            runtime.say(f"waited {waited:.0f} s: {seen()}")
