"""What flags name, compared before any work: no output over an input, no two of one name, no place that can be none."""

import os
import stat
from collections.abc import Iterable, Sequence
from typing import Any

from semindex.errors import UserError

Named = tuple[str, str]  # a flag and a path that it names


def identity(path: str) -> Any:
    """Return what two names of one file share; None for a device or pipe, which may be written by several."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return os.path.realpath(path) if path else ""
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) else None


def inside(path: str, folder: str) -> bool:
    """Tell whether a path lies below a directory."""
    return os.path.realpath(path).startswith(os.path.realpath(folder).rstrip("/") + "/")


def check_inputs(inputs: Iterable[Named]) -> None:
    """Raise UserError for an empty name, and for two inputs that are standard input."""
    for flag, path in inputs:
        if not path:
            raise UserError(f"{flag}: an empty name was given; name what is to be read, or leave the flag out")
    piped = [flag for flag, path in inputs if path == "-"]
    if len(piped) > 1:
        raise UserError(f"{piped[0]} and {piped[1]} are both standard input; name a file for one of them")


def check_files(inputs: Sequence[Named], files: Iterable[Named]) -> None:
    """Raise UserError for a file to be written that is an input, lies in one, or is another one to be written."""
    before = [(flag, path, identity(path)) for flag, path in inputs if path != "-"]
    for flag, path in files:
        if not path:
            raise UserError(f"{flag}: an empty name was given; name a file")
        own = identity(path)
        if own is None:
            continue
        for other, name, theirs in before:
            if theirs == own or os.path.isdir(name) and _linked(path, name):
                raise UserError(f"{flag} {path}: is the file of {other} {name}; name another one")
            if os.path.isdir(name) and inside(path, name):
                raise UserError(f"{flag} {path}: is inside the directory of {other}; name another place")
        before.append((flag, path, own))


def _linked(path: str, folder: str) -> bool:
    """Tell whether a file is one of a directory under another name, a hard link."""
    found = os.stat(path) if os.path.isfile(path) else None
    if found is None or found.st_nlink < 2:
        return False
    return any(os.path.samestat(found, os.lstat(os.path.join(place, name)))
               for place, _, names in os.walk(folder) for name in names)


def check_directories(others: Iterable[Named], whole: Iterable[Named], folders: Iterable[Named]) -> None:
    """Raise UserError for a directory to be written that cannot be one, or that another flag names.

    others: files that are read or written, and directories that are read; whole: directories that are written anew as
    a whole, so that nobody else's file may lie in them; folders: those that only gain files.
    """
    before = [(flag, path, identity(path)) for flag, path in others if path != "-"]
    files = list(before)
    for flag, path in whole:
        check_place(path, flag)
        for other, name, _ in files:
            if inside(name, path):
                raise UserError(f"{flag} {path}: holds the file of {other} {name}, and is written anew as a whole; "
                                "name another directory")
    for flag, path in (*whole, *folders):
        check_place(path, flag)
        own = identity(path)
        for other, _, theirs in before:
            if own is not None and theirs == own:
                raise UserError(f"{flag} {path}: is what {other} names too; name another directory")
        before.append((flag, path, own))


def check_kept(path: str, flag: str) -> None:
    """Raise UserError for an input whose name is kept in what is made of it, in JSON, and cannot be."""
    for name in (os.path.abspath(path), os.path.realpath(path)):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"{flag} {ascii(path)[1:-1]}: its name is no valid UTF-8 and would be kept in what is "
                            "written; rename it, or make a link with another name") from None


def check_place(path: str, flag: str = "") -> str:
    """Return where a directory is or goes, links followed and `..` resolved; UserError where none can be."""
    name = f"{flag} '{path}'" if flag else f"'{path}'"
    if not path:
        raise UserError(f"{flag or 'an output'}: an empty name was given; name a directory")
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
    except FileNotFoundError:
        return real
    except NotADirectoryError:
        parent = os.path.dirname(real)
        while not os.path.lexists(parent):
            parent = os.path.dirname(parent)
        raise UserError(f"{name}: cannot be made: {parent} is a file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: no directory can be there ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISDIR(found.st_mode):
        raise UserError(f"{name}: is a file, a directory is to be written there")
    return real
