"""Searches of many requests at once: together, each with its own result, one that fails for itself alone."""

import asyncio
import threading

from deploy.service.compute import Compute
from deploy.service.gathering import Gathering


def test_what_waits_is_done_together_and_each_gets_its_own():
    compute, begun, gate, calls, threads = Compute(), threading.Event(), threading.Event(), [], set()

    def work(items):
        begun.set()
        gate.wait(10)
        calls.append(list(items))
        if 13 in items:
            raise ValueError(items)
        return [item * 2 for item in items]

    def after(item, result):
        threads.add(threading.current_thread().name)
        if item == 4:
            raise KeyError(item)
        return item, result

    async def ask():
        gathering = Gathering(compute)
        first = asyncio.create_task(gathering("a", 1, work, after))
        while not begun.is_set():
            await asyncio.sleep(0.001)  # the thread has not taken the first one yet
        others = [asyncio.create_task(gathering(key, item, work, after)) for item in (2, 13, 4) for key in ("a", "b")]
        left = asyncio.create_task(gathering("a", 99, work, after))
        await asyncio.sleep(0.05)
        left.cancel()
        gate.set()
        return [await first, *await asyncio.gather(*others, return_exceptions=True)]

    found = asyncio.run(ask())
    assert found[:3] == [(1, 2), (2, 4), (2, 4)] and [type(one) for one in found[3:]] == [ValueError] * 2 + [KeyError] * 2
    assert [2, 13, 4] in calls and not any(99 in call for call in calls) and "compute" not in threads
    compute.stop(5)
