"""The application: who may ask, and the endpoints put together."""

import asyncio
import contextlib
import hmac
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import generate_latest
from starlette.middleware.cors import CORSMiddleware

from deploy.service import admin, editing, problems, searching
from deploy.service.activation import Activation
from deploy.service.forwarding import Writer
from deploy.service.guard import Guard, Limits
from deploy.service.metrics import Metrics
from deploy.service.serving import Service
from semindex.faq.entries import Entry

LOG = logging.getLogger("semindex.service")
HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = {"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; "
                                   "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
        "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


def create(service: Service, first: Sequence[Entry] = (), limits: Limits | None = None, grace: float = 10.0,
           activation: Activation | None = None, watch: float = 0.0, writer: Writer | None = None) -> FastAPI:
    """Return the application.

    first: entries for an empty store; grace: seconds that a stop may take; activation: of new generations, None for
    none; watch: seconds between two looks for new exports, 0 for none; writer: the process that writes, where this one
    does not.
    """
    limits = limits or Limits()

    async def begin() -> None:
        if writer:
            await writer.ready()  # it has put the first entries there
        pause = 1.0
        while not service.ready:
            try:
                await service.start(first)
            except Exception:  # a full disk, a Milvus that is away: /health and the log can be read meanwhile
                LOG.exception("could not start; tried again in %g s", pause)
                await asyncio.sleep(pause)
                pause = min(30.0, 2 * pause)
        if writer and activation:
            await service.follow(activation.moved)
        elif activation and watch:
            await activation.watch(watch)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(begin())
        yield
        task.cancel()
        await asyncio.to_thread(service.stop, grace / 3)  # requests had the rest

    app = FastAPI(title="semindex", version="1", lifespan=lifespan, docs_url="/docs", redoc_url=None,
                  redirect_slashes=False, responses=problems.RESPONSES)
    metrics = Metrics(service)
    problems.install(app, limits.seconds)

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

    # who may write may read; without a read key reading is open, without a write key what protects reading does
    reads = Depends(_key_of([limits.read_key, limits.write_key] if limits.read_key else []))
    writes = Depends(_key_of([limits.write_key or limits.read_key]))

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Answer while the process lives."""
        return {"status": "ok"}

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", responses={503: {"description": "It is starting."}})
    async def ready() -> Response:
        """200 once searches are answered, 503 before."""
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)

    @app.get("/metrics", dependencies=[reads], response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Numbers for Prometheus, of the worker that answers."""
        content = await asyncio.to_thread(generate_latest, metrics.registry)
        return PlainTextResponse(content, media_type="text/plain; version=0.0.4")

    @app.get("/info", dependencies=[reads])
    async def info() -> dict[str, Any]:
        """Encoder, index and method."""
        live, encoder = service.generation, service.model.encoder
        return {"encoder": service.model.fingerprint, "model": os.path.basename(os.path.normpath(service.model.path)),
                "dimension": encoder.dimension, "max_seq_length": encoder.tokenizer.max_seq_length,
                "entries": len(live.index.questions), "questions": len(live.index), "change": live.index.number,
                "pending": live.index.pending, "rebuilding": live.rebuilding, "index": live.index.snapshot.kind,
                "method": live.method.name, "calibrated": live.confidence is not None}

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        """The page for people."""
        return FileResponse(os.path.join(HERE, "page.html"), media_type="text/html; charset=utf-8", headers=PAGE)

    @app.get("/page.js", include_in_schema=False)
    async def code() -> Response:
        """What moves it."""
        return FileResponse(os.path.join(HERE, "page.js"), media_type="text/javascript; charset=utf-8", headers=PAGE)

    app.include_router(searching.routes(service, reads, timely))
    app.include_router(editing.routes(service, reads, writes, limits.seconds))
    if activation:
        app.include_router(admin.routes(activation, writes))
    if writer:
        app.add_middleware(writer.middleware, service=service, seconds=limits.seconds)
    if limits.origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(limits.origins), allow_methods=["*"],
                           allow_headers=["Content-Type", "X-API-Key", "Authorization"])
    app.add_middleware(Guard, limits=limits, ready=lambda: service.ready, metrics=metrics)
    return app


def _key_of(wanted: Sequence[str]) -> Callable[[Request], Any]:
    """Return a dependency that asks for one of some keys; for none where no key is set."""
    keys = [key.encode() for key in wanted if key]

    async def check(request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = request.headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        sent = given.encode("latin-1")  # the bytes that came
        matches = [hmac.compare_digest(sent, key) for key in keys]  # all of them, each in constant time
        if keys and not any(matches):
            raise HTTPException(401, "a key is missing or wrong: send it as X-API-Key or Authorization: Bearer",
                                {"WWW-Authenticate": "Bearer"})

    return check
