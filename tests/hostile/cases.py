"""Hostile variants of any command, derived from its slots: how flags, texts, streams and surroundings can be wrong."""

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass

from forked import CLOSED

from .commands import INPUTS, Command
from .judge import EITHER, ERROR, SAME, SOUND
from .sandbox import Sandbox

Prepare = Callable[[Sandbox], object]


class CannotTest(Exception):
    """Raised where this machine lacks what a case needs: a mount, a device node."""


@dataclass(frozen=True)
class Case:
    """A command and what is done to it. prepare: alters the sandbox before the command starts; act(box, attempt): where
    it is more than one run: calls attempt() for a run, which returns the finished process and what is wrong with it, and
    returns what is wrong; slow: not in the part that CI runs; part: of what is tried, each has a case in CI.
    """

    command: Command
    kind: str
    variant: str
    prepare: Prepare
    expect: str
    act: Callable | None = None
    slow: bool = False
    part: str = ""

    @property
    def name(self):
        """SCRIPT/KIND/VARIANT, without a space."""
        return f"{self.command.name}/{self.kind}/{self.variant}".replace(" ", "_")


KINDS = {}


def kind(function):
    """Register a function(command) that yields variant, what prepares it, what is expected, and options of Case."""
    KINDS[function.__name__] = function
    return function


def label(slot):
    """Name a slot in a case's name."""
    return f"{slot.flag.lstrip('-')}.{slot.place}" if slot.kind == "words" else slot.flag.lstrip("-")


def node(path, minor):
    """Make a device node like /dev/null (minor 3) or /dev/full (7): the real ones must not be at a command's mercy."""
    try:
        os.mknod(path, 0o20666, os.makedev(1, minor))
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        raise CannotTest("no device nodes here") from None


def mounted(box, path, size):
    """Mount a tmpfs or say that it cannot be."""
    if not box.mount(path, size):
        raise CannotTest("no mounts here")


def pack(box, slot, end=None):
    """Give an input as a .gz, cut at a byte where one is named."""
    path = box.path(slot)
    packed = gzip.compress(path.read_bytes(), mtime=0)
    path.with_name(path.name + ".gz").write_bytes(packed[:end])
    box.set(slot, slot.word + ".gz")


def rewrite(box, slot, change):
    """Change the bytes of an input."""
    path = box.path(slot)
    path.write_bytes(change(path.read_bytes()))


def rename(box, slot, name):
    """Give an input under another name."""
    os.rename(box.path(slot), box.root / "in" / name)
    box.set(slot, f"in/{name}")


def replace(box, slot, make):
    """Put something else in an input's place."""
    box.path(slot).unlink()
    make(box.path(slot))


def feed(box, *slots):
    """Type `-` in place of inputs and feed the first of them."""
    box.options |= {"input": box.path(slots[0]).read_bytes()}
    for slot in slots:
        box.set(slot, "-")


