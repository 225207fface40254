"""Directories that are whole or absent: written beside their place and exchanged in one call. Only this project's own
directories are replaced, and of them only its own files."""

import atexit
import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator

from semindex import manifest
from semindex.errors import UserError
from semindex.files import named
from semindex.locks import PREFIX, left_over, locked, own_path, remove_left_over
from semindex.roles import check_place

AT_FDCWD, RENAME_EXCHANGE = -100, 2
# Of a directory from before manifests: the names of its files, None where it is not of the kind.
Older = Callable[[str], set[str] | None]


def directory_path(path: str, flag: str = "") -> str:
    """Return where a directory goes, links followed and `..` resolved; UserError where none can be made.

    The current directory and those above it are no place for one: they would be replaced as a whole.
    """
    real, here = check_place(path, flag), os.path.realpath(".")
    if here == real or here.startswith(real.rstrip("/") + "/"):
        name = f"{flag} '{path}'" if flag else f"'{path}'"
        raise UserError(f"{name}: is the current directory or one above it; name a directory of its own")
    return real


def own_files(path: str, kind: str, older: Older | None = None) -> set[str] | None:
    """Return the names of the files of this project's own directory, None where it is none (an empty one has none)."""
    names = set(os.listdir(path)) if os.path.isdir(path) else set()
    left = {name for name in names if name.startswith(PREFIX)}  # of a writer that was killed
    if names == left:
        return left
    content = manifest.read(path)
    if content is None:
        own = older(path) if older else None
        return None if own is None else own & names | left
    if content["kind"] != kind:
        return None
    # A writer killed while it made a directory smaller leaves a file of the kind that the manifest no longer names.
    own = _whole(path, content["files"]) | {manifest.NAME} | (older and older(path) or set())
    return own & names | left


def _whole(path: str, files: Iterable[str]) -> set[str]:
    """Return the manifest's files and folders that stand in a directory, without folders that hold anything else."""
    others = manifest.files_below(path, manifest.top(files)) - set(files)
    return manifest.top(files) - {name.split("/")[0] for name in others if "/" in name}


def check_replaceable(path: str, flag: str, kind: str, older: Older | None = None) -> bool:
    """Return whether the directory holds one of this kind; UserError where it holds anything that is not ours."""
    real = directory_path(path, flag)
    if not os.path.isdir(real):
        _check_makeable(real, path, flag)
        return False
    names = {name for name in os.listdir(real) if not name.startswith(PREFIX)}
    own = own_files(real, kind, older)
    what = f"{flag} {path}".strip()
    if own is None:
        raise UserError(f"{what}: is there, but is no {kind}; name another directory")
    if names - own:
        raise UserError(f"{what}: holds {min(names - own)}, which is not part of the {kind}; name another directory")
    return bool(names)


def _check_makeable(real: str, path: str, flag: str) -> None:
    """Raise UserError where the directory could not be made; nothing is left behind."""
    parent = os.path.dirname(real)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {path}: cannot be made: {parent} cannot be written")


@contextlib.contextmanager
def atomic_directory(path: str, kind: str, older: Older | None = None) -> Iterator[str]:
    """Yield a directory to fill that takes the name `path` when it is whole; one of ours that stands there is replaced.

    A kill leaves what was there or what is new. kind, older: see own_files. Raises UserError where something stands
    there that is not ours, or another process writes there.
    """
    real = directory_path(path)
    with locked(real), named(path):
        os.makedirs(os.path.dirname(real), exist_ok=True)
        _recover(real)
        check_replaceable(path, "", kind, older)
        within = os.path.ismount(real) or os.path.isdir(real) and not os.access(os.path.dirname(real), os.W_OK)
        partial = os.path.join(real, own_path("partial", "partial")) if within else own_path(real, "partial")
        try:
            os.makedirs(partial)
            yield partial
            _to_disk(partial)
            if within:
                _move_in(partial, real, own_files(real, kind, older) or set())
            else:
                _exchange(partial, real, kind, older)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _recover(real: str) -> None:
    """Mend what a killed process left: a whole new directory takes its place, an old one its name, the rest goes."""
    remove_left_over(real, "partial")
    for partial in left_over(os.path.join(real, "partial"), "partial"):
        if manifest.read(partial):  # all of it was there, and some of it may have moved
            _move_in(partial, real, manifest.top((manifest.read(real) or {"files": ()})["files"]))
        shutil.rmtree(partial, ignore_errors=True)
    for old in left_over(real, "old"):
        if os.path.lexists(real):
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, real)


def _to_disk(directory: str) -> None:
    for place, _, names in os.walk(directory):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                os.fsync(file.fileno())


def _exchange(partial: str, real: str, kind: str, older: Older | None) -> None:
    """Give a new directory its name; what it replaces is removed, but for files that came meanwhile."""
    if not os.path.isdir(real):
        os.rename(partial, real)
        return
    old = partial
    if not _rename_exchange(partial, real):
        old = own_path(real, "old")
        os.rename(real, old)
        os.rename(partial, real)
    _remove(old, own_files(old, kind, older) or set())
    for name in os.listdir(old):  # came while we wrote: a user's
        os.rename(os.path.join(old, name), os.path.join(real, name))
    os.rmdir(old)


def _remove(directory: str, names: set[str]) -> None:
    """Remove files of a directory; the manifest goes last: without it nobody would know whose the others are."""
    for name in sorted(names, key=lambda name: name == manifest.NAME):
        place = os.path.join(directory, name)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(place) if os.path.isdir(place) and not os.path.islink(place) else os.unlink(place)


def remove_directory(path: str, kind: str, older: Older | None = None) -> None:
    """Remove a directory of this project's own; UserError, and nothing is removed, where it holds anything else."""
    check_replaceable(path, "", kind, older)
    _remove(path, own_files(path, kind, older) or set())
    os.rmdir(path)


def _move_in(partial: str, real: str, own: set[str]) -> None:
    """Move a new directory's files into one that cannot be renamed, a mount point; the manifest comes last."""
    _remove(real, {name for name in own | {manifest.NAME} if not name.startswith(PREFIX)})
    for name in sorted(os.listdir(partial), key=lambda name: name == manifest.NAME):
        os.rename(os.path.join(partial, name), os.path.join(real, name))


def _rename_exchange(one: str, two: str) -> bool:
    """Exchange two names in one call; false where the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(two), RENAME_EXCHANGE) == 0


@contextlib.contextmanager
def opened(directory: str) -> Iterator[str]:
    """Yield a path of the directory that goes on naming this one while another takes its place."""
    if not os.path.isdir("/proc/self/fd"):
        yield directory
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    except UserError as error:
        raise UserError(str(error).replace(f"/proc/self/fd/{descriptor}", directory)) from None
    finally:
        os.close(descriptor)


def temporary_directory() -> "tempfile.TemporaryDirectory[str]":
    """Return a directory in TMPDIR that goes with its block or this process; what killed ones left is removed."""
    place = os.path.join(tempfile.gettempdir(), "semindex")
    remove_left_over(place, "temporary")
    own = own_path(place, "temporary")
    if not os.path.isdir(own):
        os.makedirs(own, mode=0o700)
        atexit.register(shutil.rmtree, own, ignore_errors=True)
    return tempfile.TemporaryDirectory(dir=own, ignore_cleanup_errors=True)
