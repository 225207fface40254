"""What stands before the application: sizes, times, who is refused while it starts, counts and log lines. Pure ASGI."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from deploy.service.admission import Admission
from deploy.service.metrics import Metrics
from deploy.service.problems import broken, problem, too_much

LOG = logging.getLogger("semindex.service")
ALWAYS = ("/health", "/ready", "/metrics", "/info")
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
SLOW = 0.5  # seconds after which a body that is not there yet takes nobody's place
LARGE = 1 << 16  # bytes of an answer that a client must read in time; less lies in the kernel's buffers
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass
class Limits:
    """What a request may cost. seconds: until it is answered; body: bytes; keys of readers and writers: '' for none;
    origins: pages of other hosts that may ask; hosts: names that this service is asked by, none for any."""

    seconds: float = 10.0
    body: int = 4 << 20
    read_key: str = ""
    write_key: str = ""
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


class Guard:
    """Wraps the application. ready: whether searches are answered yet."""

    def __init__(self, app: Any, limits: Limits, ready: Callable[[], bool], metrics: Metrics) -> None:
        self.app, self.limits, self.ready, self.metrics = app, limits, ready, metrics
        self.admission = Admission(limits.seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        asyncio.get_running_loop().call_soon(self._turned, began)

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            if len(message.get("body", b"")) < LARGE:
                await send(message)
            else:  # who does not read holds nobody up
                await asyncio.wait_for(send(message), self.limits.seconds)

        try:
            refused = self._refused(scope)
            if refused:
                await _drain(receive)
                await refused(scope, receive, sending)
            else:
                with _Place(self.admission, _brings(scope)) as place:
                    await self.app(scope, self._receiving(receive, began, place.take), sending)
        except asyncio.TimeoutError:
            LOG.warning("a client did not read its answer in time")
        except Exception as error:
            answer = broken(error)
            if not status:  # nothing was answered yet
                await answer(scope, receive, sending)
        finally:
            self._told(scope, status, time.perf_counter() - began)

    def _turned(self, began: float) -> None:
        self.admission.turned(time.perf_counter() - began)

    def _refused(self, scope: Scope) -> Any:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.limits.body:
            return problem(413, f"the body is larger than {self.limits.body} bytes", Connection="close")
        if foreign := _foreign(scope, self.limits):
            return problem(403, foreign)
        if not self.ready() and scope["path"] not in ALWAYS:
            return problem(503, "starting; see /ready", **{"Retry-After": "1"})
        if scope["path"] not in ALWAYS and (wait := self.admission.refuses()):
            return too_much(wait)
        return None

    def _receiving(self, receive: Receive, began: float, enter: Callable[[], None]) -> Receive:
        """Return what reads a body, no longer and no larger than the limits. enter: called once it is there."""
        size, whole = 0, False

        async def receiving() -> Message:
            nonlocal size, whole
            if whole:  # what comes now is that the client left
                return await receive()
            try:
                left = self.limits.seconds - (time.perf_counter() - began)
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except asyncio.TimeoutError:
                raise HTTPException(408, "the body did not come in time", {"Connection": "close"}) from None
            size += len(message.get("body", b""))
            if size > self.limits.body:  # of one that did not say how long it is
                raise HTTPException(413, f"the body is larger than {self.limits.body} bytes", {"Connection": "close"})
            whole = not message.get("more_body", False)
            if whole:
                enter()
            return message

        return receiving

    def _told(self, scope: Scope, status: int, seconds: float) -> None:
        path = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"  # a client makes up as many as it likes
        self.metrics.requests.labels(path, method, status).inc()
        self.metrics.seconds.labels(path).observe(seconds)
        if LOG.isEnabledFor(logging.INFO) and path not in ALWAYS:
            LOG.info("request", extra={"fields": {"method": method, "path": path, "status": status,
                                                  "milliseconds": round(1000 * seconds, 3)}})


def _foreign(scope: Scope, limits: Limits) -> str:
    """Return why a request is another site's, '' for none. Without keys any page that a browser of this machine shows
    could write: from its own address (Origin), or from a name that it has made point here (Host)."""
    if limits.read_key or limits.write_key:
        return ""
    headers = dict(scope["headers"])
    host = _name(headers.get(b"host", b"").decode("latin-1"))
    if limits.hosts and host and host not in limits.hosts:
        return f"asked by the name {host!r}; --allowed_hosts says by which others than {', '.join(limits.hosts)}"
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and not {origin, "*"} & set(limits.origins) and _name(origin.partition("://")[2]) != host:
        return f"asked by a page of {origin}; --cors_origins says which may"
    return ""


def _name(host: str) -> str:
    """Return a host without its port, in small letters."""
    name, port = (host.rsplit(":", 1) + [""])[:2]
    return (name if port.isdigit() else host).strip("[]").lower()


def _brings(scope: Scope) -> bool:
    """Return whether a request says that it has a body."""
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or int(headers.get(b"content-length", b"0")) > 0


class _Place:
    """A place inside, taken before the next request is looked at, left for as long as a slow body is waited for."""

    _slow: asyncio.TimerHandle | None = None

    def __init__(self, admission: Admission, body: bool) -> None:
        self.admission, self.body, self.taken = admission, body, False

    def __enter__(self) -> "_Place":
        self.take()
        if self.body:
            self._slow = asyncio.get_running_loop().call_later(SLOW, self._leave)
        return self

    def take(self) -> None:
        """Count one in, if he is not."""
        self._settle()
        if not self.taken:
            self.taken = True
            self.admission.enter()

    def _leave(self) -> None:
        self.taken = False
        self.admission.leave(answered=False)

    def _settle(self) -> None:
        if self._slow:
            self._slow.cancel()

    def __exit__(self, *_: object) -> None:
        self._settle()
        if self.taken:
            self.admission.leave()


async def _drain(receive: Receive) -> None:
    """Read what a refused client still sends, for a moment: it would see its connection closed, and not the answer."""
    async def read() -> None:
        while (await receive()).get("more_body", False):
            pass

    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(read(), 1.0)


def hasty(protocol: Any, seconds: float) -> Any:
    """Return a protocol of uvicorn's that closes a connection whose head does not come in time, or is no HTTP."""

    class Hasty(protocol):  # type: ignore[misc]
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            """Begin to count."""
            super().connection_made(transport)
            self._count()

        def data_received(self, data: bytes) -> None:
            """Begin to count with a head's first part, end with its last."""
            super().data_received(data)
            self._count()

        def send_400_response(self, msg: str) -> None:
            """Answer what is no HTTP, as the application answers its errors."""
            body = problem(400, msg).body
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
                                 b"content-length: %d\r\n\r\n" % len(body) + body)
            self.transport.close()

        def _count(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                if self._late:
                    self._late.cancel()
                self._late = None
            elif not self._late:
                self._late = self.loop.call_later(seconds, self._close)

        def _close(self) -> None:
            self._late = None
            if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
                self.transport.close()

        def connection_lost(self, error: Exception | None) -> None:
            """Stop counting."""
            if self._late:
                self._late.cancel()
            super().connection_lost(error)

    return Hasty
