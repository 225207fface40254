"""Of several processes that serve one directory one writes; the others send it what changes something."""

import asyncio
import json
from typing import Any

import httpx
from starlette.exceptions import HTTPException

from deploy.service.guard import Receive, Scope, Send
from deploy.service.problems import UNCERTAIN, problem
from deploy.service.serving import Service

WRITES = ("POST", "PUT", "DELETE")
PLACES = ("/entries", "/feedback", "/admin")
DROPPED = ("connection", "transfer-encoding", "content-length", "content-encoding", "date", "server")


class Writer:
    """The process that writes, at its own port of this machine."""

    def __init__(self, port: int) -> None:
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=None)

    async def ready(self) -> None:
        """Wait until it is."""
        while True:
            try:
                if (await self.client.get("/ready", timeout=2)).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)

    def middleware(self, app: Any, service: Service, seconds: float) -> "_Forwarding":
        """Return what sends writes on and lets the rest pass."""
        return _Forwarding(app, self.client, service, seconds)


class _Forwarding:
    def __init__(self, app: Any, client: httpx.AsyncClient, service: Service, seconds: float) -> None:
        self.app, self.client, self.service, self.seconds = app, client, service, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a write on; once it is answered it can be found here too."""
        path = scope.get("path", "")
        ours = path.startswith("/admin/") or scope.get("method") in WRITES and path.startswith(PLACES)
        if scope["type"] != "http" or not ours:
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        try:
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
                if message["type"] == "http.disconnect":
                    return
        except HTTPException as error:  # too large, or too slow
            await problem(error.status_code, error.detail, **dict(error.headers or {}))(scope, receive, send)
            return
        # Host and Origin were looked at here; to the process that writes this one is who asks.
        left_out = (*DROPPED, "host", "origin")
        headers = [(name, value) for name, value in scope["headers"] if name.decode().lower() not in left_out]
        # As it came: a path that is decoded and written anew may name another entry.
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        try:
            answer = await self.client.request(scope["method"], "/", content=body, headers=headers,
                                               timeout=2 * self.seconds, extensions={"target": target})
        except httpx.HTTPError as error:
            lost = problem(503, f"the process that writes does not answer ({type(error).__name__}); {UNCERTAIN}")
            await lost(scope, receive, send)
            return
        await self._reached(answer)
        kept = [(name, value) for name, value in answer.headers.raw if name.decode().lower() not in DROPPED]
        kept.append((b"content-length", str(len(answer.content)).encode()))
        await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
        await send({"type": "http.response.body", "body": answer.content})

    async def _reached(self, answer: httpx.Response) -> None:
        """Wait until the index here has the change that was answered, but not for ever."""
        try:
            number = json.loads(answer.content).get("change", 0) if answer.is_success else 0
            await asyncio.wait_for(self.service.reached(number), self.seconds)
        except (ValueError, AttributeError, asyncio.TimeoutError):
            pass
