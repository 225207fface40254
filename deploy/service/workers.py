"""Several processes behind one port, started again when they die.

The parent holds the sockets and computes nothing: what connects while a worker is being started again waits for it.
Worker 0 writes. Each worker has a port of its own too, on this machine alone, for Prometheus and for what the others
send to worker 0.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from semindex.errors import UserError

VARIABLE = "SEMINDEX_AS_WORKER"  # of a child: its number, two descriptors, the port of worker 0
PAUSE, LONGEST, STEADY = 0.2, 10.0, 30.0  # seconds before a restart, doubled up to; after so many it counts as healthy
WRONG = 2  # the status of flags or files that are wrong: a restart changes nothing
MOST = 5  # starts in a row that end by themselves with another status


@dataclass
class Worker:
    """What a child is told. public, own: descriptors of listening sockets; writer: the port of worker 0."""

    number: int
    public: int
    own: int
    writer: int

    @classmethod
    def from_environment(cls) -> "Worker | None":
        """Return what this process was told, None where it is no child."""
        given = os.environ.get(VARIABLE)
        return cls(*map(int, given.split())) if given else None

    def sockets(self) -> list[socket.socket]:
        """Return the sockets to listen on."""
        return [socket.socket(fileno=descriptor) for descriptor in (self.public, self.own)]


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that is bound."""
    # The protocol is named: asyncio turns off Nagle's algorithm where it is, which else costs 40 ms a request.
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:  # a name that is none among them
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error.strerror}); name another, or stop "
                        "what does") from None
    return found


def address(listener: socket.socket, host: str) -> str:
    """Return what a browser is told."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _end_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Supervisor:
    """Starts workers, and starts again those that end. script: what a worker runs, with the flags of this process."""

    def __init__(self, script: str, count: int, public: socket.socket, grace: float) -> None:
        self.script, self.public, self.grace = script, public, grace
        public.listen(2048)
        self.own = [listening("127.0.0.1", 0) for _ in range(count)]
        for one in self.own:
            one.listen(2048)
        self.children: list[subprocess.Popen[Any] | None] = [None] * count
        self.began, self.pause, self.due, self.failed = [0.0] * count, [0.0] * count, [0.0] * count, [0] * count
        self.stopped = 0

    def _start(self, number: int) -> None:
        descriptors = self.public.fileno(), self.own[number].fileno()
        told = f"{number} {descriptors[0]} {descriptors[1]} {self.own[0].getsockname()[1]}"
        self.began[number] = time.monotonic()
        self.children[number] = subprocess.Popen(
            [sys.executable, self.script, *sys.argv[1:]], pass_fds=descriptors, env=os.environ | {VARIABLE: told},
            stdout=subprocess.DEVNULL, preexec_fn=_end_with_parent)

    def run(self) -> int:
        """Serve until told to stop; return the status to end with."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        for number, one in enumerate(self.own):
            print(f"worker {number}: {address(one, '127.0.0.1')}", file=sys.stderr)
        while not self.stopped:
            for number, child in enumerate(self.children):
                if child is None and time.monotonic() >= self.due[number]:
                    self._start(number)
                elif child is not None and (status := child.poll()) is not None:
                    self._lost(number, status)
                    if self.failed[number] == MOST or status == WRONG and self.failed[number]:
                        self._end()
                        return status
            time.sleep(0.05)
        return self._end()

    def _lost(self, number: int, status: int) -> None:
        now = time.monotonic()
        steady = now - self.began[number] > STEADY
        self.pause[number] = 0.0 if steady else min(LONGEST, max(PAUSE, 2 * self.pause[number]))
        self.failed[number] = self.failed[number] + 1 if status > 0 and not steady else 0  # below 0: it was killed
        self.children[number], self.due[number] = None, now + self.pause[number]
        print(f"worker {number} ended with {status}; the next start in {self.pause[number]:g} s", file=sys.stderr)

    def _stop(self, number: int, _: object) -> None:
        self.stopped = self.stopped or number

    def _end(self) -> int:
        living = [child for child in self.children if child is not None and child.poll() is None]
        for child in living:
            child.send_signal(signal.SIGTERM)
        limit = time.monotonic() + self.grace + 5
        for child in living:
            try:
                child.wait(max(0.1, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        return 128 + (self.stopped or signal.SIGTERM)
