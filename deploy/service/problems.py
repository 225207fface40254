"""Errors as every endpoint gives them: JSON, {"error": ..., "status": ...}."""

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from deploy.service.compute import FullError
from deploy.service.replies import LargeError
from deploy.service.store import ConflictError, UncertainError, UnknownError
from semindex.errors import UserError

LOG = logging.getLogger("semindex.service")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
UNCERTAIN = "it may have been written, or will be: look before you send it again"  # so there is no Retry-After
TOLD = {400: "The body cannot be read.", 401: "A key is missing or wrong.", 404: "There is no such entry.",
        405: "Another method is meant.", 408: "The body did not come in time.",
        409: "It does not fit what is there.", 413: "The body, or the answer, is too large.", 422: "A field is wrong.",
        429: "Too much waits; come again after Retry-After seconds.", 500: "A fault of the service.",
        503: "It is starting, or did not answer in time.", 507: "The disk is full."}


class Problem(BaseModel):
    """An error as every endpoint gives it."""

    error: str
    status: int


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": Problem.model_json_schema()}}}
    for status, text in TOLD.items()}


def problem(status: int, text: str, **headers: str) -> JSONResponse:
    """Return an error as every endpoint gives it."""
    return JSONResponse({"error": text, "status": status}, status, headers=headers)


def place_of(loc: Sequence[Any]) -> str:
    """Return the field that an error is in, without the names that pydantic has for the kinds of a value."""
    return ".".join(str(part) for part in loc if "[" not in str(part) and part != "constrained-str") or "the body"


def broken(error: Exception) -> JSONResponse:
    """Log a fault of the service and return what is answered."""
    LOG.error("a request failed", exc_info=error)
    return problem(500, "something went wrong; the log tells what")


def too_much(seconds: float) -> JSONResponse:
    """Return what is answered to who would wait too long. seconds: when to come again."""
    text = "more requests wait than can be answered in time"
    return problem(429, text, **{"Retry-After": str(min(60, int(seconds + 1)))})


def install(app: FastAPI, seconds: float) -> None:
    """Have the application answer every exception so. seconds: that a request may take."""

    @app.exception_handler(FullError)
    async def full(_: Request, error: FullError) -> JSONResponse:
        return too_much(error.seconds)

    @app.exception_handler(asyncio.TimeoutError)
    async def late(_: Request, __: Exception) -> JSONResponse:
        return problem(503, f"not answered within {seconds:g} seconds", **{"Retry-After": "1"})

    @app.exception_handler(UncertainError)
    async def uncertain(_: Request, __: Exception) -> JSONResponse:
        return problem(503, f"not on the disk within {seconds:g} seconds; {UNCERTAIN}")

    @app.exception_handler(LargeError)
    async def large(_: Request, error: LargeError) -> JSONResponse:
        return problem(413, str(error))

    @app.exception_handler(ConflictError)
    async def conflict(_: Request, error: ConflictError) -> JSONResponse:
        return problem(409, f"the question '{error}' is another entry's, or stands twice")

    @app.exception_handler(UnknownError)
    async def unknown(_: Request, error: UnknownError) -> JSONResponse:
        return problem(404, f"no entry {error}")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return problem(422, f"{place_of(first['loc'])}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:  # of every route of the path, not of the first alone
            scope = {name: request.scope[name] for name in ("type", "path", "headers")} | {"root_path": ""}
            headers["Allow"] = ", ".join(method for method in METHODS if any(
                route.matches(scope | {"method": method})[0] == Match.FULL for route in app.routes))
        return problem(error.status_code, str(error.detail), **headers)

    @app.exception_handler(UserError)
    async def lacking(_: Request, error: UserError) -> JSONResponse:
        LOG.error("%s", error)  # a Milvus that does not answer, say
        return problem(503, "what the search needs is not there now; the log tells what", **{"Retry-After": "1"})

    @app.exception_handler(sqlite3.OperationalError)
    async def disk(_: Request, error: sqlite3.OperationalError) -> JSONResponse:
        LOG.error("the database: %s", error)
        return problem(507 if "full" in str(error) else 503, f"the database: {error}; nothing was changed")

