"""One thread that computes: batches of what waits, by length and tokens, and all that touches the index.

The event loop hands work over and waits without computing. Nothing waits for a batch to fill: the thread takes what is
there as soon as it is idle. Work of a generation that is being built goes in between, a part at a time.
"""

import asyncio
import collections
import functools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from semindex.encode.text_encoder import TextEncoder
from semindex.text.ragged import Ragged, by_length

OLDEST = 128  # texts among which a batch is chosen: of all that wait, one of an unusual length would wait twice as long
PARTS = 4  # batches that what waits is cut into, at least, unless they would be small
EVERY = 4  # batches, of which one may be of a generation that is being built
HELD = 3  # batches of texts that a job of many may be put off by, while more of its kind join it
Job = tuple[Callable[[], Any], Any, asyncio.AbstractEventLoop]


class FullError(Exception):
    """So much waits that more would not be done in time. seconds: when to come again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass
class Texts:
    """Texts that wait for their vectors. encoder: of their side."""

    texts: list[str]
    encoder: TextEncoder
    future: "asyncio.Future[np.ndarray]"
    loop: asyncio.AbstractEventLoop
    tokens: Any = None
    vectors: np.ndarray | None = None
    left: int = 0


@dataclass
class Numbers:
    """What /metrics tells of the thread."""

    batches: int = 0
    texts: int = 0
    dropped: int = 0
    seconds: float = 0.0
    rows: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=64))  # seconds a text


class Compute:
    """The thread. most: texts that may wait; seconds: how long they may."""

    def __init__(self, most: int = 4096, seconds: float = 10.0) -> None:
        self.most, self.seconds = most, seconds
        self.numbers = Numbers()
        self._jobs, self._patient = collections.deque[Job](), collections.deque[Job]()
        self._held = 0  # batches since the first patient job came
        self._texts: collections.deque[Texts] = collections.deque()
        self._later: collections.deque[Texts] = collections.deque()
        self._waiting, self._stopped = 0, False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Texts that wait or are being encoded."""
        return self._waiting

    def expected(self, more: int = 0) -> float:
        """Return in how many seconds so many further texts would be done."""
        rows = self.numbers.rows
        return (self._waiting + more) * (sum(rows) / len(rows) if rows else 0.0)

    def admit(self, count: int) -> None:
        """Raise FullError where so many texts would wait too long: one rule for single and batch requests."""
        busy = self._waiting + count > self.most or self.expected(count) > self.seconds
        if self._stopped or self._waiting and busy:
            raise FullError(min(60.0, max(1.0, self.expected())))

    async def encode(self, texts: Sequence[str], encoder: TextEncoder, admitted: bool = False,
                     later: bool = False) -> np.ndarray:
        """Return the vectors of texts, float32 [texts, dimension]; FullError where too many wait.

        encoder: of their side; admitted: they are taken however many wait; later: behind all others, so few at once
        that these hardly notice.
        """
        if not admitted:
            self.admit(len(texts))
        loop = asyncio.get_running_loop()
        work = Texts(list(texts), encoder, loop.create_future(), loop)
        with self._wake:
            (self._later if later else self._texts).append(work)
            self._waiting += len(texts)  # after it: who reads this number finds them there
            self._wake.notify()
        return await work.future

    async def call(self, job: Callable[[], Any], patient: bool = False) -> Any:
        """Return what a function gives in the thread; such jobs go before texts that wait.

        patient: while texts wait, after HELD batches of them: what it does for many costs less than for each.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._wake:
            if self._stopped:
                raise FullError(1.0)
            (self._patient if patient else self._jobs).append((job, future, loop))
            self._wake.notify()
        return await future

    def stop(self, seconds: float) -> None:
        """Finish what waits, but wait no longer than so many seconds."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        turn = 0
        while True:
            with self._wake:
                while not (self._jobs or self._patient or self._texts or self._later or self._stopped):
                    self._wake.wait()
                if self._stopped and not (self._jobs or self._patient or self._texts):
                    return
                arrived, self._texts = self._texts, collections.deque()
                jobs = self._due(bool(arrived))
                turn += 1
                if self._later and (not arrived or turn % EVERY == 0):
                    arrived.append(self._later.popleft())
            _do(jobs)
            self._encode(list(arrived))

    def _due(self, more: bool) -> Iterable[Job]:
        """Return the jobs to do now. more: whether texts wait. With the lock held."""
        jobs, self._jobs = self._jobs, collections.deque()
        if self._patient and (not more or self._held >= HELD):
            jobs += self._patient
            self._patient.clear()
            self._held = 0
        return jobs

    def _take(self, wanted: list[Texts]) -> list[tuple[Texts, int]]:
        """Return the rows of those whose clients are still there, tokenised; what cannot be tokenised fails alone."""
        found = list[tuple[Texts, int]]()
        for work in wanted:
            if work.future.cancelled():
                self.numbers.dropped += len(work.texts)
                self._leave(len(work.texts))
                continue
            try:
                work.tokens = work.encoder.tokenizer(work.texts)
            except Exception as error:
                self._leave(len(work.texts))
                _failed(work.loop, work.future, error)
                continue
            work.vectors = np.empty([len(work.texts), work.encoder.dimension], np.float32)
            work.left = len(work.texts)
            found += [(work, row) for row in range(len(work.texts))]
        return found

    def _leave(self, count: int) -> None:
        with self._wake:
            self._waiting -= count

    def _encode(self, arrived: list[Texts]) -> None:
        """Encode what waits in batches of similar length; texts that arrive meanwhile join those that are left."""
        waiting = self._take(arrived)
        while waiting:
            oldest = waiting[0][0].encoder
            alike = [place for place, (work, _) in enumerate(waiting[:OLDEST]) if work.encoder.run is oldest.run]
            lengths = np.array([waiting[place][0].tokens.lengths[waiting[place][1]] for place in alike])
            # While a part is answered the next one is computed: one batch of all that waits would leave gaps.
            budget = min(oldest.budget, max(oldest.budget // 8, int(lengths.sum()) // PARTS))
            parts = by_length(lengths, oldest.batch_size, budget)
            rows = next(part for part in parts if 0 in part)  # who has waited longest, with those of like length
            kept = {alike[row] for row in rows.tolist()}
            chosen = [waiting[place] for place in sorted(kept)]
            waiting = [pair for place, pair in enumerate(waiting) if place not in kept]
            answers = self._batch([pair for pair in chosen if not pair[0].future.cancelled()])
            for work, _ in chosen:
                if work.future.cancelled():
                    self.numbers.dropped += 1
            self._leave(len(chosen))
            for tell in answers:  # who is answered waits no more
                tell()
            with self._wake:
                more, self._texts = self._texts, collections.deque()
                self._held += bool(self._patient)
                jobs = self._due(bool(waiting or more))
                if self._later and self.numbers.batches % EVERY == 0:
                    more.append(self._later.popleft())
            _do(jobs)
            waiting += self._take(list(more))

    def _batch(self, chosen: list[tuple[Texts, int]]) -> list[Callable[[], None]]:
        """Encode texts; return what tells those who have all of theirs, or that it failed."""
        if not chosen:
            return []
        rows = [work.tokens.flat[work.tokens.starts[row] : work.tokens.starts[row + 1]] for work, row in chosen]
        together = Ragged(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))
        encoder = chosen[0][0].encoder
        ids = together.pad(np.arange(len(rows)), encoder.tokenizer.pad_id)
        began = time.perf_counter()
        try:
            vectors = encoder.run(ids)
            if not np.isfinite(vectors).all():
                raise ValueError("the encoder gives no finite vector")
        except Exception as error:
            return [functools.partial(_failed, work.loop, work.future, error) for work, _ in chosen]
        taken = time.perf_counter() - began
        self.numbers.batches += 1
        self.numbers.texts += len(chosen)
        self.numbers.seconds += taken
        self.numbers.rows.append(taken / len(chosen))
        answers = list[Callable[[], None]]()
        for place, (work, row) in enumerate(chosen):
            assert work.vectors is not None
            work.vectors[row] = vectors[place]
            work.left -= 1
            if not work.left:
                answers.append(functools.partial(_done, work.loop, work.future, work.vectors))
        return answers


def _do(jobs: Iterable[Job]) -> None:
    for job, future, loop in jobs:
        try:
            _done(loop, future, job())
        except Exception as error:  # whatever it is, it belongs to who asked
            _failed(loop, future, error)


def _done(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]", value: Any) -> None:
    loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(value))


def _failed(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]", error: Exception) -> None:
    loop.call_soon_threadsafe(lambda: None if future.done() else future.set_exception(error))
