"""Files that are whole or absent, whatever kills the process that writes them; and checksums."""

import contextlib
import errno
import gzip
import hashlib
import io
import os
import stat
import sys
import time
from collections.abc import Iterator
from typing import IO, Any, cast

from semindex.errors import UserError
from semindex.locks import own_path, remove_left_over

READER_SECONDS = 30  # how long a pipe may lack a reader


def output_path(path: str, flag: str = "") -> str:
    """Return where an output goes, links followed and `..` resolved; UserError where no file can be there."""
    name = f"{flag} '{path}'" if flag else f"'{path}'"
    if not path:
        raise UserError(f"{flag or 'an output'}: an empty name was given; name a file")
    real = os.path.realpath(path)
    if path.endswith("/") or os.path.isdir(real):  # of `nope/..` only the latter is one
        raise UserError(f"{name}: is a directory, a file is to be written there")
    for parent in _parents(real):
        if os.path.lexists(parent):
            if not os.path.isdir(parent):
                raise UserError(f"{name}: {parent} is a file, a directory was expected")
            break
    try:
        os.lstat(real)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # a name too long, a directory that may not be looked into
        raise UserError(f"{name}: no file can be there ({getattr(error, 'strerror', None) or error})") from None
    return real


def _parents(path: str) -> Iterator[str]:
    while (parent := os.path.dirname(path)) != path:
        yield parent
        path = parent


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """Let an OSError name the file: one of a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno != errno.EPIPE:
            error.filename = path
        raise


@contextlib.contextmanager
def atomic_file(path: str, mode: str = "w", keep: bool = False) -> Iterator[IO[Any]]:
    """Open a file for writing that takes its name only when it is whole and on the disk; never, to try, with keep.

    mode: w, for UTF-8, or wb. A name that ends in .gz is compressed. A link stays a link, and its target is replaced.
    A device or a pipe, which no rename may replace, is written as it stands. Raises OSError with the file's name.
    """
    target = output_path(path)
    with named(path):
        if os.path.lexists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            with _as_it_stands(target) as raw, _wrapped(raw, mode, path) as file:
                yield file
            return
        remove_left_over(target, "partial")
        partial = own_path(target, "partial")
        try:
            with open(partial, "wb") as raw:
                with contextlib.suppress(OSError):
                    os.fchmod(raw.fileno(), stat.S_IMODE(os.stat(target).st_mode))
                with _wrapped(raw, mode, path) as file:
                    yield file
                raw.flush()
                os.fsync(raw.fileno())
            if not keep:
                os.replace(partial, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)


@contextlib.contextmanager
def appended(path: str) -> Iterator[IO[str]]:
    """Open a file of UTF-8 that grows by lines; .gz, devices and pipes as atomic_file does. Raises OSError."""
    target = output_path(path)
    there = os.path.lexists(target) and not stat.S_ISREG(os.stat(target).st_mode)
    with named(path), _as_it_stands(target) if there else open(target, "ab") as raw, _wrapped(raw, "w", path) as file:
        yield file


@contextlib.contextmanager
def _wrapped(raw: IO[bytes], mode: str, path: str) -> Iterator[IO[Any]]:
    """Yield the file as bytes or UTF-8, compressed where its name says so; `raw` stays open, and is flushed."""
    with contextlib.ExitStack() as stack:
        inner: IO[Any] = raw
        if path.endswith(".gz"):
            inner = cast(IO[Any], stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0)))
        if "b" in mode:
            yield inner
        else:
            text = io.TextIOWrapper(cast(IO[bytes], inner), encoding="utf-8", newline="\n")
            yield text
            text.flush()
            text.detach()


@contextlib.contextmanager
def _as_it_stands(path: str) -> Iterator[IO[bytes]]:
    """Open a device or a pipe; a pipe waits a while for its reader, and says so."""
    began, told = time.monotonic(), False
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > began + READER_SECONDS:
                if error.errno == errno.ENXIO:
                    raise UserError(f"{path}: is a pipe that nobody reads; start its reader first") from None
                raise
        if not told and time.monotonic() > began + 1:
            print(f"waiting for a reader of the pipe {path}", file=sys.stderr, flush=True)
            told = True
        time.sleep(0.05)
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as file:
        yield file


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
