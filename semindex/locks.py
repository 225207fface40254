"""Names that only this project gives to its files beside an output, and locks on outputs. Standard library only.

A name is `.semindex-PLACE-HOST-PID-START.WHAT`: PLACE of the output, the others of the process that made it, so that
what a killed process left is told from what a living one writes, and neither can be a file of the user's.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator

from semindex.errors import UserError

PREFIX = ".semindex-"
_OWN = re.compile(r"\.semindex-(?P<place>[0-9a-f]{12})-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)"
                  r"\.(?P<what>\w+)")


def _short(text: str, digits: int) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:digits]


def _host() -> str:
    return _short(socket.gethostname(), 8)


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; '' where it is gone, '0' where that cannot be told."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return ""
    except OSError:
        pass
    try:  # no /proc: macOS
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "0"


def own_path(path: str, what: str) -> str:
    """Return this process's own path of a kind beside an output; `what` is a word as `partial`."""
    directory, name = os.path.split(path)
    own = f"{PREFIX}{_short(name, 12)}-{_host()}-{os.getpid()}-{_started(os.getpid()) or 0}.{what}"
    return os.path.join(directory, own)


def shared_path(path: str, what: str) -> str:
    """Return the path of a kind beside an output that every process of a run shares, and the next run goes on with."""
    directory, name = os.path.split(os.path.realpath(path))
    return os.path.join(directory, f"{PREFIX}{_short(name, 12)}.{what}")


def left_over(path: str, what: str) -> list[str]:
    """Return the paths of a kind beside an output whose process has ended. Those of other machines are left alone."""
    directory, name = os.path.split(path)
    with contextlib.suppress(OSError):
        names = os.listdir(directory or ".")
        found = [match for match in map(_OWN.fullmatch, names) if match]
        return sorted(os.path.join(directory, match[0]) for match in found
                      if match["place"] == _short(name, 12) and match["what"] == what and match["host"] == _host()
                      and _started(int(match["pid"])) != match["start"])
    return []


def remove_left_over(path: str, what: str) -> None:
    """Remove what killed processes left of a kind beside an output."""
    for left in left_over(path, what):
        with contextlib.suppress(OSError):
            shutil.rmtree(left) if os.path.isdir(left) and not os.path.islink(left) else os.unlink(left)


_held: dict[str, int] = {}


@contextlib.contextmanager
def locked(path: str, flag: str = "") -> Iterator[None]:
    """Hold the lock of an output; within one process it may be held again.

    The lock is a file `.semindex-PLACE.lock` beside the output with the process' number, held by the kernel: it ends
    with the process, however that ends. Folders that are made for it and stay empty are removed again. flag: named in
    the message. Raises UserError where another process holds the lock.
    """
    path = os.path.realpath(path)
    if path in _held:
        yield
        return
    place, made = shared_path(path, "lock"), []
    try:
        folder = os.path.dirname(path)
        while not os.path.lexists(folder):
            made.append(folder)
            folder = os.path.dirname(folder)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = _open_locked(place)
    except BlockingIOError:
        with contextlib.suppress(OSError), open(place, encoding="utf-8") as file:
            holder = file.read().strip()
        raise UserError(f"{flag + ' ' if flag else ''}{path}: is being written by another process "
                        f"({holder or 'not named'}); wait for it, or name another output") from None
    except OSError:  # a directory that cannot be written says so when the output is
        yield
        return
    _held[path] = descriptor
    try:
        yield
    finally:
        del _held[path]
        with contextlib.suppress(OSError):
            os.unlink(place)
        os.close(descriptor)
        with contextlib.suppress(OSError):
            for folder in made:
                os.rmdir(folder)


def _open_locked(place: str) -> int:
    """Return the descriptor of a lock file that is ours; BlockingIOError where it is another process's."""
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = False
            with contextlib.suppress(FileNotFoundError):  # its last holder has just removed it
                ours = os.stat(place).st_ino == os.fstat(descriptor).st_ino
            if ours:
                with contextlib.suppress(OSError):  # a full disk: the lock holds without the name of its holder
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
