"""A generation: one encoder, the index of its vectors, and how it answers. Work that two of them share."""

import asyncio
import functools
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deploy.service import live as lives
from deploy.service import snapshots
from deploy.service.cache import Cache
from deploy.service.compute import Compute, FullError
from deploy.service.store import Store
from semindex.encode.text_encoder import TextEncoder
from semindex.faq.answering import TEMPERATURE
from semindex.faq.confidence import FEATURES, Confidence
from semindex.search.index import IndexSettings
from semindex.search.keyword import KeywordSettings
from semindex.search.methods import SOURCES, Calibration, Method

LOG = logging.getLogger("semindex.service")
PART = 256  # changes applied at once: a search waits no longer than for so many
LATER = 32  # texts encoded at once for a generation that is being built


@dataclass
class Model:
    """An encoder as the service runs it. path: of the export; fingerprint: of all that decides its vectors."""

    encoder: TextEncoder
    fingerprint: str
    path: str = ""
    sides: dict[str, TextEncoder] = field(init=False)

    def __post_init__(self) -> None:
        self.sides = {side: self.encoder.side(side) for side in ("query", "passage")}


@dataclass
class Shared:
    """What generations have in common. snapshots: their directory; bound: pending questions before a rebuild; keyword:
    settings of keyword search; owner: whether this process writes store and snapshots; index: how snapshots are built
    and searched; threads: of a build, the searches beside it have the others."""

    store: Store
    compute: Compute
    cache: Cache
    snapshots: str
    bound: int = 2000
    keyword: KeywordSettings | None = None
    owner: bool = True
    index: IndexSettings = field(default_factory=IndexSettings)
    threads: int = 1


class Generation:
    """An encoder with its index. calibration: None where nobody made one. later: it is not live yet, its texts wait
    behind those of who asks."""

    def __init__(self, model: Model, shared: Shared, calibration: Calibration | None = None,
                 later: bool = False) -> None:
        self.model, self.shared, self.later = model, shared, later
        self.calibrate(calibration)
        self.index = self._load()
        self.rebuilding = False
        self.rebuilds = 0

    def calibrate(self, calibration: Calibration | None) -> None:
        """Answer as a calibration says."""
        self.calibration = calibration
        self.method, self.temperature = Method(), TEMPERATURE
        self.confidence: Confidence | None = None
        if calibration:
            self.method, self.temperature = calibration.method, calibration.temperature
            if calibration.thresholds is not None:
                self.confidence = Confidence.from_json("calibration", calibration.thresholds,
                                                       len(FEATURES) * len(SOURCES))

    @property
    def directory(self) -> str:
        """Where its snapshots lie."""
        return os.path.join(self.shared.snapshots, f"model-{self.model.fingerprint[:16]}")

    def _load(self) -> lives.Live:
        store = self.shared.store
        empty = lives.Live.empty(self.model.fingerprint, self.model.encoder.dimension, store.identity,
                                 self.shared.keyword)
        return snapshots.load(self.directory, empty, store.last(), LOG.warning, self.shared.owner, self.shared.index)

    async def vectors(self, texts: Sequence[str], side: str) -> np.ndarray:
        """Return the vectors of texts, float32 [texts, dimension]; those asked for lately are not computed again.

        Raises FullError where too many texts wait.
        """
        encoder, cache = self.model.sides[side], self.shared.cache
        keys = [(self.model.fingerprint, side, text) for text in texts]
        found = [cache.get(key) for key in keys]
        lacking = list(dict.fromkeys(text for text, value in zip(texts, found) if value is None))
        if lacking:
            fresh = dict(zip(lacking, await self.shared.compute.encode(lacking, encoder)))
            found = [fresh[text] if value is None else value for text, value in zip(texts, found)]
            for text, value in fresh.items():
                cache.put((self.model.fingerprint, side, text), value.copy())  # a view would keep all of its batch
        return np.stack([value for value in found if value is not None]) if found else \
            np.empty([0, encoder.dimension], np.float32)

    async def catch_up(self, then: Callable[[], None] = lambda: None) -> int:
        """Make searchable what changed in the store since; return how many changes. then: done after each part."""
        changes = await asyncio.to_thread(self.shared.store.since, self.index.number)
        for part in lives.batches(changes, PART):
            vectors = await self._encode([text for change in part if change.entry for text in change.entry.questions])
            work = functools.partial(self.index.apply, part, vectors)
            await (asyncio.to_thread(work) if self.later else self.shared.compute.call(work))
            then()
        return len(changes)

    async def _encode(self, texts: list[str]) -> np.ndarray:
        """Return the vectors of entries' questions, which are on the disk already: no full queue refuses them.

        A text that the encoder fails on gets a vector of zeros: keyword search finds it, and nothing waits for it.
        """
        encoder, size = self.model.sides["passage"], LATER if self.later else PART
        encode = functools.partial(self.shared.compute.encode, encoder=encoder, admitted=True, later=self.later)
        rows = [np.empty([0, encoder.dimension], np.float32)]
        for start in range(0, len(texts), size):
            part = texts[start : start + size]
            try:
                rows.append(await encode(part))
                continue
            except FullError:  # it stops
                raise
            except Exception as error:
                LOG.error("the encoder failed on one of %d questions (%r); they are tried one by one", len(part), error)
            for one in part:
                try:
                    rows.append(await encode([one]))
                except FullError:
                    raise
                except Exception:
                    LOG.error("the encoder fails on a question of %d characters: keywords alone find it", len(one))
                    rows.append(np.zeros([1, encoder.dimension], np.float32))
        return np.concatenate(rows)

    async def rebuild(self) -> None:
        """Write a snapshot beside the searches, and go on with it."""
        if self.rebuilding or not self.shared.owner:
            return
        self.rebuilding = True
        call = asyncio.to_thread if self.later else self.shared.compute.call
        try:
            frozen = await call(lambda: self.index.freeze())
            settings = replace(self.shared.index, threads=self.shared.threads)
            path = await beside(lambda: snapshots.write(frozen, self.directory, self.model.fingerprint, settings))
            snapshot = await beside(lambda: snapshots.open_snapshot(path, self.shared.index))
            await call(lambda: self.index.adopt(snapshot, frozen))
            self.rebuilds += 1
            LOG.info("snapshot %s: %d questions", os.path.basename(path), len(frozen.ids))
        except FullError:  # it stops
            LOG.info("the rebuild is left; the next start does it")
        except Exception:
            LOG.exception("the rebuild failed; the index goes on as it is")
        finally:
            self.rebuilding = False

    async def renew(self) -> bool:
        """Take the snapshot that the writing process made, where it spares encoding; return whether there was one."""
        newest = next(iter(snapshots.names(self.directory)), "")
        if self.index.pending <= self.shared.bound or not newest or int(newest) <= self.index.base:
            return False
        found = await asyncio.to_thread(self._load)
        if found.number <= self.index.base:
            return False
        self.index = found
        return True


async def beside(work: Callable[[], Any]) -> Any:
    """Return what a function gives in a thread of its own, which no stop waits for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def tell(set_it: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            set_it(value)

    def run() -> None:
        try:
            value = work()
        except BaseException as error:
            _send(loop, tell, future.set_exception, error)
        else:
            _send(loop, tell, future.set_result, value)

    threading.Thread(target=run, name="beside", daemon=True).start()
    return await future


def _send(loop: asyncio.AbstractEventLoop, *work: Any) -> None:
    try:
        loop.call_soon_threadsafe(*work)
    except RuntimeError:  # the loop has ended meanwhile
        LOG.info("left behind at the stop")
