"""What a service must show beside its rates: overload, memory, the first request, batching, the cost of a search.

Each function gives one row of figures. All are bounded in count and time.
"""

import asyncio
import itertools
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import psutil

from deploy.load_test import driver
from semindex.errors import UserError

SATURATED = 32  # users whose requests are compared in batches and one by one
MANY = (32, 128, 256)  # users whose best rate is what a service can do: larger batches do more
SETTLED = 10_000  # requests after which memory should not grow
STARTS = 5
PART = 1000  # entries an import


def overload(args: Namespace, flags: list[Any], texts: Sequence[str]) -> dict[str, Any]:
    """Ask twice as much as can be answered, for args.seconds, from a service without a cache."""
    with driver.started(*flags, "--cache_size", 0, log=args.log) as (address, process):
        best = max(asyncio.run(driver.closed(address, driver.forever(texts), users, min(10.0, args.seconds))).rate
                   for users in MANY)
        rate = 2 * best
        outcome = asyncio.run(driver.paced(address, driver.forever(texts), rate, args.seconds))
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        after = asyncio.run(driver.closed(address, driver.forever(texts), SATURATED, min(20.0, args.seconds)))
    p50, p99 = outcome.milliseconds(50, 99)
    return {"sustainable a second": round(best, 1), "asked a second": round(rate, 1),
            "sent a second": round((len(outcome.seconds) + outcome.others.total()) / outcome.wall, 1),
            "200": len(outcome.seconds), "429": outcome.others.pop("429", 0), "others": dict(outcome.others),
            "p50 of 200, ms": round(p50), "p99 of 200, ms": round(p99), "still runs": alive,
            "a second afterwards": round(after.rate, 1), "client, cores": round(outcome.client, 2)}


