"""Standard input and output, and texts given as arguments: what may be wrong with them, said in one line."""

import os
import select
import stat
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO, TextIO

from semindex.errors import UserError

PATIENCE = 1.0  # seconds without input before it is said what is waited for
_told = False


def standard_input(hint: str = "") -> BinaryIO:
    """Return standard input as bytes, once something has come or it has ended; UserError where it is closed.

    Where nothing comes for PATIENCE, a line on standard error says what is waited for. hint: stands behind it.
    """
    global _told
    if _closed(sys.stdin):
        raise UserError("-: standard input is closed; name a file")
    try:
        number = sys.stdin.fileno()
    except OSError:  # no file of the system, as in a notebook
        return sys.stdin.buffer
    if not _told and not select.select([number], [], [], PATIENCE)[0]:
        _told = True
        print(f"reading standard input, a line a text or a row; it ends with the pipe, or Ctrl-D{hint}",
              file=sys.stderr, flush=True)
    return sys.stdin.buffer


def piped(hint: str = "") -> bool:
    """Tell whether somebody feeds standard input; an idle pipe is waited for. hint: see standard_input."""
    if _closed(sys.stdin):
        return False
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except OSError:
        return False
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return False
    return bool(standard_input(hint).peek(1))  # type: ignore[attr-defined]


def standard_output() -> TextIO:
    """Return standard output; UserError where it is closed, so that what is computed could go nowhere."""
    if _closed(sys.stdout):
        raise UserError("standard output is closed and nothing can be printed; pass --output_file")
    return sys.stdout


def _closed(stream: Any) -> bool:
    """Tell whether a stream was closed when the process began: cli.run puts the null device there, by number."""
    return stream is None or stream.closed or isinstance(getattr(stream, "name", None), int)


def given_texts(flag: str, texts: Sequence[str]) -> list[str]:
    """Return texts of the command line, line breaks as spaces; UserError for an empty one or one that is no UTF-8.

    Python decodes arguments as the locale says. Whatever that is, their bytes are read as UTF-8 here.
    """
    found = []
    for number, text in enumerate(texts, 1):
        try:
            found.append(os.fsencode(text).decode("utf-8").replace("\n", " "))
        except UnicodeDecodeError as error:
            raise UserError(f"{flag}: text {number} is no valid UTF-8 (byte {error.start + 1}); is the terminal's "
                            "encoding another one?") from None
        except UnicodeEncodeError:  # the locale cannot have made it: it comes from Python, as it should be
            found.append(text.replace("\n", " "))
        if not found[-1].strip():
            raise UserError(f"{flag}: an empty text has no meaning to encode")
    return found
