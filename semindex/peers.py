"""Which processes of a run are gone. A launcher sees those of its own box die; those of another box it never does.

Each process holds a connection to rank 0, open for as long as it lives. The kernel closes it however the process ends;
of a box that lost its power the connection fails after a minute.
"""

import contextlib
import select
import socket
import struct

_KEEP = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4))  # seconds, seconds, probes
CONNECT_SECONDS = 20
_NUMBER = struct.Struct("!I")


def _kept(connection: socket.socket) -> socket.socket:
    """Let the kernel ask now and then whether the other side is there."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP:
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


class Peers:
    """The connections of one process. On rank 0 to all others, elsewhere to rank 0."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._open: dict[int, tuple[int, socket.socket]] = {}  # by descriptor: rank and connection
        self._gone: set[int] = set()

    def listen(self) -> int:
        """Open rank 0's side; return the port."""
        self._listener = socket.create_server(("", 0), backlog=1024)
        self._listener.setblocking(False)
        return int(self._listener.getsockname()[1])

    def connect(self, host: str, port: int, rank: int) -> None:
        """Connect to rank 0. Raises OSError where it cannot be reached."""
        connection = _kept(socket.create_connection((host, port), CONNECT_SECONDS))
        connection.sendall(_NUMBER.pack(rank))
        self._open[connection.fileno()] = 0, connection

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
                    self._open[connection.fileno()] = _NUMBER.unpack(data)[0], _kept(connection)
                    continue
            connection.close()
