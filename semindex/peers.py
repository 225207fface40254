"""Which processes of a run are gone. A launcher sees those of its own box die; those of another box it never does.

Each process holds a connection to rank 0, open for as long as it lives. The kernel closes it however the process ends;
of a box that lost its power the connection fails after a minute.
"""

import contextlib
import ctypes
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from semindex.errors import UserError

# Seconds, seconds, probes; milliseconds for what was sent to be received: of itself the kernel tries for 15 minutes.
_KEEP = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4), ("TCP_USER_TIMEOUT", 60_000))
CONNECT_SECONDS = 20
GRACE_SECONDS = 2.0  # for the main thread to end the process in order, where C++ wants to abort it
_NUMBER = struct.Struct("!I")


def keep_alive(connection: socket.socket) -> socket.socket:
    """Let the kernel ask now and then whether the other side is there; the connection fails a minute after it went."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP:
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def open_sockets() -> set[tuple[int, str]]:
    """Return the sockets of this process as (descriptor, which one it is); none where there is no /proc."""
    found = set()
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with contextlib.suppress(OSError):  # closed meanwhile
            what = os.readlink(f"/proc/self/fd/{name}")
            if what.startswith("socket:"):
                found.add((int(name), what))
    return found


def answer_at_once(sockets: set[tuple[int, str]]) -> None:
    """Let the TCP connections among some sockets send small packets at once: a count of the store takes 0.1 ms, not 44.

    Paddle sends a request in two writes; the second waits for the other side's delayed acknowledgement.
    """
    for descriptor, _ in sockets:
        with contextlib.suppress(OSError):  # closed meanwhile
            connection = socket.socket(fileno=descriptor)
            try:
                if connection.type == socket.SOCK_STREAM and connection.family in (socket.AF_INET, socket.AF_INET6):
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    keep_alive(connection)  # paddle's own wait has no end where a box lost its power
            finally:
                connection.detach()  # it stays paddle's


def check_name(endpoint: str) -> None:
    """Raise UserError where gloo would listen on loopback while the others look for this box elsewhere.

    It listens on the address that the box' own name has, which Debian puts on loopback. endpoint: HOST:PORT, where the
    others look for this process.
    """
    host, name = endpoint.rpartition(":")[0], socket.gethostname()
    try:
        own = socket.gethostbyname(name)
    except OSError:
        own = "127.0.0.1"  # gloo's own way out
    if own.startswith("127.") and host and not host.startswith("127.") and host != "localhost":
        raise UserError(f"the name of this box, {name}, has the address {own}, where no other box reaches gloo; write "
                        f"'{host} {name}' into /etc/hosts")


_handlers: list[Any] = []  # C++ holds no reference to them


def explain_abort(explain: Callable[[], str | None]) -> None:
    """Where C++ is about to abort the process, print why and end with status 2, as every error does.

    As another process ends gloo now and then throws what nobody can catch (`gloo::TimeoutException`, in one of some
    forty kills of a training). explain: returns why; None where that is not known, and the abort goes on.
    """
    try:
        set_handler = ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE  # std::set_terminate; paddle's own library
    except (OSError, AttributeError):
        return
    set_handler.restype, kind = ctypes.c_void_p, ctypes.CFUNCTYPE(None)

    def handle() -> None:
        time.sleep(GRACE_SECONDS)
        if (text := explain()) is None:
            before()  # prints what was thrown, and aborts
        print(f"error: {text}", file=sys.stderr, flush=True)
        os._exit(2)

    _handlers.append(kind(handle))
    before = kind(set_handler(_handlers[-1]))


def check_port(rank: int) -> None:
    """Raise UserError where rank 0 cannot listen at the port at which the processes meet: paddle would abort.

    The launcher chooses it seconds before; any connection that is opened meanwhile may have got the same.
    """
    if rank > 0:
        return
    host, _, port = first_endpoint().rpartition(":")
    try:
        socket.create_server(("", int(port))).close()
    except (ValueError, OverflowError):
        raise UserError(f"{first_endpoint()} is not HOST:PORT, the place where the processes meet; start the script "
                        "through paddle.distributed.launch, which sets it") from None
    except OSError as error:
        raise UserError(f"port {port}, at which the processes meet on {host}: {os.strerror(error.errno or 0)}; start "
                        "again, and paddle.distributed.launch chooses another port") from None


def first_endpoint() -> str:
    """Return HOST:PORT of paddle's store, which is in rank 0's process, from the launcher's variables."""
    return os.environ.get("PADDLE_MASTER") or os.environ["PADDLE_TRAINER_ENDPOINTS"].split(",")[0]


class Peers:
    """The connections of one process. On rank 0 to all others, elsewhere to rank 0."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._open: dict[int, tuple[int, socket.socket]] = {}  # by descriptor: rank and connection
        self._gone: set[int] = set()

    def join(self, store: Any, rank: int) -> None:
        """Open rank 0's side, or connect to it; warn where it cannot be reached. store: paddle's, tells the port."""
        if rank == 0:
            self._listener = socket.create_server(("", 0), backlog=1024)
            self._listener.setblocking(False)
            store.add("semantic_index/port", int(self._listener.getsockname()[1]))
            return
        while not (port := store.add("semantic_index/port", 0)):
            time.sleep(0.01)
        host = first_endpoint().rpartition(":")[0]
        try:
            connection = keep_alive(socket.create_connection((host, port), CONNECT_SECONDS))
            connection.sendall(_NUMBER.pack(rank))
            self._open[connection.fileno()] = 0, connection
        except OSError as error:
            print(f"warning: process {rank} cannot reach the first one at {host} ({error.strerror or error}): it is "
                  "not told when another box dies", file=sys.stderr, flush=True)

    def gone(self) -> set[int]:
        """Return the ranks that are known to have ended. Takes microseconds."""
        self._accept()
        poll = select.poll()
        for descriptor in self._open:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(0):
            rank, connection = self._open[descriptor]
            data = b""
            with contextlib.suppress(OSError):  # reset: it is gone
                data = connection.recv(_NUMBER.size, socket.MSG_WAITALL)
            if len(data) == _NUMBER.size:  # rank 0 tells of another
                self._gone.add(_NUMBER.unpack(data)[0])
                continue
            del self._open[descriptor]
            connection.close()
            self._gone.add(rank)
        return set(self._gone)

    def lost(self) -> int | None:
        """Return a rank that has ended, once a talk with it broke; None where none is known within 10 s."""
        ends = time.monotonic() + 10
        while not (gone := self.gone()) and time.monotonic() < ends:
            time.sleep(0.01)
        return min(gone, default=None)

    def close(self) -> None:
        """Close all connections, as the kernel does where the process ends."""
        for connection in [self._listener, *(one for _, one in self._open.values())]:
            if connection is not None:
                connection.close()
        self._open, self._listener = {}, None

    def tell(self, rank: int) -> None:
        """Tell the others, on rank 0, that a rank is gone."""
        if self._listener is not None:
            for _, connection in self._open.values():
                with contextlib.suppress(OSError):
                    connection.sendall(_NUMBER.pack(rank))

    def _accept(self) -> None:
        while self._listener is not None:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            connection.settimeout(CONNECT_SECONDS)
            with contextlib.suppress(OSError):
                data = connection.recv(_NUMBER.size, socket.MSG_WAITALL)
                if len(data) == _NUMBER.size:
                    self._open[connection.fileno()] = _NUMBER.unpack(data)[0], keep_alive(connection)
                    continue
            connection.close()
