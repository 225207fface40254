"""Errors as every endpoint gives them: JSON, {"error": ..., "status": ...}."""

import asyncio
import logging
import sqlite3

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from deploy.service.compute import FullError
from deploy.service.store import ConflictError, UnknownError
from semindex.errors import UserError

LOG = logging.getLogger("semindex.service")


def problem(status: int, text: str, **headers: str) -> JSONResponse:
    """Return an error as every endpoint gives it."""
    return JSONResponse({"error": text, "status": status}, status, headers=headers)


def install(app: FastAPI, seconds: float) -> None:
    """Have the application answer every exception so. seconds: that a request may take."""

    @app.exception_handler(FullError)
    async def full(_: Request, error: FullError) -> JSONResponse:
        wait = str(int(error.seconds + 1))
        return problem(429, "more requests wait than can be answered in time", **{"Retry-After": wait})

    @app.exception_handler(asyncio.TimeoutError)
    async def late(_: Request, __: Exception) -> JSONResponse:
        return problem(503, f"not answered within {seconds:g} seconds", **{"Retry-After": "1"})

    @app.exception_handler(ConflictError)
    async def conflict(_: Request, error: ConflictError) -> JSONResponse:
        return problem(409, f"the question '{error}' is another entry's, or stands twice")

    @app.exception_handler(UnknownError)
    async def unknown(_: Request, error: UnknownError) -> JSONResponse:
        return problem(404, f"no entry {error}")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(422, f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), **(error.headers or {}))

    @app.exception_handler(UserError)
    async def lacking(_: Request, error: UserError) -> JSONResponse:
        LOG.error("%s", error)  # a Milvus that does not answer, say
        return problem(503, "what the search needs is not there now; the log tells what", **{"Retry-After": "1"})

    @app.exception_handler(sqlite3.OperationalError)
    async def disk(_: Request, error: sqlite3.OperationalError) -> JSONResponse:
        LOG.error("the database: %s", error)
        return problem(507 if "full" in str(error) else 503, f"the database: {error}; nothing was changed")

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        LOG.exception("a request failed", exc_info=error)
        return problem(500, "something went wrong; the log tells what")
