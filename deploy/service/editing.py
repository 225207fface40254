"""Endpoints of entries and feedback."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from pydantic import ValidationError
from starlette.convertors import IntegerConvertor, register_url_convertor

from deploy.service import store as stored
from deploy.service.bodies import LONGEST, NO_NUL, Entries, EntryBody, Feedback
from deploy.service.serving import Service
from deploy.service.store import UnknownError
from semindex.faq.entries import Entry

Change = Callable[[], Any]


class Id(IntegerConvertor):
    """A number that can be an entry's: Python reads none of thousands of digits."""

    regex = "[0-9]{1,18}"


register_url_convertor("entry", Id())


class JsonLines(PlainTextResponse):
    """Objects, one a line."""

    media_type = "application/x-ndjson"


class Table(PlainTextResponse):
    """Lines with tabs."""

    media_type = "text/tab-separated-values"


IMPORT: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {
    "schema": Entries.model_json_schema(ref_template="#/components/schemas/{model}")}}}}
IMPORT["requestBody"]["content"]["application/json"]["schema"].pop("$defs")  # which POST /entries brings in
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
                      like: Annotated[str, Query(max_length=LONGEST, pattern=NO_NUL)] = "") -> dict[str, Any]:
        """Entries by id, behind `after`; like: those whose question or answer holds it."""
        rows = await asyncio.to_thread(service.store.some, after, limit, like)
        count = await asyncio.to_thread(service.store.count)
        return {"entries": [_shown(id, entry) for id, entry in rows], "count": count}

    @app.post("/entries", dependencies=[writer], status_code=201, responses=LATER)
    async def add(body: EntryBody, answer: Response) -> dict[str, Any]:
        """Add an entry; once this answers it is on the disk and, but for 202, can be found."""
        changes, about = await written(answer, lambda: service.store.add([body.entry()]))
        return {"id": changes[0].id} | about

    @app.post("/entries/import", dependencies=[writer], status_code=201, responses=LATER, openapi_extra=IMPORT)
    async def add_all(request: Request, answer: Response) -> dict[str, Any]:
        """Add entries, all or none: an object, or the lines of JSON that /entries/export gives."""
        lines = request.headers.get("content-type", "").lower().startswith(JsonLines.media_type)
        found = await asyncio.to_thread(_entries, await request.body(), lines)  # a large one takes a while to read
        changes, about = await written(answer, lambda: service.store.add(found))
        return {"ids": [change.id for change in changes]} | about

    @app.get("/entries/export", dependencies=[reader], response_class=JsonLines)
    async def export() -> Response:
        """All entries as JSON lines, as build_faq.py reads them."""
        rows = await asyncio.to_thread(lambda: "".join(entry.as_json() for _, entry in service.store.some(limit=2**62)))
        return JsonLines(rows)

    @app.get("/entries/{id:entry}", dependencies=[reader])
    async def entry(id: int) -> dict[str, Any]:
        """One entry."""
        return _shown(id, await asyncio.to_thread(service.store.get, _id(id)))

    @app.put("/entries/{id:entry}", dependencies=[writer], responses=LATER)
    async def change(id: int, body: EntryBody, answer: Response) -> dict[str, Any]:
        """Put an entry in the place of one."""
        _, about = await written(answer, lambda: service.store.change(_id(id), body.entry()))
        return {"id": id} | about

    @app.delete("/entries/{id:entry}", dependencies=[writer], responses=LATER)
    async def remove(id: int, answer: Response) -> dict[str, Any]:
        """Remove an entry."""
        _, about = await written(answer, lambda: service.store.remove(_id(id)))
        return {"id": id} | about

    @app.post("/feedback", dependencies=[reader], status_code=201)
    async def feedback(body: Feedback) -> dict[str, Any]:
        """Keep a thumb."""
        at = time.time()
        number = await service.on_disk(
            lambda: service.store.add_feedback(at, body.query, body.question, body.label), seconds)
        return {"id": number}

    @app.get("/feedback/export", dependencies=[writer], response_class=Table)
    async def thumbs(form: Literal["labelled", "pairs"] = "labelled") -> Response:
        """Thumbs as lines. labelled: text, text, label, as train_labelled.py reads them; pairs: text, positive, of
        thumbs up alone, as train_batch_neg.py does."""
        rows = await asyncio.to_thread(lambda: "".join(_line(form, *row) for row in service.store.feedback()))
        return Table(rows)

    return app


def _entries(raw: bytes, lines: bool) -> list[Entry]:
    """Read what /entries/import takes; RequestValidationError where it is wrong."""
    try:
        content = json.loads(raw) if not lines else {
            "entries": [json.loads(line) for line in raw.decode("utf-8").split("\n") if line.strip()]}
        return [one.entry() for one in Entries.model_validate(content).entries]
    except ValidationError as error:
        raise RequestValidationError(
            [found | {"loc": ("body", *found["loc"])} for found in error.errors(include_url=False)]) from None
    except (ValueError, RecursionError) as error:
        text = str(error).splitlines()[0]
        raise RequestValidationError([{"loc": ("body",), "msg": f"is no JSON ({text})", "type": "json"}]) from None


def _id(number: int) -> int:
    if not 0 < number < 2**62:
        raise UnknownError(number)
    return number


def _shown(id: int, entry: Entry) -> dict[str, Any]:
    return {"id": id, **asdict(entry)}


def _line(form: str, query: str, question: str, label: int) -> str:
    texts = "\t".join(" ".join(text.split()) for text in (query, question))
    return f"{texts}\t{label}\n" if form == "labelled" else f"{texts}\n" if label else ""
