"""The service without HTTP: questions to answers, entries that come and go, rebuilds beside them."""

import asyncio
import functools
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from deploy.service import live as lives
from deploy.service.cache import Cache
from deploy.service.compute import Compute
from deploy.service.store import Change, Store, UnknownError
from semindex.encode.text_encoder import TextEncoder
from semindex.faq.answering import SUGGESTIONS, TEMPERATURE
from semindex.faq.confidence import FEATURES, Confidence, features
from semindex.faq.entries import Entry
from semindex.search.keyword import KeywordSettings
from semindex.search.methods import SOURCES, Calibration, Method

LOG = logging.getLogger("semindex.service")
PART = 256  # changes applied at once: a search waits no longer than for so many


class Service:
    """Everything behind the endpoints. fingerprint: of the encoder; bound: pending questions before a rebuild."""

    def __init__(self, directory: str, encoder: TextEncoder, fingerprint: str, calibration: Calibration | None = None,
                 bound: int = 2000, cache: Cache | None = None, most: int = 4096, seconds: float = 10.0,
                 keyword: KeywordSettings | None = None) -> None:
        self.directory, self.fingerprint, self.bound = directory, fingerprint, bound
        self.store = Store(os.path.join(directory, "entries.sqlite"))
        self.compute = Compute(encoder, most, seconds)
        self.cache = cache or Cache(10_000, 3600)
        self.method, self.temperature = Method(), TEMPERATURE
        self.confidence: Confidence | None = None
        if calibration:
            self.method, self.temperature = calibration.method, calibration.temperature
            if calibration.thresholds is not None:
                self.confidence = Confidence.from_json("calibration", calibration.thresholds,
                                                       len(FEATURES) * len(SOURCES))
        empty = lives.Live.empty(fingerprint, encoder.dimension, self.store.identity, keyword)
        self.index = lives.load(self._snapshots, empty, self.store.last(), LOG.warning)
        self.ready = self.rebuilding = False
        self.rebuilds = 0
        self._applying = asyncio.Lock()
        self._tasks = set[asyncio.Task[Any]]()

    @property
    def _snapshots(self) -> str:
        return os.path.join(self.directory, "snapshots")

    async def start(self, first: Sequence[Entry] = ()) -> None:
        """Take in what the index lacks; an empty store first gets the entries of a FAQ."""
        if first and not self.store.last():
            await asyncio.to_thread(self.store.add, first)
        await self._apply(await asyncio.to_thread(self.store.since, self.index.number))
        if self.index.pending > self.bound:
            await self.rebuild()
        await self.vectors(["预热"], "query")
        self.ready = True

    async def vectors(self, texts: Sequence[str], side: str, cached: bool = True) -> np.ndarray:
        """Return the vectors of texts, float32 [texts, dimension]; those asked for lately are not computed again.

        cached: False for texts of entries, which are on the disk already: no full queue refuses them.
        """
        keys = [(self.fingerprint, side, text) for text in texts]
        found = [self.cache.get(key) if cached else None for key in keys]
        lacking = list(dict.fromkeys(text for text, value in zip(texts, found) if value is None))
        if lacking:
            fresh = dict(zip(lacking, await self.compute.encode(lacking, side, not cached)))
            found = [fresh[text] if value is None else value for text, value in zip(texts, found)]
            if cached:
                for text, value in fresh.items():
                    self.cache.put((self.fingerprint, side, text), value.copy())  # a view would keep all of its batch
        return np.stack([value for value in found if value is not None]) if found else \
            np.empty([0, self.compute.encoder.dimension], np.float32)

    async def _apply(self, changes: Sequence[Change]) -> None:
        """Make changes searchable, in order."""
        for part in lives.batches(changes, PART):
            texts = [text for change in part if change.entry for text in change.entry.questions]
            vectors = await self.vectors(texts, "passage", cached=False)
            await self.compute.call(functools.partial(self.index.apply, part, vectors))

    async def write(self, change: Any) -> tuple[list[Change], float]:
        """Do one write of the store, then make it searchable; return the changes and the milliseconds that took.

        change: a function that writes and returns Change or a list of it. The write is on the disk before anything
        else; if the index cannot take it now, it will at the next write or start. FullError, and nothing is written,
        where too much waits. Who leaves meanwhile stops nothing.
        """
        self.compute.admit(1)
        return await asyncio.shield(self._keep(self._write(change)))

    def _keep(self, work: Any) -> "asyncio.Task[Any]":
        """Run beside what runs; the event loop itself keeps no task from the garbage collector."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _write(self, change: Any) -> tuple[list[Change], float]:
        found = await asyncio.to_thread(change)
        began = time.perf_counter()
        changes = [found] if isinstance(found, Change) else found
        async with self._applying:
            await self._apply(await asyncio.to_thread(self.store.since, self.index.number))
        if self.index.pending > self.bound and not self.rebuilding:
            self._keep(self.rebuild())
        return changes, 1000 * (time.perf_counter() - began)

    async def rebuild(self) -> None:
        """Write a snapshot beside the searches, and go on with it."""
        if self.rebuilding:
            return
        self.rebuilding = True
        try:
            frozen = await self.compute.call(lambda: self.index.freeze())
            path = await asyncio.to_thread(lives.rebuild, frozen, self._snapshots, self.fingerprint)
            snapshot = await asyncio.to_thread(lives.open_snapshot, path)
            await self.compute.call(lambda: self.index.adopt(snapshot, frozen))
            self.rebuilds += 1
            LOG.info("snapshot %s: %d questions", os.path.basename(path), len(frozen.ids))
        except Exception:
            LOG.exception("the rebuild failed; the index goes on as it is")
        finally:
            self.rebuilding = False

    async def search(self, queries: Sequence[str], k: int = SUGGESTIONS, method: str | None = None) -> dict[str, Any]:
        """Return replies to queries, and what each stage took in milliseconds. method: None for the calibrated one."""
        chosen = self.method if method in (None, self.method.name) else Method(method or "dense")
        began = time.perf_counter()
        vectors = await self.vectors(queries, "query") if chosen.name != "keyword" or self.confidence else None
        encoded = time.perf_counter()
        found = await self.compute.call(lambda: self._find(list(queries), vectors, chosen, k))
        searched = time.perf_counter()
        replies = await asyncio.to_thread(
            lambda: [self._reply(query, row, *found) for row, query in enumerate(queries)])
        done = time.perf_counter()
        times = {"encode": encoded - began, "search": searched - encoded, "answer": done - searched}
        return {"replies": replies, "method": chosen.name,
                "milliseconds": {name: round(1000 * value, 3) for name, value in times.items()}}

    def _find(self, queries: list[str], vectors: np.ndarray | None, method: Method, k: int) -> tuple[Any, ...]:
        """Search, in the compute thread; texts of hits are looked up while they are surely there."""
        fused, sources, exact = self.index.search(queries, vectors, method, k, self.temperature)
        sure = np.full(len(queries), np.nan)
        if self.confidence and vectors is not None and fused.ids.shape[1]:
            sure = self.confidence(features(fused, sources))
        texts = {}
        for row, entries in enumerate(fused.ids.tolist()):
            for place, entry in enumerate(entries):
                if entry >= 0:
                    texts[row, place] = self.index.text[self._question(fused, sources, exact, row, place)]
        return fused, list(sources), exact, sure, texts

    @staticmethod
    def _question(fused: Any, sources: dict[str, Any], exact: list[int], row: int, place: int) -> int:
        if place == 0 and exact[row] >= 0:
            return exact[row]
        ranks = fused.ranks[row, place].tolist()
        return next(int(ranking.questions[row, rank - 1]) for rank, ranking in zip(ranks, sources.values()) if rank)

    def _reply(self, query: str, row: int, fused: Any, names: list[str], exact: list[int], sure: np.ndarray,
               texts: dict[tuple[int, int], str]) -> dict[str, Any]:
        hits, first = [], True
        for place, id in enumerate(fused.ids[row].tolist()):
            if id < 0:
                continue
            try:
                entry = self.store.get(id)
            except UnknownError:  # removed since the search
                first = first and place > 0
                continue
            ranks, scores = fused.ranks[row, place].tolist(), fused.parts[row, place].tolist()
            about = {name: {"rank": rank, "score": round(score, 6)}
                     for name, rank, score in zip(names, ranks, scores) if rank}
            score = round(float(fused.scores[row, place]), 6)
            hits.append({"id": id, "question": entry.question, "matched": texts[row, place], "answer": entry.answer,
                         "category": entry.category, "score": score, "sources": about})
        state = "none" if not hits else "answer" if exact[row] >= 0 and self.confidence else "suggest"
        if hits and self.confidence and state != "answer":
            state = self.confidence.states(sure[row : row + 1])[0]
        if state == "answer" and not first:  # what it would be the answer of is gone
            state = "suggest"
        confidence = None if np.isnan(sure[row]) or not first else round(float(sure[row]), 6)
        return {"query": query, "state": state, "confidence": confidence, "hits": hits}

    def stop(self, seconds: float) -> None:
        """Finish what waits, within so many seconds, and close the store."""
        self.ready = False
        self.compute.stop(seconds)
        self.store.close()
