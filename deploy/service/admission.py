"""Who is let in: not who would wait too long. One rule for every request, told before its body is read."""

import collections
import time
from collections.abc import Callable

FEW = 32  # requests that are let in whatever the rate: a service that was idle has none
KEPT = 256  # answers that the rate is of
SHARE = 0.4  # of the time a request may take, that one may be expected to wait: the estimate lags behind
LATELY = 0.1  # what the last turn counts in the mean length of the event loop's turns


class Admission:
    """Requests inside, and the rate of their answers while there are any.

    By Little's law (1961) one that comes now waits for as long as those inside take: their number over the rate. Before
    and after, it waits for a turn of the event loop each. seconds: how long a request may take.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock = seconds, clock
        self.inside, self.turn = 0, 0.0  # turn: seconds of the event loop's turns lately
        self._busy, self._since = 0.0, 0.0  # seconds with somebody inside, up to `since`
        self._answers = collections.deque[float](maxlen=KEPT)  # of each answer what _busy was

    def _now(self) -> float:
        now = self.clock()
        if self.inside:
            self._busy += now - self._since
        self._since = now
        return self._busy

    def expected(self) -> float:
        """Return the seconds that one who comes now would take."""
        if len(self._answers) < FEW:
            return 0.0
        rate = len(self._answers) / max(self._now() - self._answers[0], 1e-6)
        return self.inside / rate + 2 * self.turn

    def turned(self, seconds: float) -> None:
        """Take in how long a turn of the event loop took."""
        self.turn += LATELY * (seconds - self.turn)

    def refuses(self) -> float:
        """Return 0 where one may come in, else after how many seconds to come again."""
        wait = self.expected() if self.inside >= FEW else 0.0
        return wait if wait > SHARE * self.seconds else 0.0

    def enter(self) -> None:
        """Count one in."""
        self._now()
        self.inside += 1

    def leave(self, answered: bool = True) -> None:
        """Count one out."""
        now = self._now()
        if answered:
            self._answers.append(now)
        self.inside -= 1
