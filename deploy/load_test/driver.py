"""Users that ask a service on this machine, and what it takes them: closed (each waits for its answer) or at a rate."""

import asyncio
import collections
import contextlib
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import aiohttp
import numpy as np
import psutil

from semindex.errors import UserError

SERVE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "service", "serve.py")
PATHS = {"search": ("/search", "query"), "encode": ("/encode", "texts"), "embeddings": ("/v1/embeddings", "input")}
PATIENCE = 60.0  # seconds after which a client gives up: far beyond what the service allows itself
STEADY = 1.0  # seconds before anything is counted: connections are made, batches fill


class Ask(NamedTuple):
    """A request: where to, and its JSON."""

    path: str
    content: dict[str, Any]


@dataclass
class Outcome:
    """What became of requests. seconds: of those answered 200; others: status or error to how many; wall: seconds of
    all; client: share of a core that asking took."""

    seconds: list[float] = field(default_factory=list)
    others: collections.Counter[str] = field(default_factory=collections.Counter)
    wall: float = 0.0
    client: float = 0.0

    @property
    def rate(self) -> float:
        """Requests a second that were answered 200."""
        return len(self.seconds) / self.wall if self.wall else 0.0

    def milliseconds(self, *percent: float) -> list[float]:
        """Return percentiles of what was answered."""
        values = np.percentile(self.seconds or [float("nan")], list(percent))
        return [1000 * value for value in np.atleast_1d(values).tolist()]


@contextlib.contextmanager
def started(*flags: Any, log: str = "") -> Iterator[tuple[str, psutil.Process]]:
    """Run deploy/service/serve.py on a free port of this machine; yield its address, once it is ready, and its process.

    Variables SEMINDEX_* reach it. log: the file that its log goes to, "" for none to keep. UserError
    where it does not start.
    """
    with contextlib.ExitStack() as stack:
        log = log or stack.enter_context(tempfile.NamedTemporaryFile(suffix=".log")).name
        errors = stack.enter_context(open(log, "ab"))
        yield from _run(flags, log, errors)


def _run(flags: Sequence[Any], log: str, errors: BinaryIO) -> Iterator[tuple[str, psutil.Process]]:
    process = subprocess.Popen([sys.executable, SERVE, "--port", "0", *map(str, flags)],
                               stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            with open(log, encoding="utf-8", errors="replace") as lines:
                said = lines.read().strip().splitlines()[-1:] or ["it says nothing"]
            raise UserError(f"the service did not start: {said[0].removeprefix('error: ')}")
        asyncio.run(_ready(address, process))
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.stdout.close()


async def _ready(address: str, process: "subprocess.Popen[str]") -> None:
    async with aiohttp.ClientSession(address) as session:
        while process.poll() is None:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get("/ready") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.005)
    raise UserError("the service ended before it was ready; see its log")


def memory(process: psutil.Process) -> float:
    """Return the MiB that a process and its children have resident."""
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 2**20


def session(address: str) -> aiohttp.ClientSession:
    """Return connections that stay open, as many as there are users."""
    return aiohttp.ClientSession(address, connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=10),
                                 timeout=aiohttp.ClientTimeout(total=PATIENCE))


async def once(client: aiohttp.ClientSession, ask: Ask, outcome: Outcome) -> None:
    """Send a request and note what became of it."""
    began = time.perf_counter()
    try:
        async with client.post(ask.path, json=ask.content) as answer:
            await answer.read()
            status = answer.status
    except (aiohttp.ClientError, asyncio.TimeoutError) as error:
        outcome.others[type(error).__name__] += 1
        return
    if status == 200:
        outcome.seconds.append(time.perf_counter() - began)
    else:
        outcome.others[str(status)] += 1


async def closed(address: str, asks: Iterable[Ask], users: int, seconds: float = float("inf"),
                 count: int | None = None, steady: float = STEADY) -> Outcome:
    """Let users ask, each once the last is answered, for so many seconds or requests; the first moment is not counted.

    One of seconds and count must be given, or asks must end.
    """
    rows, outcome = iter(asks if count is None else itertools.islice(asks, count)), Outcome()
    async with session(address) as client:
        async def user(until: float, noted: Outcome) -> None:
            while time.perf_counter() < until:
                ask = next(rows, None)
                if ask is None:
                    return
                await once(client, ask, noted)

        if steady:
            until = time.perf_counter() + steady
            await asyncio.gather(*(user(until, Outcome()) for _ in range(users)))
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(user(began + seconds, outcome) for _ in range(users)))
    return _timed(outcome, began, cpu)


async def paced(address: str, asks: Iterable[Ask], rate: float, seconds: float) -> Outcome:
    """Send so many requests a second, answered or not, as users do who know nothing of each other."""
    outcome, tasks, rows = Outcome(), set[asyncio.Task[None]](), iter(asks)
    async with session(address) as client:
        began, cpu = time.perf_counter(), time.process_time()
        for number in range(int(rate * seconds)):
            ask = next(rows, None)
            if ask is None:
                break
            wait = began + number / rate - time.perf_counter()
            if wait > 0 or number % 64 == 0:
                await asyncio.sleep(max(0.0, wait))
            task = asyncio.ensure_future(once(client, ask, outcome))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    return _timed(outcome, began, cpu)


def _timed(outcome: Outcome, began: float, cpu: float) -> Outcome:
    outcome.wall = time.perf_counter() - began
    outcome.client = (time.process_time() - cpu) / outcome.wall
    return outcome


def forever(texts: Sequence[str], endpoint: str = "search", many: int = 1) -> Iterator[Ask]:
    """Yield requests of texts in a fixed random order, round and round. many: texts a request."""
    path, name = PATHS[endpoint]
    order = list(texts)
    random.Random(0).shuffle(order)
    rows = itertools.cycle(order)
    while True:
        part = list(itertools.islice(rows, many))
        yield Ask(path, {name: part[0] if many == 1 and name != "texts" else part})


def mixed(texts: Sequence[str], longest: int = 500) -> Iterator[str]:
    """Yield texts without end, of 1 to so many characters, short ones more often; hardly any comes twice."""
    draw, line = random.Random(0), "".join(texts)
    if len(line) < 2:
        raise UserError("the texts to ask are empty")
    while True:
        length = min(len(line) - 1, round(longest ** draw.random()))
        start = draw.randrange(len(line) - length)
        text = line[start : start + length].strip()
        if text:
            yield text
