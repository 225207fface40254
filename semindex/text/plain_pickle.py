"""Pickles of plain data and numpy arrays, read without the pickle module: nothing that a file names is ever called.

The module pickle imports what a file names and calls it with the file's arguments. Here a name is a key of the table
CALLS, and whatever is not in it is refused. Numpy's own __setstate__ is not trusted either: it takes a pickled object
type for memory addresses. What is allocated is bounded by the file's size, whatever lengths the file claims.
"""

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import numpy as np

# Values of a file at most: an encoder of 48 layers with its optimizer has some 100,000.
MOST = 5_000_000
HIGHEST_PROTOCOL = 5


class Refused(Exception):
    """A file that is not read, and why; the text goes on behind the file's name."""


class Damaged(Refused):
    """A file that is truncated, altered or no pickle."""


@dataclass(frozen=True)
class Name:
    """A function or class that a file names. It stands for itself and is not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}".encode("unicode_escape").decode()


class Kind:
    """A numpy type of numbers; BUILD sets its byte order."""

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?[biufc]\d{1,2}", code):
            raise Refused(f"holds an array of the type {code!r:.40}, which is no number")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """Take the byte order of numpy's state; fields, subarrays and objects are refused."""
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise Refused("holds an array of a type with fields")
        self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """An array of the file: a view of its bytes, read-only."""

    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = np.empty(0, np.int8) if value is None else value
        self.made: Any = None  # for the reader, who may keep here what he makes of it, and let `value` go

    def build(self, state: Any) -> None:
        """Take numpy's state: version, shape, type, whether by columns, bytes."""
        _, shape, kind, columns, content = state
        self.fill(content, kind, shape, "F" if columns else "C")

    def fill(self, content: Any, kind: Any, shape: Any, order: str) -> "Array":
        """Set shape and content, which must be as many bytes as the shape says; no copy."""
        if isinstance(content, str):  # written by Python 2
            content = content.encode("latin1")
        if not isinstance(kind, Kind) or not isinstance(content, bytes):
            raise Refused("holds an array of objects")
        if not isinstance(shape, tuple) or len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape):
            raise Damaged("an array has no shape")
        if prod(shape) * kind.dtype.itemsize != len(content):
            raise Damaged(f"an array of shape {list(shape)!s:.60} and type {kind.dtype} holds {len(content)} bytes")
        self.value = np.frombuffer(content, kind.dtype).reshape(shape, order="F" if order == "F" else "C")
        return self


def _scalar(kind: Any, content: Any) -> Any:
    return Array().fill(content, kind, (), "C").value[()]


def _reconstruct(subtype: Any, *_: Any) -> Array:
    if subtype != Name("numpy", "ndarray"):
        raise Refused(f"holds an array of the class {subtype!s:.60}")
    return Array()


def _lod_tensor(expression: Any = None, names: Any = None, *_: Any) -> Any:
    # A tensor of a static graph is saved as eval('data', {'data': array}): that very form is known, nothing evaluated.
    if expression != "data" or not isinstance(names, dict) or list(names) != ["data"] or (
            not isinstance(names["data"], Array)):
        raise Refused("names builtins.eval")
    return names["data"]


def _bytes(text: str = "", encoding: str = "latin1") -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise Refused("names _codecs.encode with something else than text as bytes")
    return text.encode("latin1")


def _keys(values: Any) -> Any:
    # Texts and numbers alone: the hash of a tuple in a tuple in a tuple and so on ends the process.
    if any(not isinstance(value, (str, bytes, int, float, type(None))) for value in values):
        raise Refused("holds a key that is neither text nor number")
    return values


def _pairs(pairs: Any = ()) -> dict[Any, Any]:
    return dict(zip(_keys([key for key, _ in pairs]), [value for _, value in pairs]))


def _class(*_: Any) -> Any:
    raise Refused("calls a class that is no function")


# What a file may name, and what it means here. Python 2 and numpy 2 have other names for some.
CALLS: dict[Name, Callable[..., Any]] = {
    Name("collections", "OrderedDict"): _pairs,
    Name("_codecs", "encode"): _bytes,
    Name("numpy", "dtype"): lambda code, *_: Kind(code),
    Name("numpy", "ndarray"): _class,  # an argument of _reconstruct
}
for _module in ("builtins", "__builtin__"):
    CALLS |= {Name(_module, "tuple"): lambda values=(): tuple(values),
              Name(_module, "set"): lambda values=(): set(_keys(values)),
              Name(_module, "bytes"): lambda: b"", Name(_module, "eval"): _lod_tensor}
for _module in ("numpy.core", "numpy._core"):
    CALLS |= {Name(f"{_module}.multiarray", "_reconstruct"): _reconstruct,
              Name(f"{_module}.multiarray", "scalar"): _scalar,
              Name(f"{_module}.numeric", "_frombuffer"): lambda content, kind, shape, order:
                  Array().fill(content, kind, shape, order)}

_MARK = object()


