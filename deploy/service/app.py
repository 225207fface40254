"""The application: who may ask, how much and how long; what is told of it; the endpoints' errors as JSON."""

import asyncio
import contextlib
import hmac
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException as StarletteHTTPException

from deploy.service import editing, searching
from deploy.service.compute import FullError
from deploy.service.problems import problem
from deploy.service.serving import Service
from deploy.service.store import ConflictError, UnknownError
from semindex.faq.entries import Entry

LOG = logging.getLogger("semindex.service")
HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = {"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; "
                                   "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
        "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")


@dataclass
class Limits:
    """What a request may cost. seconds: until it is answered; body: bytes; keys of readers and writers: '' for none."""

    seconds: float = 10.0
    body: int = 4 << 20
    read_key: str = ""
    write_key: str = ""


class Metrics:
    """What Prometheus reads."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("semindex_requests", "Requests by path, method and status",
                                ["path", "method", "status"], registry=self.registry)
        self.seconds = Histogram("semindex_request_seconds", "Seconds a request", ["path"], registry=self.registry,
                                 buckets=(.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10))
        for name, text, value in (
                ("entries", "Entries", lambda: len(service.index.questions)),
                ("questions", "Questions that can be found", lambda: len(service.index)),
                ("pending", "Questions that a rebuild would take in or clear", lambda: service.index.pending),
                ("rebuilds", "Snapshots written", lambda: service.rebuilds),
                ("waiting_texts", "Texts that wait for their vectors", lambda: service.compute.waiting),
                ("batches", "Batches encoded", lambda: service.compute.numbers.batches),
                ("encoded_texts", "Texts encoded", lambda: service.compute.numbers.texts),
                ("dropped_texts", "Texts whose client had left", lambda: service.compute.numbers.dropped),
                ("cache_hits", "Vectors found in the cache", lambda: service.cache.hits),
                ("cache_misses", "Vectors not in the cache", lambda: service.cache.misses)):
            Gauge(f"semindex_{name}", text, registry=self.registry).set_function(value)


def _tell(done: "asyncio.Task[None]") -> None:
    """Log why the start failed; the process goes on, not ready, so that its log and /health can be read."""
    if not done.cancelled() and done.exception():
        LOG.error("start: %r", done.exception())


def create(service: Service, first: Sequence[Entry] = (), limits: Limits | None = None, grace: float = 10.0) -> FastAPI:
    """Return the application. first: entries for an empty store; grace: seconds that a stop may take."""
    limits = limits or Limits()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(service.start(first))
        task.add_done_callback(_tell)
        yield
        task.cancel()
        await asyncio.to_thread(service.stop, grace)

    app = FastAPI(title="semindex", version="1", lifespan=lifespan, docs_url="/docs", redoc_url=None)
    metrics = Metrics(service)

    async def timely(request: Request, work: Any) -> Any:
        doing, left = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
        try:  # behind the body nothing is received but that the client left
            done, _ = await asyncio.wait({doing, left}, timeout=limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if doing in done:
                return doing.result()
            raise HTTPException(499, "the client left") if left in done else asyncio.TimeoutError
        finally:
            doing.cancel()
            left.cancel()

    def key_of(wanted: Callable[[], list[str]]) -> Any:
        async def check(request: Request) -> None:
            keys = [key for key in wanted() if key]
            given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
            # all of them, each in constant time
            matches = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]
            if keys and not any(matches):
                raise HTTPException(401, "a key is missing or wrong: send it as X-API-Key or Authorization: Bearer",
                                    {"WWW-Authenticate": "Bearer"})

        return Depends(check)

    # who may write may read; without a read key reading is open, without a write key what protects reading does
    reader = key_of(lambda: [limits.read_key, limits.write_key] if limits.read_key else [])
    writer = key_of(lambda: [limits.write_key or limits.read_key])

    @app.middleware("http")
    async def around(request: Request, call: Any) -> Response:
        began = time.perf_counter()
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > limits.body:
            answer: Response = problem(413, f"the body is larger than {limits.body} bytes")
        elif request.method in ("POST", "PUT") and "transfer-encoding" in request.headers:
            answer = problem(411, "send Content-Length")
        elif not service.ready and request.url.path not in ("/health", "/ready", "/metrics", "/info"):
            answer = problem(503, "starting; see /ready", **{"Retry-After": "1"})
        else:
            answer = await call(request)
        route = request.scope.get("route")
        path = getattr(route, "path", "other")
        method = request.method if request.method in METHODS else "other"  # a client makes up as many as it likes
        metrics.requests.labels(path, method, answer.status_code).inc()
        metrics.seconds.labels(path).observe(time.perf_counter() - began)
        return answer

    @app.exception_handler(FullError)
    async def full(_: Request, error: FullError) -> Response:
        wait = str(int(error.seconds + 1))
        return problem(429, "more requests wait than can be answered in time", **{"Retry-After": wait})

    @app.exception_handler(asyncio.TimeoutError)
    async def late(_: Request, __: Exception) -> Response:
        return problem(503, f"not answered within {limits.seconds:g} seconds", **{"Retry-After": "1"})

    @app.exception_handler(ConflictError)
    async def conflict(_: Request, error: ConflictError) -> Response:
        return problem(409, f"the question '{error}' is another entry's, or stands twice")

    @app.exception_handler(UnknownError)
    async def unknown(_: Request, error: UnknownError) -> Response:
        return problem(404, f"no entry {error}")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(422, f"{where}: {first['msg']}")

    @app.exception_handler(StarletteHTTPException)
    async def plain(_: Request, error: StarletteHTTPException) -> Response:
        return problem(error.status_code, str(error.detail), **(error.headers or {}))

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        LOG.exception("a request failed", exc_info=error)
        return problem(500, "something went wrong; the log tells what")

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Answer while the process lives."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> Response:
        """200 once searches are answered, 503 before."""
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)

    @app.get("/metrics", dependencies=[reader])
    async def prometheus() -> Response:
        """Numbers for Prometheus."""
        text = await asyncio.to_thread(generate_latest, metrics.registry)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @app.get("/info", dependencies=[reader])
    async def info() -> dict[str, Any]:
        """Encoder, index and method."""
        return {"encoder": service.fingerprint, "dimension": service.compute.encoder.dimension,
                "max_seq_length": service.compute.encoder.tokenizer.max_seq_length,
                "entries": len(service.index.questions), "questions": len(service.index),
                "change": service.index.number, "pending": service.index.pending,
                "index": service.index.snapshot.kind, "method": service.method.name,
                "calibrated": service.confidence is not None}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        """The page for people."""
        return FileResponse(os.path.join(HERE, "page.html"), media_type="text/html; charset=utf-8", headers=PAGE)

    @app.get("/page.js", include_in_schema=False)
    async def code() -> Response:
        """What moves it."""
        return FileResponse(os.path.join(HERE, "page.js"), media_type="text/javascript; charset=utf-8", headers=PAGE)

    app.include_router(searching.routes(service, reader, timely))
    app.include_router(editing.routes(service, reader, writer))
    return app
