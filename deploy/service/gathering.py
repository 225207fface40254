"""Searches of many requests at once: what waits while one search runs becomes the next one."""

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from deploy.service.compute import Compute


class Gathering:
    """Hands items of one key together to a function in the compute thread; no timer, nothing waits to be joined."""

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self._waiting: dict[Hashable, list[tuple[Any, asyncio.Future[Any]]]] = {}
        self._turn = threading.Lock()

    async def __call__(self, key: Hashable, item: Any, work: Callable[[Sequence[Any]], Sequence[Any]],
                       after: Callable[[Any, Any], Any]) -> Any:
        """Return what `after` makes of an item and of what `work` gives for it.

        work: from items of this key to a result each; after: of each result, in another thread, all in one go.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._turn:
            rows = self._waiting.setdefault(key, [])
            rows.append((item, future))
            first = len(rows) == 1
        if first:
            await self._run(key, work, after)
        return await future

    async def _run(self, key: Hashable, work: Callable[[Sequence[Any]], Sequence[Any]],
                   after: Callable[[Any, Any], Any]) -> None:
        try:
            taken, results = await asyncio.shield(asyncio.ensure_future(self._call(key, work, after)))
        except Exception as error:  # it stops
            with self._turn:
                taken = self._waiting.pop(key, [])
            results = [error] * len(taken)
            _tell(taken, results)

    async def _call(self, key: Hashable, work: Callable[[Sequence[Any]], Sequence[Any]],
                    after: Callable[[Any, Any], Any]) -> Any:
        def take() -> Any:
            with self._turn:
                taken = self._waiting.pop(key)
            taken = [row for row in taken if not row[1].cancelled()]  # whose client left
            return taken, _done(work, [item for item, _ in taken])

        taken, results = await self.compute.call(take, patient=True)
        try:
            results = await asyncio.to_thread(_finished, after, [item for item, _ in taken], results)
        except RuntimeError as error:  # it stops: no thread begins any more
            results = [error] * len(taken)
        _tell(taken, results)
        return taken, results


def _finished(after: Callable[[Any, Any], Any], items: Sequence[Any], results: Sequence[Any]) -> list[Any]:
    """Return what `after` makes of each; one that fails fails for itself."""
    found = []
    for item, result in zip(items, results):
        try:
            found.append(result if isinstance(result, Exception) else after(item, result))
        except Exception as error:
            found.append(error)
    return found


def _done(work: Callable[[Sequence[Any]], Sequence[Any]], items: Sequence[Any]) -> Sequence[Any]:
    """Return the results; where all together fail each alone, so that one fails for itself only."""
    if not items:
        return []
    try:
        return work(items)
    except Exception as error:
        if len(items) == 1:
            return [error]
        return [_done(work, [item])[0] for item in items]


def _tell(taken: Sequence[tuple[Any, "asyncio.Future[Any]"]], results: Sequence[Any]) -> None:
    for (_, future), result in zip(taken, results):
        if not future.done():
            future.set_exception(result) if isinstance(result, Exception) else future.set_result(result)
