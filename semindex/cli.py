"""How a script starts and fails: the parser, flags' types, which files they read and write. Standard library only."""

import argparse
import contextlib
import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from semindex import roles
from semindex.errors import UserError

trusting = False  # --trust_files was given: manifest.check believes what it would compare
_running: contextlib.ExitStack | None = None  # the locks of the script that run() has called


class _Formatter(argparse.HelpFormatter):
    """Help texts as they are: what a flag is where it is left out stands in them, often "what the checkpoint says"."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes read like every other error here, and which guesses no prefixes.

    Flags that `reads` and `writes` name are compared: an output over an input is an error before any work.
    """

    def __init__(self, description: str) -> None:
        super().__init__(description=description, allow_abbrev=False, formatter_class=_Formatter)
        self._roles: dict[str, str] = {}
        # From the parsed flags to (flag, path) of files written under a name that no single flag holds.
        self.outputs: list[Callable[[argparse.Namespace], list[tuple[str, str]]]] = []

    def reads(self, *names: str, optional: bool = False) -> None:
        """Name flags whose values are read: files, - for standard input, directories. optional: '' stands for none."""
        self._roles |= dict.fromkeys(names, "optional" if optional else "input")

    def writes(self, *names: str, role: str = "output") -> None:
        """Name flags whose values are written.

        role: output, a file; append, one that grows by lines, '' for none; directory, replaced as a whole, locked while
        it is written; save, a folder that one process fills; shared, one that several do.
        """
        self._roles |= dict.fromkeys(names, role)

    def usual(self, name: str, value: Any) -> None:
        """Give a flag another default, and have its help say so."""
        self.set_defaults(**{name: value})
        for action in self._actions:
            if action.dest == name:
                action.help = re.sub(r"\[[^]]*\]$", f"[{value}]", action.help or "")

    def changed(self, args: argparse.Namespace, *names: str) -> list[str]:
        """Return those of some flags whose values are not their defaults."""
        return [name for name in names if getattr(args, name) != self.get_default(name)]

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        raise UserError(f"{message} (python {os.path.basename(sys.argv[0])} --help lists the flags)")

    def parse_args(self, *words: Any, **more: Any) -> Any:
        """Parse, compare inputs with outputs, and under run() lock the outputs."""
        args = super().parse_args(*words, **more)
        global trusting
        trusting = trusting or getattr(args, "trust_files", False)
        self._check_files(args)
        return args

    def _files(self, args: argparse.Namespace, *roles: str) -> Iterator[tuple[str, str]]:
        seen = set()
        for action in self._actions:
            if self._roles.get(action.dest) in roles and action.dest not in seen:  # an alias is no second output
                seen.add(action.dest)
                value = getattr(args, action.dest, None)
                for path in value if isinstance(value, list) else [value]:
                    if path is not None:
                        yield action.option_strings[0], path

    def _check_files(self, args: argparse.Namespace) -> None:
        inputs, whole = list(self._files(args, "input")), list(self._files(args, "directory"))
        inputs += [(flag, path) for flag, path in self._files(args, "optional") if path]
        alone = [*self._files(args, "output"), *(row for make in self.outputs for row in make(args))]
        grown, folders = self._files(args, "append"), list(self._files(args, "save", "shared"))
        files = [*alone, *((flag, path) for flag, path in grown if path)]
        roles.check_inputs(inputs)
        roles.check_files(inputs, files)
        roles.check_directories(inputs + files, whole, folders)
        if _running is not None and os.environ.get("PADDLE_TRAINER_ID", "0") == "0":
            from semindex.locks import locked

            for flag, path in [*alone, *self._files(args, "save")]:
                if roles.identity(path) is not None:
                    _running.enter_context(locked(path, flag))


def run(main: Callable[[], Any]) -> NoReturn:
    """Call `main` and end the process as the contract says: 0, 2 with one line, 130 after Ctrl-C, 143 after SIGTERM.

    A reader that leaves early (`| head`) stops nothing: what is printed then goes nowhere, the work goes on.
    """
    global _running
    code, _running = 0, contextlib.ExitStack()
    _open_standard_files()

    def terminate(*_: object) -> NoReturn:
        print("terminated", file=sys.stderr, flush=True)
        raise SystemExit(128 + signal.SIGTERM)  # what is half written is removed on the way out

    signal.signal(signal.SIGTERM, terminate)
    try:
        with _running:
            main()
        sys.stdout.flush()
    except UserError as error:
        code = _fail(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _fail(f"{where}{error.strerror or error}")
    except MemoryError:
        code = _fail("out of memory; a smaller --batch_size or a smaller corpus needs less")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    _running = None
    if os.environ.get("PADDLE_TRAINERS_NUM", "1") != "1":
        # paddle's threads that talk to the other processes now and then abort while the interpreter shuts down,
        # when all the work is done and written: the launcher would call the run failed.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _fail(text: str) -> int:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return 2


class _Output:
    """Standard output that a closed pipe does not stop: the rest of what is printed goes nowhere."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # what is still in the buffer goes there too
            os.close(nowhere)
            if error.errno != errno.EPIPE:
                error.filename = error.filename or "standard output"
                raise
            return 0

    def write(self, text: str) -> int:
        """Write a text."""
        return self._try(lambda: self._stream.write(text)) or len(text)

    def flush(self) -> None:
        """Send what was written."""
        self._try(self._stream.flush)


def _open_standard_files() -> None:
    """See that all three are there: of a closed one (>&-) Python has None, and the next file opened gets its number."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                descriptor = os.open(os.devnull, os.O_RDWR)
                if descriptor != number:
                    os.dup2(descriptor, number)
                    os.close(descriptor)
                setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    sys.stdout, sys.stderr = _Output(sys.stdout), _Output(sys.stderr)  # type: ignore[assignment]


def number(kind: type, low: float, high: float, text: str) -> Callable[[str], Any]:
    """Return an argparse type for numbers from low to high; text says what is expected. Digits of ASCII alone count."""
    def convert(value: str) -> Any:
        try:
            if not re.fullmatch(r"[-+0-9.eE]+|[-+]?(?:nan|inf)", value):
                raise ValueError
            result = kind(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{value}' is not {text}") from None
        if not low <= result <= high:  # false for nan as well
            raise argparse.ArgumentTypeError(f"{value} is not {text}")
        return result

    return convert


def truth(value: str) -> bool:
    """Return True or False of the words true and false; an argparse type."""
    if value.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{value}' is neither True nor False")
    return value.lower() == "true"


positive_int = number(int, 1, 2**40, "a whole number from 1 up")
natural = number(int, 0, 2**40, "a whole number from 0 up")
fraction = number(float, 0, 1, "a number from 0 to 1")
nonnegative = number(float, 0, 1e30, "a number from 0 up")
positive_float = number(float, 1e-30, 1e30, "a number above 0")
seed = number(int, 0, 2**32 - 1, "a whole number from 0 to 4294967295")
real = number(float, -1e30, 1e30, "a finite number")
