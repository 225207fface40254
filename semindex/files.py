"""Files and directories that are whole or absent, whatever kills the process that writes them."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from typing import IO, Any


@contextlib.contextmanager
def atomic_file(path: str, mode: str = "w", keep: bool = False) -> Iterator[IO[Any]]:
    """Open a file for writing that takes its name only when it is whole and on the disk; never, to try, with keep.

    mode: w, for UTF-8, or wb. A device or pipe, which no rename may replace, is written as it stands.
    """
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        with open(path, mode, **text) as file:
            yield file
        return
    partial = f"{path}.partial-{os.getpid()}"
    try:
        with open(partial, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not keep:
            os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


@contextlib.contextmanager
def atomic_directory(path: str) -> Iterator[str]:
    """Yield a directory to fill that takes the name `path` when it is whole; what stands there is replaced.

    A kill leaves what was there or what is new, at worst under the name PATH.old; the next call removes the rest.
    """
    path = os.path.realpath(path)
    partial, old = f"{path}.partial", f"{path}.old"
    for left in (partial, old):  # of a killed run
        shutil.rmtree(left, ignore_errors=True)
    try:
        os.makedirs(partial)
        yield partial
        for directory, _, names in os.walk(partial):
            for name in names:
                with open(os.path.join(directory, name), "rb") as written:
                    os.fsync(written.fileno())
        if os.path.isdir(path):
            os.rename(path, old)
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def digest(path: str) -> "hashlib._Hash":
    """Return SHA-256 over a file, to be read or to go on with."""
    found = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found


def checksum(path: str) -> str:
    """Return a file's SHA-256 as a hexadecimal text."""
    return digest(path).hexdigest()
