"""The service without HTTP: questions to answers, entries that come and go, the generation that is live."""

import asyncio
import concurrent.futures
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

from deploy.service import replies
from deploy.service.cache import Cache
from deploy.service.compute import Compute
from deploy.service.gathering import Gathering
from deploy.service.generation import Generation, Model, Shared
from deploy.service.store import Change, Store, UncertainError
from semindex.faq.answering import SUGGESTIONS
from semindex.faq.entries import Entry
from semindex.search.index import IndexSettings
from semindex.search.keyword import KeywordSettings
from semindex.search.methods import Calibration, Method

LOG = logging.getLogger("semindex.service")
LOOK = 0.03  # seconds between two looks of a process that follows the one that writes
WARM = ("预热", "warm up " * 8, "预热" * 30)  # short and long: what runs first at a length is slow


class Service:
    """Everything behind the endpoints. bound: pending questions before a rebuild; owner: whether this process writes,
    of several that serve one directory; most, seconds: texts that may wait, how long; index, threads: see Shared."""

    def __init__(self, directory: str, model: Model, calibration: Calibration | None = None, bound: int = 2000,
                 cache: Cache | None = None, most: int = 4096, seconds: float = 10.0,
                 keyword: KeywordSettings | None = None, owner: bool = True,
                 index: IndexSettings | None = None, threads: int = 1) -> None:
        self.directory, self.owner = directory, owner
        cache = Cache(10_000, 3600) if cache is None else cache  # an empty one is false
        self.shared = Shared(Store(os.path.join(directory, "entries.sqlite")), Compute(most, seconds), cache,
                             os.path.join(directory, "snapshots"), bound, keyword, owner, index or IndexSettings(),
                             threads)
        self.generation = Generation(model, self.shared, calibration)
        self.ready = False
        self.rebuilds = 0
        self.log_texts = False
        self._writer = concurrent.futures.ThreadPoolExecutor(1, "writes")  # a slow disk keeps no search from its thread
        self._gathering = Gathering(self.shared.compute)
        self._applying = asyncio.Lock()
        self._tasks = set[asyncio.Task[Any]]()
        self._changed = asyncio.Event()

    @property
    def store(self) -> Store:
        """The truth."""
        return self.shared.store

    @property
    def compute(self) -> Compute:
        """The thread that computes."""
        return self.shared.compute

    @property
    def model(self) -> Model:
        """The encoder that is live."""
        return self.generation.model

    @property
    def rebuilding(self) -> bool:
        """Whether a snapshot is being written."""
        return self.generation.rebuilding

    async def start(self, first: Sequence[Entry] = ()) -> None:
        """Take in what the index lacks; an empty store first gets the entries of a FAQ."""
        if first and self.owner and not self.store.last():
            await self.on_disk(lambda: self.store.add(first))
        await self.generation.renew()
        await self.generation.catch_up(self._bound)  # what was encoded is kept, should the start be cut short
        await asyncio.gather(*self._tasks)  # a rebuild would slow the first requests down
        for text in WARM:
            await self.search([text])
        if self.generation.confidence is None:
            LOG.warning("not calibrated: every hit is a suggestion; calibrate.py sets the thresholds")
        self.ready = True

    async def vectors(self, texts: Sequence[str], side: str) -> np.ndarray:
        """Return the vectors of texts by the live generation, see Generation.vectors."""
        return await self.generation.vectors(texts, side)

    def tokens(self, texts: Sequence[str], side: str) -> int:
        """Return how many tokens texts of a side are."""
        return int(self.model.sides[side].tokenizer(list(texts)).lengths.sum())

    async def write(self, change: Callable[[], Change | list[Change]],
                    seconds: float | None = None) -> tuple[list[Change], float | None]:
        """Do one write of the store, then make it searchable; return the changes and the milliseconds that took.

        change: a function that writes and returns Change or a list of it. The write is on the disk before anything
        else; if the index cannot take it now, it will at the next write or start. seconds: how long to wait for the
        index, None for the milliseconds where it takes longer. FullError, and nothing is written, where too much
        waits; see _within for the others. Who leaves meanwhile stops nothing.
        """
        self.compute.admit(1)
        began = time.perf_counter()
        job = self._writer.submit(change)
        work = self.keep(self._applied(job))
        found = await _within(job, seconds)
        rest = None if seconds is None else max(0.0, seconds - (time.perf_counter() - began))
        await asyncio.wait({work}, timeout=rest)
        changes = [found] if isinstance(found, Change) else found
        return changes, work.result() if work.done() and not work.exception() else None

    async def on_disk(self, change: Callable[[], Any], seconds: float | None = None) -> Any:
        """Return what a write of the store gives; nothing else is done of it. Raises as _within does."""
        return await _within(self._writer.submit(change), seconds)

    def keep(self, work: Any) -> "asyncio.Task[Any]":
        """Run beside what runs; the event loop itself keeps no task from the garbage collector."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _applied(self, job: "concurrent.futures.Future[Any]") -> float:
        """Take into the index what a job writes; return the milliseconds from the disk to there."""
        try:
            await asyncio.wrap_future(job)
        except (Exception, asyncio.CancelledError):  # told to who asked for it
            return 0.0
        began = time.perf_counter()
        async with self._applying:
            await self.generation.catch_up(self._bound)
        return 1000 * (time.perf_counter() - began)

    def _bound(self) -> None:
        """Begin a rebuild where too much came since the snapshot."""
        if self.generation.index.pending > self.shared.bound and not self.generation.rebuilding:
            self.keep(self.rebuild())

    async def rebuild(self) -> None:
        """Write a snapshot of the live generation beside the searches, another where too much came meanwhile."""
        generation, more = self.generation, True
        while more:
            before = generation.rebuilds
            await generation.rebuild()
            self.rebuilds += generation.rebuilds - before
            more = generation.rebuilds > before and generation.index.pending > self.shared.bound

    async def replace(self, generation: Generation, then: Callable[[], None]) -> None:
        """Make another generation live: what is being answered ends with the old one. then: done before the next."""
        async with self._applying:  # no write comes between the last change it takes in and the exchange
            await generation.catch_up()
            generation.later = False
            await asyncio.to_thread(then)
            self.generation = generation
        LOG.info("generation %s is live", generation.model.fingerprint[:16])

    async def follow(self, moved: Callable[[], Awaitable[None]]) -> None:
        """Take in, without end, what another process writes. moved: looks whether another generation is live."""
        while True:
            try:
                await moved()
                if await asyncio.to_thread(self.store.last) > self.generation.index.number:
                    await self.generation.renew()
                    await self.generation.catch_up()
                self._changed.set()
                self._changed = asyncio.Event()
            except Exception:
                LOG.exception("could not take in what was written; tried again")
                await asyncio.sleep(1)
            await asyncio.sleep(LOOK)

    async def reached(self, number: int) -> None:
        """Wait until a change is in the index."""
        while self.generation.index.number < number:
            await self._changed.wait()

    async def search(self, queries: Sequence[str], k: int = SUGGESTIONS, method: str | None = None) -> dict[str, Any]:
        """Return replies to queries, and what each stage took in milliseconds.

        method: None for the calibrated one; thresholds are of that one, so hits of another are suggestions.
        """
        live = self.generation
        own = method in (None, live.method.name)
        chosen, confidence = (live.method, live.confidence) if own else (Method(method or "dense"), None)
        began = time.perf_counter()
        lone = chosen.name == "keyword" and not confidence  # which asks no encoder
        vectors = None if lone else await live.vectors(queries, "query")
        encoded = time.perf_counter()

        def together(asked: Sequence[tuple[Sequence[str], np.ndarray | None]]) -> list[tuple[replies.Hits, int, float]]:
            every = [query for some, _ in asked for query in some]
            known = [rows for _, rows in asked if rows is not None]
            hits = replies.search(live.index, every, np.concatenate(known) if known else None, chosen, k,
                                  live.temperature, confidence)
            starts = np.cumsum([0, *(len(some) for some, _ in asked)]).tolist()
            searched = time.perf_counter()
            return [(hits, start, searched) for start in starts[:-1]]

        def answers(item: Any, found: tuple[replies.Hits, int, float]) -> tuple[list[dict[str, Any]], float, float]:
            hits, start, searched = found
            rows = replies.replies(hits, item[0], self.store, confidence, start)
            return rows, searched, time.perf_counter()

        key = (id(live), chosen, k, confidence is None)
        rows, searched, done = await self._gathering(key, (queries, vectors), together, answers)
        times = {"encode": encoded - began, "search": searched - encoded, "answer": done - searched}
        if self.log_texts:
            for row in rows:
                LOG.info("asked", extra={"fields": {"query": row["query"], "state": row["state"],
                                                    "hits": [hit["id"] for hit in row["hits"]]}})
        return {"replies": rows, "method": chosen.name,
                "milliseconds": {name: round(1000 * value, 3) for name, value in times.items()}}

    def stop(self, seconds: float) -> None:
        """Finish what waits, within so many seconds, and close the store."""
        self.ready = False
        self._writer.shutdown(wait=False, cancel_futures=True)
        self.compute.stop(seconds)
        self.store.close()


async def _within(job: "concurrent.futures.Future[Any]", seconds: float | None) -> Any:
    """Return what a job of the thread that writes gives.

    TimeoutError, and nothing is written, where its turn does not come in time; UncertainError where the disk takes
    longer.
    """
    done, _ = await asyncio.wait({stored := asyncio.wrap_future(job)}, timeout=seconds)
    if done:
        return stored.result()
    if job.cancel():
        raise asyncio.TimeoutError
    job.add_done_callback(_late)
    raise UncertainError


def _late(job: "concurrent.futures.Future[Any]") -> None:
    """Log what became of a write whose client was told that nobody knows."""
    LOG.warning("a write ended after its client was answered: %s", job.exception() or "it is on the disk")