@kind
def texts(command):
    """What is wrong with an input file, and forms of it that are right."""
    same = EITHER if "--resume" in command.line else SAME  # which wants the very data
    for slot in command.of("text"):
        name = label(slot)
        yield f"{name}-missing", lambda box, s=slot: box.set(s, "in/nothing"), ERROR
        yield f"{name}-empty", lambda box, s=slot: rewrite(box, s, lambda _: b""), ERROR
        yield f"{name}-blank", lambda box, s=slot: rewrite(box, s, lambda _: b"\n \n\t\n"), ERROR
        yield f"{name}-directory", lambda box, s=slot: replace(box, s, os.mkdir), ERROR
        yield f"{name}-gbk", lambda box, s=slot: rewrite(box, s, lambda b: b + "卡丢了\t卡\n".encode("gbk")), ERROR
        yield f"{name}-binary", lambda box, s=slot: rewrite(box, s, lambda _: bytes(range(256)) * 9), ERROR
        yield f"{name}-cut_gz", lambda box, s=slot: pack(box, s, -9), ERROR
        yield f"{name}-no_gz", lambda box, s=slot: rename(box, s, "plain.gz"), ERROR if same == SAME else SOUND
        yield f"{name}-gz", lambda box, s=slot: pack(box, s), same
        yield f"{name}-windows", lambda box, s=slot: rewrite(
            box, s, lambda b: b"\xef\xbb\xbf" + b.replace(b"\n", b"\r\n")), EITHER
        yield f"{name}-no_end", lambda box, s=slot: rewrite(box, s, lambda b: b.rstrip(b"\n")), EITHER
        yield f"{name}-raw_name", lambda box, s=slot: rename(box, s, "\udcff.csv"), same
        yield f"{name}-null", lambda box, s=slot: (node(box.root / "in/null", 3), box.set(s, "in/null")), ERROR
        yield f"{name}-pipe", lambda box, s=slot: replace(box, s, os.mkfifo), ERROR, {"slow": True}
        yield (f"{name}-dash", lambda box, s=slot: feed(box, s),
               ERROR if command.several and slot.flag == "--corpus_file" else same)
        yield f"{name}-dash_closed", lambda box, s=slot: (box.set(s, "-"), box.options.update(stdin=CLOSED)), ERROR
        yield f"{name}-dash_empty", lambda box, s=slot: box.set(s, "-"), ERROR
        yield f"{name}-no_word", lambda box, s=slot: box.set(s, ""), ERROR
    pairs = command.of("text")
    for first, second in zip(pairs, pairs[1:]):
        yield (f"two_dashes-{label(first)}-{label(second)}",
               lambda box, a=first, b=second: feed(box, a, b), ERROR)


@kind
def artefacts(command):
    """A checkpoint, an index, an export or a collection that is not there, or is something else."""
    for slot in command.of("dir"):
        name = label(slot)
        yield f"{name}-missing", lambda box, s=slot: box.set(s, "in/nothing"), ERROR if slot.flag != "--index_dir" else SOUND
        yield f"{name}-file", lambda box, s=slot: (os.rename(box.path(s), box.root / "in/x"), box.path(s).write_text("x")), ERROR
        yield f"{name}-no_word", lambda box, s=slot: box.set(s, ""), ERROR
        yield f"{name}-slash", lambda box, s=slot: box.set(s, s.word + "/"), SAME
        yield f"{name}-raw_name", lambda box, s=slot: rename(box, s, "\udcff"), EITHER
    for slot in command.of("file"):
        yield f"{label(slot)}-missing", lambda box, s=slot: box.set(s, "in/nothing"), ERROR
        yield f"{label(slot)}-no_word", lambda box, s=slot: box.set(s, ""), ERROR


def inside(box, slot):
    """Return a file of an input: itself, or the first one in the directory."""
    path = box.path(slot)
    return sorted(p for p in path.rglob("*") if p.is_file())[0] if path.is_dir() else path


@kind
def over_inputs(command):
    """An output over an input, under its name or another; two outputs of one name."""
    for slot in command.of("out"):
        for other in command.of(*INPUTS):
            name = f"{label(slot)}-{label(other)}"
            yield (f"{name}-name", lambda box, s=slot, o=other: box.set(s, inside(box, o).relative_to(box.root)), ERROR)
            yield (f"{name}-long_way",
                   lambda box, s=slot, o=other: box.set(s, f"out/../{inside(box, o).relative_to(box.root)}"), ERROR)
            for how in ("symlink", "link"):
                yield (f"{name}-{how}", lambda box, s=slot, o=other, h=how:
                       getattr(os, h)(inside(box, o).resolve(), box.path(s)), ERROR)
    for slot in command.of("outdir"):
        for other in command.of("dir"):
            yield (f"{label(slot)}-{label(other)}-name", lambda box, s=slot, o=other: box.set(s, o.word), SOUND)
            yield (f"{label(slot)}-{label(other)}-symlink",
                   lambda box, s=slot, o=other: os.symlink(box.path(o), box.path(s)), SOUND)
        for other in command.of("text"):
            yield (f"{label(slot)}-{label(other)}-same", lambda box, s=slot, o=other: box.set(s, o.word), ERROR)
    outputs = command.of("out", "outdir")
    for first, second in zip(outputs, outputs[1:]):
        yield (f"two_outputs-{label(first)}-{label(second)}",
               lambda box, a=first, b=second: box.set(b, a.word), ERROR)