class _Machine:
    """Pickle's stack machine, but for what makes objects of classes."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left, self.copies = file, size, size + 1000
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def take(self, count: int) -> bytes:
        """Return the next bytes of the file; Damaged where it has fewer, before anything is allocated."""
        if not 0 <= count <= self.left:
            raise Damaged(f"it ends {count - self.left} bytes too early" if count > 0 else "a length is negative")
        self.left -= count
        return self.file.read(count)

    def number(self, form: str) -> Any:
        """Return a number of struct's form."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """Return the text up to the end of the line, a name's part."""
        text = b""
        while not text.endswith(b"\n"):
            text += self.take(1)
            if len(text) > 1000:
                raise Damaged("a name of more than 1000 characters")
        return text[:-1].decode()

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        """Take what stands behind the last mark off the stack."""
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def pop(self, count: int) -> tuple[Any, ...]:
        """Take so many values off the stack; IndexError where there are fewer."""
        return tuple([self.stack.pop() for _ in range(count)][::-1])

    def name(self, module: Any, name: Any) -> None:
        """Put a known name on the stack; Refused for every other."""
        found = Name(module, name)
        if not isinstance(module, str) or not isinstance(name, str) or found not in CALLS:
            raise Refused(f"names {found!s:.100}")
        self.push(found)

    def call(self) -> None:
        """Do what a known name means with its arguments."""
        name, arguments = self.pop(2)
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise Damaged("a call of what is no name")
        # Functions copy what they are given; one text or list given a thousand times would be a thousand copies.
        self.copies -= sum(len(value) for value in arguments if isinstance(value, (str, bytes, list, tuple)))
        if self.copies < 0:
            raise Refused("holds more in memory than on the disk")
        self.push(CALLS[name](*arguments))

    def build(self) -> None:
        """Give an array or type its state."""
        (state,) = self.pop(1)
        if not isinstance(self.stack[-1], (Array, Kind)):
            raise Refused(f"holds an object of its own (a state for {type(self.stack[-1]).__name__})")
        self.stack[-1].build(state)

    def extend(self, values: list[Any]) -> None:
        """Add to the list or set below."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)
        elif isinstance(self.stack[-1], set):
            self.stack[-1].update(_keys(values))
        else:
            raise Damaged("additions to what is no list")

    def set_items(self, values: list[Any]) -> None:
        """Add to the dictionary below."""
        if not isinstance(self.stack[-1], dict) or len(values) % 2:
            raise Damaged("items for what is no dictionary")
        self.stack[-1].update(zip(_keys(values[::2]), values[1::2]))

    def run(self) -> Any:
        """Read the file and return its value."""
        for _ in range(MOST):
            code = self.take(1)
            if code == b".":
                if len(self.stack) != 1 or self.left:
                    raise Damaged("something follows its end")
                return self.stack[0]
            if code not in _STEPS:
                raise Damaged(f"the byte {code!r} is no instruction for plain data")
            _STEPS[code](self)
        raise Refused(f"holds more than {MOST} values")


def _protocol(machine: _Machine) -> None:
    version = machine.number("<B")
    if not 2 <= version <= HIGHEST_PROTOCOL:
        raise Damaged(f"pickle's protocol {version} is unknown")


def _integer(form: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(int.from_bytes(m.take(m.number(form)), "little", signed=True))


def _text(form: str, decode: tuple[str, str]) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.take(m.number(form)).decode(*decode))


def _content(form: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.take(m.number(form)))


_UTF8, _LATIN1 = ("utf-8", "surrogatepass"), ("latin1", "strict")
_STEPS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": _protocol,
    b"\x95": lambda m: m.number("<Q"),  # a frame: its parts are checked one by one
    b"N": lambda m: m.push(None), b"\x88": lambda m: m.push(True), b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number("<B")), b"M": lambda m: m.push(m.number("<H")),
    b"J": lambda m: m.push(m.number("<i")), b"\x8a": _integer("<B"), b"\x8b": _integer("<i"),
    b"G": lambda m: m.push(m.number(">d")),
    b"X": _text("<I", _UTF8), b"\x8c": _text("<B", _UTF8), b"\x8d": _text("<Q", _UTF8),
    b"U": _text("<B", _LATIN1), b"T": _text("<i", _LATIN1),
    b"B": _content("<I"), b"C": _content("<B"), b"\x8e": _content("<Q"), b"\x96": _content("<Q"),
    b"(": lambda m: m.push(_MARK),
    b"]": lambda m: m.push([]),
    b"a": lambda m: m.extend(list(m.pop(1))), b"e": lambda m: m.extend(m.since_mark()),
    b")": lambda m: m.push(()), b"t": lambda m: m.push(tuple(m.since_mark())),
    b"\x85": lambda m: m.push(m.pop(1)), b"\x86": lambda m: m.push(m.pop(2)), b"\x87": lambda m: m.push(m.pop(3)),
    b"}": lambda m: m.push({}),
    b"s": lambda m: m.set_items(list(m.pop(2))), b"u": lambda m: m.set_items(m.since_mark()),
    b"\x8f": lambda m: m.push(set()), b"\x90": lambda m: m.extend(m.since_mark()),
    b"\x91": lambda m: m.push(frozenset(_keys(m.since_mark()))),
    b"q": lambda m: m.memo.update({m.number("<B"): m.stack[-1]}),
    b"r": lambda m: m.memo.update({m.number("<I"): m.stack[-1]}),
    b"\x94": lambda m: m.memo.update({len(m.memo): m.stack[-1]}),
    b"h": lambda m: m.push(m.memo[m.number("<B")]), b"j": lambda m: m.push(m.memo[m.number("<I")]),
    b"c": lambda m: m.name(m.line(), m.line()), b"\x93": lambda m: m.name(*m.pop(2)),
    b"R": lambda m: m.call(), b"b": lambda m: m.build(),
}


def load(file: BinaryIO) -> Any:
    """Return what a pickle holds: None, numbers, texts, bytes, list, tuple, dict, set, and Array for numpy's arrays.

    Raises Refused for a file that names anything beyond CALLS, Damaged for one that is not whole or no pickle.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        return _Machine(file, size).run()
    except Refused:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, struct.error, RecursionError, MemoryError) as error:
        raise Damaged(f"{type(error).__name__}") from None
