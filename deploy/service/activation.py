"""New generations: built behind the requests, compared with the live one, taken live or refused; one step back kept."""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deploy.service import snapshots
from deploy.service.generation import Generation, Model
from deploy.service.serving import Service
from semindex.errors import UserError
from semindex.faq.calibrating import AMONG, calibrate, reciprocal
from semindex.fields import object_of, read_fields, text, whole
from semindex.files import atomic_file
from semindex.measure.significance import difference
from semindex.search.methods import Calibration

LOG = logging.getLogger("semindex.service")
STATE, FORMAT, FEWEST = "generations.json", 1, 20  # fewest: questions with an answer that calibrate() wants
RECORD = {"path": text(), "fingerprint": text(), "calibration": text()}
FIELDS = {"format": whole(1, 2**31), "named": text(), "current": object_of(RECORD),
          "previous": object_of(RECORD).or_none()}


class RefusedError(Exception):
    """What was asked for is not done; the text says why."""


@dataclass(frozen=True)
class Record:
    """A generation as the data directory remembers it. path: of the export; calibration: its file, '' for none."""

    path: str
    fingerprint: str
    calibration: str = ""

    def load(self) -> Calibration | None:
        """Return the calibration."""
        return Calibration.load(self.calibration) if self.calibration else None


@dataclass
class Kept:
    """generations.json. named: fingerprint of the export that the flags name: other flags count more than this file."""

    named: str
    current: Record
    previous: Record | None = None

    @classmethod
    def load(cls, directory: str, named: str) -> "Kept | None":
        """Return what was live, None where the flags name another export than then or nothing was activated."""
        path = os.path.join(directory, STATE)
        if not os.path.isfile(path):
            return None
        found = read_fields(path, FIELDS, newest=FORMAT, advice="remove it to start with --model_dir")
        if found["named"] != named:
            return None
        previous = found["previous"]
        return cls(named, Record(**found["current"]), Record(**previous) if previous else None)

    def save(self, directory: str) -> None:
        """Write the file, whole or not at all."""
        with atomic_file(os.path.join(directory, STATE)) as file:
            json.dump({"format": FORMAT} | asdict(self), file, ensure_ascii=False, indent=1)