def guard(box, *paths):
    """Put files of the user's there: nothing may happen to them."""
    for path in paths:
        os.makedirs(os.path.dirname(box.root / path), exist_ok=True)
        (box.root / path).write_text('{"mine": 1}\n', encoding="utf-8")
    box.guarded |= set(paths)


def plain(box):
    """Put a file there that a path cannot lead through."""
    (box.root / "in" / "plain").write_text("x")


@kind
def output_files(command):
    """An output file whose path or place is odd."""
    for slot in command.of("out"):
        name, due = label(slot), SOUND if slot.flag in command.spare else ERROR
        for case, word in (("no_word", ""), ("dot", "."), ("up", "nope/.."), ("slash", slot.word + "/"),
                           ("in_a_file", "in/plain/x"), ("long", "out/" + "x" * 300)):
            yield f"{name}-{case}", lambda box, s=slot, w=word: (plain(box), box.set(s, w)), due
        yield f"{name}-directory", lambda box, s=slot: os.mkdir(box.path(s)), due
        yield f"{name}-new_directory", lambda box, s=slot: box.set(s, "out/new/er/" + s.value), SOUND
        yield f"{name}-raw_name", lambda box, s=slot: box.set(s, "out/\udcff"), SOUND
        yield f"{name}-gz", lambda box, s=slot: box.set(s, s.word + ".gz"), SOUND, {"act": check_gz}
        yield f"{name}-full", lambda box, s=slot: node(box.path(s), 7), due
        yield f"{name}-link_to_full", lambda box, s=slot: (node(box.root / "full", 7), os.symlink("../full", box.path(s))), due
        yield f"{name}-null", lambda box, s=slot: node(box.path(s), 3), SOUND
        yield f"{name}-pipe", lambda box, s=slot: os.mkfifo(box.path(s)), ERROR, {"slow": True}
        yield f"{name}-link", lambda box, s=slot: ((box.root / "mine").write_text("old\n"),
                                                  os.symlink("../mine", box.path(s))), SOUND, {"act": check_link}
        yield f"{name}-neighbours", lambda box, s=slot: guard(box, *(s.word + end for end in (
            ".partial", ".old", ".tmp", ".progress", ".lock", "~"))), SOUND


def check_gz(box, attempt):
    """An output called .gz is gzip, or is refused."""
    done, wrong = attempt()
    path = next(box.root.glob("out/*.gz"), None)
    if not wrong and done.returncode == 0 and path and path.read_bytes()[:2] != b"\x1f\x8b":
        wrong = "plain text in a file called .gz"
    return wrong


def check_link(box, attempt):
    """A symbolic link stays one, and its target takes the result."""
    before = (box.root / "mine").read_bytes()
    done, wrong = attempt()
    if not wrong and done.returncode == 0 and (box.root / "mine").read_bytes() == before:
        wrong = "the link was replaced, not followed"
    return wrong


