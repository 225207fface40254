"""How a script starts and fails, and flags' types. Standard library only."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from semindex.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes read like every other error here, and which guesses no prefixes."""

    def __init__(self, description: str) -> None:
        super().__init__(
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        raise UserError(f"{message} (python {os.path.basename(sys.argv[0])} --help lists the flags)")

    def _get_help_string(self, action: argparse.Action) -> str | None:  # type: ignore[override]
        return action.help  # defaults stand in the texts: many of them are "what the checkpoint says"


def run(main: Callable[[], Any]) -> NoReturn:
    """Call `main` and end the process as the contract says: 0, 2 with one line, or 130 after Ctrl-C."""
    code = 0
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:  # `... | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        code = 2
    except MemoryError:
        print("error: out of memory; a smaller --batch_size or a smaller corpus needs less", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    sys.stdout.flush()
    if os.environ.get("PADDLE_TRAINERS_NUM", "1") != "1":
        # paddle's threads that talk to the other processes now and then abort while the interpreter shuts down,
        # when all the work is done and written: the launcher would call the run failed.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def number(kind: type, low: float, high: float, text: str) -> Callable[[str], Any]:
    """Return an argparse type for numbers from low to high; text says what is expected."""
    def convert(value: str) -> Any:
        try:
            result = kind(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{value}' is not {text}") from None
        if not low <= result <= high:  # false for nan as well
            raise argparse.ArgumentTypeError(f"{value} is not {text}")
        return result

    return convert


positive_int = number(int, 1, 2**40, "a whole number from 1 up")
natural = number(int, 0, 2**40, "a whole number from 0 up")
fraction = number(float, 0, 1, "a number from 0 to 1")
nonnegative = number(float, 0, 1e30, "a number from 0 up")
positive_float = number(float, 1e-30, 1e30, "a number above 0")
seed = number(int, 0, 2**32 - 1, "a whole number from 0 to 4294967295")
real = number(float, -1e30, 1e30, "a finite number")