class Activation:
    """Builds, compares, exchanges. open_model: from the path of an export to the encoder; models_dir: where exports are
    named from, '' for nowhere; dev: questions, and of each the entry's question, '' for none."""

    def __init__(self, service: Service, kept: Kept, open_model: Callable[[str], Model], models_dir: str = "",
                 dev: tuple[Sequence[str], Sequence[str]] = ((), ()), precision: float = 0.95) -> None:
        self.service, self.kept, self.open_model = service, kept, open_model
        self.models_dir, self.dev, self.precision = models_dir, dev, precision
        self.progress: dict[str, Any] = {"state": "idle"}
        self._busy = False
        self._seen = set[tuple[str, int]]()

    def about(self) -> dict[str, Any]:
        """Return what is live, what was before, and how far a new one is."""
        previous = self.kept.previous
        told = dict(self.progress)
        if told["state"] == "encoding":
            counts = (len(one.index.questions) for one in (told["generation"], self.service.generation))
            told["entries"], told["of"] = counts
        told.pop("generation", None)
        return {"current": _shown(self.kept.current), "previous": _shown(previous) if previous else None, "new": told}

    def _path(self, name: str) -> str:
        path = os.path.join(self.models_dir, name)
        if not self.models_dir or name in ("", ".", "..") or set(name) & set("/\\\0") or not os.path.isdir(path):
            raise RefusedError(f"no export {name!r} beside the live one; name a directory of {self.models_dir}"
                               if self.models_dir else "the service was started without a directory of exports")
        return path

    def activate(self, name: str, force: bool = False) -> None:
        """Begin to build a generation of an export; RefusedError where that cannot be.

        force: take it live even where it is worse, or nothing tells.
        """
        path = self._path(name)
        if not any(self.dev[1]) and not force:
            raise RefusedError("nothing tells whether it is better: start the service with --dev_file, or force it")
        self._begin(self._activate(name, path, force))

    def roll_back(self) -> None:
        """Begin to go back to the generation before; RefusedError where there is none."""
        if not self.kept.previous:
            raise RefusedError("there is no generation before this one")
        self._begin(self._roll_back(self.kept.previous))

    def _begin(self, work: Any) -> None:
        if self._busy:
            work.close()
            raise RefusedError("another generation is being built; see /admin/generations")
        self._busy, self.progress = True, {"state": "opening"}
        self.service.keep(self._guarded(work))

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except (RefusedError, UserError) as error:
            self.progress = {"state": "refused", "reason": str(error)} | self._compared()
        except Exception as error:
            LOG.exception("the new generation failed; the live one stays")
            self.progress = {"state": "failed", "reason": repr(error)}
        finally:
            self._busy = False
        LOG.info("generation: %s %s", self.progress["state"], self.progress.get("reason", ""))

    def _compared(self) -> dict[str, Any]:
        return {"compared": self.progress["compared"]} if "compared" in self.progress else {}

    async def _activate(self, name: str, path: str, force: bool) -> None:
        model = await asyncio.to_thread(self.open_model, path)
        if model.fingerprint == self.service.model.fingerprint:
            raise RefusedError(f"{name}: is live already")
        generation = await self._build(model)
        questions, wanted, left_out = self._questions(generation)
        if any(entry >= 0 for entry in wanted):
            self.progress = {"state": "comparing"}
            vectors = await self._encode(generation, questions)
            calibration = await self._calibrated(generation, questions, vectors, wanted)
            compared = await self._compare(generation, questions, vectors, wanted)
            self.progress["compared"] = compared | {"left out": left_out}
            if compared["gain"] < 0 and not force:
                raise RefusedError(f"{name}: is worse on the dev questions, mrr@{AMONG} {compared['new']['mrr']:.4f} "
                                   f"against {compared['live']['mrr']:.4f}; force it, or train on")
        elif force:
            calibration = ""
        else:
            raise RefusedError("no dev question names a question of the entries; is it the dev file of this FAQ?")
        await self._exchange(generation, Record(path, model.fingerprint, calibration))

    async def _roll_back(self, record: Record) -> None:
        model = await asyncio.to_thread(self.open_model, record.path)
        if model.fingerprint != record.fingerprint:
            raise RefusedError(f"{record.path}: is another export now")
        generation = await self._build(model)
        generation.calibrate(record.load())
        await self._exchange(generation, record)

    async def _build(self, model: Model) -> Generation:
        generation = await asyncio.to_thread(Generation, model, self.service.shared, None, True)
        self.progress = {"state": "encoding", "generation": generation}
        while await generation.catch_up():  # what comes meanwhile too
            pass
        if generation.index.pending > self.service.shared.bound:
            await generation.rebuild()
        return generation

    async def _exchange(self, generation: Generation, record: Record) -> None:
        compared = self._compared()
        after = Kept(self.kept.named, record, self.kept.current)
        await self.service.replace(generation, lambda: after.save(self.service.directory))
        self.kept, self.progress = after, {"state": "live"} | compared
        await asyncio.to_thread(self._tidy)

    def _tidy(self) -> None:
        """Remove the snapshots of generations that are neither live nor one step back."""
        root = self.service.shared.snapshots
        kept = {f"model-{one.fingerprint[:16]}" for one in (self.kept.current, self.kept.previous) if one}
        for name in os.listdir(root) if os.path.isdir(root) else ():
            if name.startswith("model-") and name not in kept:
                snapshots.remove(os.path.join(root, name), self.service.shared.index)

    def _questions(self, generation: Generation) -> tuple[list[str], np.ndarray, int]:
        """Return the dev questions, the entry of each, -1 for none, and how many name a question that nobody has."""
        index = generation.index
        places = {one: int(index.entry_of[id]) for id, one in index.text.items()}
        rows = [(question, places.get(target, -1) if target else -1) for question, target in zip(*self.dev)
                if not target or target in places]
        return ([question for question, _ in rows], np.array([entry for _, entry in rows], np.int64),
                len(self.dev[0]) - len(rows))

    async def _encode(self, generation: Generation, questions: Sequence[str]) -> np.ndarray:
        encode, side = self.service.compute.encode, generation.model.sides["query"]
        rows = [await encode(questions[start : start + 32], side, admitted=True, later=True)
                for start in range(0, len(questions), 32)]
        return np.concatenate(rows)

    async def _calibrated(self, generation: Generation, questions: Sequence[str], vectors: np.ndarray,
                          wanted: np.ndarray) -> str:
        """Calibrate a generation on the dev questions; return the file, '' where they are too few."""
        if (wanted >= 0).sum() < FEWEST:
            return ""
        model = generation.model.fingerprint
        found = await asyncio.to_thread(calibrate, generation.index, model, generation.index.store, questions, vectors,
                                        wanted.tolist(), self.precision, 0.5, 0)
        generation.calibrate(found.calibration)
        path = os.path.join(self.service.directory, "calibrations", f"{model[:16]}.json")
        await asyncio.to_thread(found.calibration.save, path)
        return path

    async def _compare(self, generation: Generation, questions: Sequence[str], vectors: np.ndarray,
                       wanted: np.ndarray) -> dict[str, Any]:
        live, known = self.service.generation, wanted >= 0
        old = await self._encode(live, questions)

        def ranks(one: Generation, rows: np.ndarray) -> np.ndarray:
            found = one.index.search(questions, rows, one.method, AMONG, one.temperature)
            return reciprocal(found.fused.ids, wanted)[known]

        new_ranks = await asyncio.to_thread(ranks, generation, vectors)
        old_ranks = await self.service.compute.call(lambda: ranks(live, old))
        gain = await asyncio.to_thread(difference, new_ranks, old_ranks)
        about = {name: {"mrr": round(float(values.mean()), 4), "answer@1": round(float((values == 1).mean()), 4)}
                 for name, values in (("new", new_ranks), ("live", old_ranks))}
        return about | {"questions": int(known.sum()), "gain": round(gain.mean, 4), "p": round(gain.p, 4)}

    async def watch(self, seconds: float) -> None:
        """Activate, without end, exports that appear in models_dir; those that are there at the start are known."""
        self._seen |= set(self._exports())
        while True:
            await asyncio.sleep(seconds)
            try:
                found = await asyncio.to_thread(self._exports)
            except OSError as error:  # it may come back
                LOG.warning("%s: cannot be looked into (%s)", self.models_dir, error.strerror)
                continue
            for place in found:
                if place not in self._seen and not self._busy:
                    self._seen.add(place)
                    with contextlib.suppress(RefusedError):
                        self.activate(place[0])

    def _exports(self) -> list[tuple[str, int]]:
        """Return the names of exports and when each was written, oldest first; an export appears as a whole."""
        found = []
        for name in os.listdir(self.models_dir):
            with contextlib.suppress(OSError):
                file = os.path.join(self.models_dir, name, "manifest.json")
                found.append((name, os.stat(file).st_mtime_ns))
        return sorted(found, key=lambda place: place[1])

    async def moved(self) -> None:
        """In a process that follows: take live what the writing process took live."""
        kept = await asyncio.to_thread(Kept.load, self.service.directory, self.kept.named)
        if not kept or kept.current == self.kept.current:
            return
        model = await asyncio.to_thread(self.open_model, kept.current.path)
        generation = await asyncio.to_thread(Generation, model, self.service.shared, kept.current.load(), True)
        await self.service.replace(generation, lambda: None)
        self.kept = kept


def _shown(record: Record) -> dict[str, Any]:
    return {"model": os.path.basename(os.path.normpath(record.path)), "fingerprint": record.fingerprint,
            "calibrated": bool(record.calibration)}