@kind
def output_directories(command):
    """An output directory whose path or place is odd, or that holds the user's own files."""
    for slot in command.of("outdir"):
        name = label(slot)
        yield f"{name}-no_word", lambda box, s=slot: box.set(s, ""), ERROR
        for case, word in (("dot", "."), ("up", "nope/.."), ("home_up", "nope/../out"), ("inputs", "in")):
            yield (f"{name}-{case}", lambda box, s=slot, w=word: (guard(box, "note.txt", "out/note.txt"), box.set(s, w)), SOUND)
        yield f"{name}-in_a_file", lambda box, s=slot: (plain(box), box.set(s, "in/plain/x")), ERROR
        yield f"{name}-file", lambda box, s=slot: box.path(s).write_text("x"), ERROR
        yield f"{name}-long", lambda box, s=slot: box.set(s, "out/" + "x" * 300), ERROR
        yield f"{name}-slash", lambda box, s=slot: box.set(s, s.word + "/"), SAME
        yield f"{name}-new_directory", lambda box, s=slot: box.set(s, "out/new/er/" + s.value), SOUND
        yield f"{name}-raw_name", lambda box, s=slot: box.set(s, "out/\udcff"), SOUND
        yield f"{name}-empty", lambda box, s=slot: os.mkdir(box.path(s)), SAME
        yield f"{name}-link", lambda box, s=slot: (os.mkdir(box.root / "out/real"), os.symlink("real", box.path(s))), SOUND
        yield f"{name}-pipe", lambda box, s=slot: os.mkfifo(box.path(s)), ERROR, {"slow": True}
        yield f"{name}-neighbours", lambda box, s=slot: guard(box, *(f"{s.word}{end}/note.txt" for end in (
            ".partial", ".old", ".tmp", "~"))), SOUND
        for held in ("note.txt", "manifest.json", "index.json", "collection.json", "semantic_index.json", "train.csv"):
            yield f"{name}-holds_{held}", lambda box, s=slot, h=held: guard(box, f"{s.word}/{h}", f"{s.word}/photos/1"), SOUND
        yield f"{name}-mount", lambda box, s=slot: mounted(box, box.path(s), "16m"), SAME


WRONG_WHOLE, LARGE = ("-1", "٣", "²", "nan", "1.5", "1_0", "0x10", ""), ("0", "1099511627776", "9223372036854775808")
WRONG_REAL, ODD_REAL = ("nan", "٣", "inf", "1e400", "²", ""), ("0", "-1", "1e30")


@kind
def numbers(command):
    """Numbers that are none, digits of other scripts, and sizes beyond all memory."""
    slots = [(slot.flag, slot) for slot in command.of("whole", "real")]
    flags = [(flag, None) for flag in (*command.whole.split(), *command.real.split())]
    for flag, slot in slots + flags:
        whole = slot.kind == "whole" if slot else flag in command.whole.split()
        wrong, odd = (WRONG_WHOLE, LARGE) if whole else (WRONG_REAL, ODD_REAL)
        for value in (wrong if slot else wrong[:2]) + odd:  # flags of one type are read by one function
            def prepare(box, flag=flag, slot=slot, value=value):
                box.set(slot, value) if slot else box.add(f"{flag}={value}")
            yield f"{flag.lstrip('-')}-{ascii(value)[1:-1] or 'none'}", prepare, ERROR if value in wrong else SOUND


@kind
def arguments(command):
    """Free text that is no valid UTF-8, or empty; the same under the C locale."""
    for slot in command.of("words"):
        yield f"{label(slot)}-raw", lambda box, s=slot: box.set(s, "\udcff\udcfe"), ERROR
        yield f"{label(slot)}-empty", lambda box, s=slot: box.set(s, ""), ERROR
        yield f"{label(slot)}-blank", lambda box, s=slot: box.set(s, " "), ERROR
    if command.of("words"):
        for name, env in (("c_locale", {}), ("ascii", {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})):
            yield (name, lambda box, e=env: box.env.update({"LC_ALL": "C"} | e), EITHER if name == "ascii" else SAME,
                   {"slow": True})
    yield "unknown_flag", lambda box: box.add("--no_such_flag"), ERROR
    yield "raw_flag", lambda box: box.add("--\udcff"), ERROR
    yield "stray_word", lambda box: box.add("\udcff"), ERROR if not command.of("words") else SOUND
