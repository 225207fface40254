"""Endpoints of entries and feedback."""

import asyncio
import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response

from deploy.service.bodies import LONGEST, Entries, EntryBody, Feedback
from deploy.service.serving import Service
from deploy.service.store import UnknownError
from semindex.faq.entries import Entry


def routes(service: Service, reader: Any, writer: Any) -> APIRouter:
    """Return the endpoints. reader, writer: the dependencies that ask for a key."""
    app = APIRouter()

    @app.get("/entries", dependencies=[reader])
    async def entries(after: Annotated[int, Query(ge=0, le=2**62)] = 0,
                      limit: Annotated[int, Query(ge=1, le=1000)] = 100,
                      like: Annotated[str, Query(max_length=LONGEST)] = "") -> dict[str, Any]:
        """Entries by id, behind `after`; like: those whose question or answer holds it."""
        rows = await asyncio.to_thread(service.store.some, after, limit, like)
        count = await asyncio.to_thread(service.store.count)
        return {"entries": [_shown(id, entry) for id, entry in rows], "count": count}

    @app.post("/entries", dependencies=[writer], status_code=201)
    async def add(body: EntryBody) -> dict[str, Any]:
        """Add an entry; once this answers it is on the disk and can be found."""
        changes, taken = await service.write(lambda: service.store.add([body.entry()]))
        return {"id": changes[0].id, "searchable_after_ms": round(taken, 3)}

    @app.post("/entries/import", dependencies=[writer], status_code=201)
    async def add_all(body: Entries) -> dict[str, Any]:
        """Add entries, all or none."""
        changes, taken = await service.write(lambda: service.store.add([one.entry() for one in body.entries]))
        return {"ids": [change.id for change in changes], "searchable_after_ms": round(taken, 3)}

    @app.get("/entries/export", dependencies=[reader])
    async def export() -> Response:
        """All entries as JSON lines, as build_faq.py reads them."""
        rows = await asyncio.to_thread(lambda: "".join(entry.as_json() for _, entry in service.store.some(limit=2**62)))
        return PlainTextResponse(rows, media_type="application/x-ndjson")

    @app.get("/entries/{id}", dependencies=[reader])
    async def entry(id: int) -> dict[str, Any]:
        """One entry."""
        return _shown(id, await asyncio.to_thread(service.store.get, _id(id)))

    @app.put("/entries/{id}", dependencies=[writer])
    async def change(id: int, body: EntryBody) -> dict[str, Any]:
        """Put an entry in the place of one."""
        _, taken = await service.write(lambda: service.store.change(_id(id), body.entry()))
        return {"id": id, "searchable_after_ms": round(taken, 3)}

    @app.delete("/entries/{id}", dependencies=[writer])
    async def remove(id: int) -> dict[str, Any]:
        """Remove an entry."""
        _, taken = await service.write(lambda: service.store.remove(_id(id)))
        return {"id": id, "searchable_after_ms": round(taken, 3)}

    @app.post("/feedback", dependencies=[reader], status_code=201)
    async def feedback(body: Feedback) -> dict[str, Any]:
        """Keep a thumb."""
        number = await asyncio.to_thread(service.store.add_feedback, time.time(), body.query, body.question, body.label)
        return {"id": number}

    @app.get("/feedback/export", dependencies=[writer])
    async def thumbs() -> Response:
        """Lines of text, text, label, as train_labelled.py reads them."""
        rows = await asyncio.to_thread(lambda: "".join(f"{' '.join(a.split())}\t{' '.join(b.split())}\t{c}\n"
                                                       for a, b, c in service.store.feedback()))
        return PlainTextResponse(rows, media_type="text/tab-separated-values; charset=utf-8")

    return app


def _id(number: int) -> int:
    if not 0 < number < 2**62:
        raise UnknownError(number)
    return number


def _shown(id: int, entry: Entry) -> dict[str, Any]:
    return {"id": id, **asdict(entry)}