def memory(args: Namespace, flags: list[Any], texts: Sequence[str]) -> dict[str, Any]:
    """Send args.requests of mixed length; compare resident memory at the end with that after the first 10,000."""
    asks = (driver.Ask("/search", {"query": text}) for text in driver.mixed(texts))
    first = min(SETTLED, args.requests // 2)
    with driver.started(*flags, log=args.log) as (address, process):
        ready = driver.memory(process)
        outcomes = [asyncio.run(driver.closed(address, asks, SATURATED, count=first, steady=0))]
        early = driver.memory(process)
        outcomes.append(asyncio.run(driver.closed(address, asks, SATURATED, count=args.requests - first, steady=0)))
        late = driver.memory(process)
    failed = sum((outcome.others for outcome in outcomes), start=type(outcomes[0].others)())
    return {"requests": args.requests, "MiB when ready": round(ready), f"MiB after {first}": round(early),
            "MiB at the end": round(late), "grown by": f"{late / early - 1:+.1%}", "failures": dict(failed),
            "requests/s": round(args.requests / sum(outcome.wall for outcome in outcomes), 1)}


def first(args: Namespace, flags: list[Any], texts: Sequence[str]) -> dict[str, Any]:
    """Time the first request of a fresh service against the median of those that follow, over connections alike."""
    ones, medians = [], []
    for turn in range(STARTS):
        asks = driver.forever(texts[turn::STARTS])
        with driver.started(*flags, "--cache_size", 0, log=args.log) as (address, _):
            one = asyncio.run(driver.closed(address, asks, 1, count=1, steady=0))
            # each on a connection of its own, as the first was
            rest = [asyncio.run(driver.closed(address, asks, 1, count=1, steady=0)) for _ in range(args.samples)]
        if one.others or any(outcome.others for outcome in rest):
            raise UserError(f"a request was not answered: {one.others or [o.others for o in rest]}")
        ones += one.seconds
        medians.append(statistics.median(outcome.seconds[0] for outcome in rest))
    ratios = [a / b for a, b in zip(ones, medians)]
    return {"starts": STARTS, "first request, ms": [round(1000 * value, 1) for value in ones],
            "median, ms": [round(1000 * value, 1) for value in medians],
            "first to median": round(statistics.median(ratios), 2), "worst": round(max(ratios), 2)}


def batching(args: Namespace, flags: list[Any], texts: Sequence[str]) -> dict[str, Any]:
    """Compare 32 users of a service that batches with those of one whose batches hold one text, in turns."""
    rates: dict[str, list[float]] = {"in batches": [], "one by one": []}
    with driver.started(*flags, "--cache_size", 0, log=args.log) as (batched, _), \
            _beside(args, flags, "--cache_size", 0, "--batch_size", 1) as (single, _):
        for _ in range(args.repeats):
            for name, address in (("in batches", batched), ("one by one", single)):
                asks = driver.forever(texts, "encode")
                rates[name].append(asyncio.run(driver.closed(address, asks, SATURATED, args.seconds)).rate)
    one, two = (statistics.median(rates[name]) for name in rates)
    return {"users": SATURATED, "requests/s in batches": round(one, 1), "requests/s one by one": round(two, 1),
            "ratio": round(one / two, 2)}


def search_cost(args: Namespace, flags: list[Any], texts: Sequence[str]) -> dict[str, Any]:
    """Load args.entries synthetic entries, then compare /search with /encode of the same texts, in turns."""
    with driver.started(*flags, "--cache_size", 0, log=args.log) as (address, process):
        asyncio.run(_fill(address, args.entries, texts))
        row: dict[str, Any] = {"entries": args.entries}
        for users, many in ((1, 1), (1, 32), (SATURATED, 1)):
            ratios = _in_turns(address, process, args, texts, users, many)
            row |= {f"search to encode, {users} users, {many} texts": ratios["requests/s"],
                    f"its CPU, {users} users, {many} texts": ratios["CPU"]}
    return row


def _in_turns(address: str, process: psutil.Process, args: Namespace, texts: Sequence[str], users: int,
              many: int) -> dict[str, float]:
    found: dict[str, dict[str, list[float]]] = {name: {"wall": [], "CPU": []} for name in ("search", "encode")}
    for turn in range(args.repeats):
        for name in ("search", "encode") if turn % 2 else ("encode", "search"):
            asks = driver.forever(texts, name, many)
            asyncio.run(driver.closed(address, asks, users, 1.0, steady=0))  # alike before both
            before = _cpu(process)
            outcome = asyncio.run(driver.closed(address, asks, users, args.seconds, steady=0))
            if outcome.others or not outcome.seconds:
                raise UserError(f"requests were not answered: {dict(outcome.others)}")
            found[name]["wall"].append(outcome.wall / len(outcome.seconds))
            found[name]["CPU"].append((_cpu(process) - before) / len(outcome.seconds))
    middle = {name: {kind: statistics.median(values) for kind, values in kinds.items()}
              for name, kinds in found.items()}
    return {"requests/s": round(middle["search"]["wall"] / middle["encode"]["wall"], 3),
            "CPU": round(middle["search"]["CPU"] / middle["encode"]["CPU"], 3)}


def _cpu(process: psutil.Process) -> float:
    times = [one.cpu_times() for one in [process, *process.children(recursive=True)]]
    return sum(one.user + one.system for one in times)


async def _fill(address: str, count: int, texts: Sequence[str]) -> None:
    """Import synthetic entries, no two alike, and wait until a snapshot holds them; those that are there stay."""
    pieces = driver.mixed(texts, 40)
    async with aiohttp.ClientSession(address, timeout=aiohttp.ClientTimeout(total=3600)) as client:
        async with client.get("/info") as answer:
            there = (await answer.json())["entries"]
        for start in range(there, count, PART):
            rows = [{"question": f"{number} {next(pieces)}"[:80], "answer": f"answer {number}"}
                    for number in range(start, min(count, start + PART))]
            await _import(client, rows)
        until = time.monotonic() + 3600
        while time.monotonic() < until:
            async with client.get("/info") as answer:
                about = await answer.json()
            if about["entries"] >= count and not about["rebuilding"]:
                return
            await asyncio.sleep(2)
        raise UserError(f"the index did not take in {count} entries within an hour")


async def _import(client: aiohttp.ClientSession, rows: list[dict[str, str]]) -> None:
    """Import rows, again while the service says that too many wait to be taken in."""
    while True:
        async with client.post("/entries/import", json={"entries": rows}) as answer:
            if answer.status in (201, 202):
                return
            if answer.status != 429:
                raise UserError(f"an import was answered {answer.status}: {await answer.text()}")
            await asyncio.sleep(float(answer.headers["Retry-After"]))


def _beside(args: Namespace, flags: list[Any], *more: Any) -> Any:
    """Start a second service with the same flags but its own data."""
    own = list(itertools.chain.from_iterable(
        (flag, value) for flag, value in zip(flags[::2], flags[1::2]) if flag != "--data_dir"))
    return driver.started(*own, "--data_dir", tempfile.mkdtemp(dir=args.scratch), *more, log=args.log)


MODES: dict[str, Callable[[Namespace, list[Any], Sequence[str]], dict[str, Any]]] = {
    "overload": overload, "memory": memory, "first": first, "batching": batching, "search_cost": search_cost}
