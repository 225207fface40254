"""Endpoints of entries and feedback."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response

from deploy.service import store as stored
from deploy.service.bodies import LONGEST, Entries, EntryBody, Feedback
from deploy.service.serving import Service
from deploy.service.store import UnknownError
from semindex.faq.entries import Entry

Change = Callable[[], Any]


class JsonLines(PlainTextResponse):
    """Objects, one a line."""

    media_type = "application/x-ndjson"


class Table(PlainTextResponse):
    """Lines with tabs."""

    media_type = "text/tab-separated-values"


LATER: dict[int | str, dict[str, Any]] = {
    202: {"description": "It is on the disk, and will be searchable once the index has taken it in."}}


def routes(service: Service, reader: Any, writer: Any, seconds: float) -> APIRouter:
    """Return the endpoints. reader, writer: the dependencies that ask for a key; seconds: to wait for the index."""
    app = APIRouter()

    async def written(answer: Response, change: Change) -> tuple[list[stored.Change], dict[str, Any]]:
        """Write, and return what every answer to a write says: when it can be found, and which change it is."""
        changes, taken = await service.write(change, seconds)
        if taken is None:
            answer.status_code = 202
        about = {"searchable_after_ms": None if taken is None else round(taken, 3),
                 "change": max((change.number for change in changes), default=0)}
        return changes, about

    @app.get("/entries", dependencies=[reader])
    async def entries(after: Annotated[int, Query(ge=0, le=2**62)] = 0,
                      limit: Annotated[int, Query(ge=1, le=1000)] = 100,
                      like: Annotated[str, Query(max_length=LONGEST)] = "") -> dict[str, Any]:
        """Entries by id, behind `after`; like: those whose question or answer holds it."""
        rows = await asyncio.to_thread(service.store.some, after, limit, like)
        count = await asyncio.to_thread(service.store.count)
        return {"entries": [_shown(id, entry) for id, entry in rows], "count": count}

    @app.post("/entries", dependencies=[writer], status_code=201, responses=LATER)
    async def add(body: EntryBody, answer: Response) -> dict[str, Any]:
        """Add an entry; once this answers it is on the disk and, but for 202, can be found."""
        changes, about = await written(answer, lambda: service.store.add([body.entry()]))
        return {"id": changes[0].id} | about

    @app.post("/entries/import", dependencies=[writer], status_code=201, responses=LATER)
    async def add_all(body: Entries, answer: Response) -> dict[str, Any]:
        """Add entries, all or none."""
        changes, about = await written(answer, lambda: service.store.add([one.entry() for one in body.entries]))
        return {"ids": [change.id for change in changes]} | about

    @app.get("/entries/export", dependencies=[reader], response_class=JsonLines)
    async def export() -> Response:
        """All entries as JSON lines, as build_faq.py reads them."""
        rows = await asyncio.to_thread(lambda: "".join(entry.as_json() for _, entry in service.store.some(limit=2**62)))
        return JsonLines(rows)

    @app.get("/entries/{id:int}", dependencies=[reader])
    async def entry(id: int) -> dict[str, Any]:
        """One entry."""
        return _shown(id, await asyncio.to_thread(service.store.get, _id(id)))

    @app.put("/entries/{id:int}", dependencies=[writer], responses=LATER)
    async def change(id: int, body: EntryBody, answer: Response) -> dict[str, Any]:
        """Put an entry in the place of one."""
        _, about = await written(answer, lambda: service.store.change(_id(id), body.entry()))
        return {"id": id} | about

    @app.delete("/entries/{id:int}", dependencies=[writer], responses=LATER)
    async def remove(id: int, answer: Response) -> dict[str, Any]:
        """Remove an entry."""
        _, about = await written(answer, lambda: service.store.remove(_id(id)))
        return {"id": id} | about

    @app.post("/feedback", dependencies=[reader], status_code=201)
    async def feedback(body: Feedback) -> dict[str, Any]:
        """Keep a thumb."""
        number = await asyncio.to_thread(service.store.add_feedback, time.time(), body.query, body.question, body.label)
        return {"id": number}

    @app.get("/feedback/export", dependencies=[writer], response_class=Table)
    async def thumbs(form: Literal["labelled", "pairs"] = "labelled") -> Response:
        """Thumbs as lines. labelled: text, text, label, as train_labelled.py reads them; pairs: text, positive, of
        thumbs up alone, as train_batch_neg.py does."""
        rows = await asyncio.to_thread(lambda: "".join(_line(form, *row) for row in service.store.feedback()))
        return Table(rows)

    return app


def _id(number: int) -> int:
    if not 0 < number < 2**62:
        raise UnknownError(number)
    return number


def _shown(id: int, entry: Entry) -> dict[str, Any]:
    return {"id": id, **asdict(entry)}


def _line(form: str, query: str, question: str, label: int) -> str:
    texts = "\t".join(" ".join(text.split()) for text in (query, question))
    return f"{texts}\t{label}\n" if form == "labelled" else f"{texts}\n" if label else ""
