"""Hostile surroundings of any command: streams, homes, full disks, altered artefacts, two at once, a kill."""

import json
import os
import random
import signal
import threading
import time
import zlib

from forked import CLOSED, start

from . import judge
from .cases import kind, label, mounted
from .judge import EITHER, ERROR, SAME, SOUND
from .sandbox import MEMORY, tree


def leave(box):
    """Give a standard output whose reader has gone: `| head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    box.options["stdout"] = os.fdopen(writing, "wb")


@kind
def streams(command):
    """Standard streams that are closed, full or left. Printing may fail; the work may not, or the status says so."""
    lost = SOUND if command.prints else EITHER
    yield "stdin_closed", lambda box: box.options.update(stdin=CLOSED), SAME
    yield "stdout_closed", lambda box: box.options.update(stdout=CLOSED), lost
    yield "stderr_closed", lambda box: box.options.update(stderr=CLOSED), SAME
    yield "all_closed", lambda box: box.options.update(stdin=CLOSED, stdout=CLOSED, stderr=CLOSED), lost
    yield "reader_left", leave, lost
    yield "reader_left_unbuffered", lambda box: (leave(box), box.options.update(unbuffered=True)), lost
    yield ("stdout_full", lambda box: box.options.update(stdout=open("/dev/full", "wb")),  # noqa: SIM115
           ERROR if command.prints else EITHER)


@kind
def surroundings(command):
    """A home or a TMPDIR that cannot be written, and what launchers put into the environment."""
    for name, home in (("file", "in/x"), ("missing", "home"), ("none", None)):
        def prepare(box, home=home):
            (box.root / "in" / "x").write_text("x")
            box.env["HOME"] = home and str(box.root / home / "user")
        yield f"home_{name}", prepare, SAME, {"slow": True}
    yield "tmpdir_missing", lambda box: box.env.update(TMPDIR=str(box.root / "nothing")), EITHER
    yield "tmpdir_full", lambda box: (mounted(box, box.root / "tmp", "64k"), fill(box.root / "tmp")), EITHER
    for name, values in (("PADDLE_TRAINERS_NUM", ("", "x", "2", "0")), ("PADDLE_TRAINER_ID", ("5", "x"))):
        for value in values:
            yield (f"{name}-{value or 'none'}", lambda box, n=name, v=value: (
                box.env.update({n: v}), box.options.update(fresh=False)), EITHER)


def fill(directory):
    """Write until a file system is full."""
    with open(directory / "filled", "wb", 0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass


def without_room(box, attempt):
    """No room: an error that names a file of ours or TMPDIR, whole files as they were; with room again the ordinary result."""
    box.options["timeout"] = 20  # work without end, as a loop that waits for room, is not unheard of
    done, wrong = attempt(forgiven=("out/",))
    if wrong or done.returncode == 0:
        return wrong
    said = done.stderr.strip().splitlines()[-1]
    if "out" not in said and str(box.root / "tmp") not in said:  # what is made on the way lies in the latter
        return f"names no output: {said[:160]}"
    box.unmount()
    box.options.pop("limits", None)
    box.add(*box.command.again.split())
    return attempt(expect=SAME)[1]


@kind
def no_room(command):
    """A full disk, and files that may not grow (`ulimit -f`)."""
    if not command.of("out", "outdir"):
        return
    for size in (100, 1000, 20000):
        yield (f"file_size-{size}", lambda box, n=size: box.options.update(limits={"RLIMIT_FSIZE": n}), EITHER,
               {"act": without_room})
    yield "full", lambda box: (mounted(box, box.root / "out", "64k"), fill(box.root / "out")), EITHER, {"act": without_room}
    yield "nearly_full", lambda box: mounted(box, box.root / "out", "48k"), EITHER, {"act": without_room}


# Which command shows best what an altered artefact does: all alterations go through it, a few through the others.
SHOWN_BY = {"checkpoint": "inference", "index": "recall_again", "hnsw": "recall_hnsw", "export": "deploy", "ranked": "rank_again",
            "vectors": "evaluate_vectors", "collection": "run_ann_data_gen", "training": "resume", "ance": "resume_ance"}


def alter(data, how, place):
    """Return bytes with one altered, taken away or put in."""
    if how == "flip":
        return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1:]
    return {"cut": data[:place], "add": data + b"0", "insert": data[:place] + b"1" + data[place:], "zero": b""}[how]


def alterations(file, size, all_of_them):
    """Yield how and where to alter a file, the same for every run."""
    rng = random.Random(zlib.crc32(file.encode()))
    places = sorted({0, size // 2, size - 1, *(rng.randrange(size) for _ in range(3))}) if size else []
    yield from (("flip", place) for place in (places if all_of_them else places[len(places) // 2:][:1]))
    if all_of_them:
        yield from (("cut", place) for place in {size - 1, size // 2} if place > 0)
        yield from (("add", 0), ("insert", size // 2), ("zero", 0))


@kind
def altered(command, material):
    """One byte of a checkpoint, an index, an export or a collection is another: refused, or the ordinary result."""
    for slot in command.of("dir", "both"):
        directory = material / slot.value
        shown = SHOWN_BY.get(slot.value) == command.name
        newest = os.path.basename(os.path.realpath(directory / "latest")) if slot.kind == "both" else ""
        for path in sorted(path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()):
            file = str(path.relative_to(directory))
            if (file.startswith(("best/", "latest/", "visualdl/")) and command.name != "plot_training"
                    or file.startswith("model_") and newest and not file.startswith(newest)):
                continue
            for how, place in alterations(file, path.stat().st_size, shown):
                def prepare(box, slot=slot, file=file, how=how, place=place):
                    target = box.path(slot) / file
                    target.write_bytes(alter(target.read_bytes(), how, place))
                yield f"{label(slot)}-{file}-{place}-{how}", prepare, EITHER, {"slow": not shown, "part": f"{slot.value}/{path.name}"}
            if shown:
                yield f"{label(slot)}-{file}-gone", lambda box, s=slot, f=file: (box.path(s) / f).unlink(), EITHER
                yield (f"{label(slot)}-{file}-pipe", lambda box, s=slot, f=file: (
                    (box.path(s) / f).unlink(), os.mkfifo(box.path(s) / f)), EITHER, {"slow": True})


def wrong_values(value):
    """Yield values of a wrong type or size for a setting."""
    if isinstance(value, bool):
        return ["yes"]
    if isinstance(value, (int, float)):
        return [str(value), -1, 10**6]
    return ["foo", 5] if isinstance(value, str) else ["foo"]


@kind
def settings(command, material):
    """Settings of a wrong type or value in the JSON files of an artefact."""
    for slot in command.of("dir"):
        if SHOWN_BY.get(slot.value) != command.name:
            continue
        for path in sorted((material / slot.value).glob("*.json")):
            known = json.loads(path.read_text(encoding="utf-8"))
            for key in known if isinstance(known, dict) and len(known) < 40 and path.stat().st_size < 4000 else ():
                for number, value in enumerate(wrong_values(known[key])):
                    def prepare(box, slot=slot, file=path.name, key=key, value=value):
                        target = box.path(slot) / file
                        told = json.loads(target.read_text(encoding="utf-8"))
                        target.write_text(json.dumps(told | {key: value}), encoding="utf-8")
                    yield f"{label(slot)}-{path.name}-{key}-{number}", prepare, EITHER, {"slow": number > 0}


def two_at_once(box, attempt):
    """The same command twice at the same time: one ordinary result, and none that fails in another way than refused."""
    found = []
    before = tree(box.root)
    threads = [threading.Thread(target=lambda: found.append(box.run())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong = next(filter(None, (judge.of_status(done, EITHER) for done in found)), "")
    if not wrong and all(done.returncode for done in found):
        wrong = "both refused"
    return wrong or judge.of_files(box, before, tree(box.root), False) or judge.of_result(
        box.result(max(found, key=lambda done: -done.returncode)), box.ordinary)


def killed_then_again(share):
    """Return what kills a run after a share of its usual time, and runs it again."""
    def act(box, attempt):
        began = time.monotonic()
        process = start(box.words, cwd=box.root, env=box.env, limits={"RLIMIT_DATA": MEMORY})
        try:
            process.wait(max(0.01, share * box.seconds - (time.monotonic() - began)))
        except Exception:  # subprocess.TimeoutExpired
            process.send_signal(signal.SIGKILL)
            process.wait()
        box.add(*box.command.again.split())
        return attempt(expect=SAME)[1]
    return act


@kind
def interrupted(command):
    """Two at once, and a kill with another run after it."""
    if not command.of("out", "outdir", "both"):
        return
    for number in range(3):
        yield f"twice-{number}", lambda box: None, EITHER, {"act": two_at_once, "slow": True}
    for share in (0.5, 0.7, 0.8, 0.9, 0.95):
        yield f"killed-{share}", lambda box: None, SAME, {"act": killed_then_again(share), "slow": True}
