"""Cases to verdicts: each runs in a sandbox of its own, several at once."""

import contextlib
import inspect
import shutil
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from . import contents, hardships  # noqa: F401  they register kinds
from .cases import KINDS, CannotTest, Case
from .commands import TABLE
from .judge import SAME, judge
from .sandbox import Sandbox, tree


def cases(material, script="*", name="*"):
    """Return the cases of scripts whose name matches, and whose own name does."""
    found = []
    for command in TABLE:
        if not fnmatch(command.name, script):
            continue
        for kind, derive in KINDS.items():
            given = [command, material][: len(inspect.signature(derive).parameters)]
            for variant, prepare, expect, *options in derive(*given):
                found.append(Case(command, kind, variant, prepare, expect, **(options[0] if options else {})))
    return [case for case in found if fnmatch(case.name, name) or name in case.name]


@dataclass
class Verdict:
    """What a case came to. wrong: '' where it held; skipped: why it could not be tried."""

    case: Case
    wrong: str
    typed: list
    seconds: float
    skipped: str = ""


class Runner:
    """Runs cases. The ordinary result of a command is made when it is first asked for."""

    def __init__(self, material):
        self.material = Path(material)
        self._ordinary = {}
        self._lock = threading.Lock()
        self._places = tempfile.mkdtemp(prefix="hostile-")

    def ordinary(self, command):
        """Return the result that is the same in two ordinary runs, and the seconds of one."""
        with self._lock:
            lock = self._ordinary.setdefault(command.name, [threading.Lock(), None])
        with lock[0]:
            if lock[1] is None:
                results = []
                for place in ("ordinary", "ordinary too"):
                    box = Sandbox(command, self.material, f"{self._places}/{command.name} {place}")
                    before, began = tree(box.root), time.monotonic()
                    done = box.run()
                    seconds = time.monotonic() - began
                    wrong = judge(box, done, before, tree(box.root), SAME, {})
                    assert not wrong, f"the ordinary command {command.words}: {wrong}\n{done.stdout}{done.stderr}"
                    results.append(box.result(done))
                    box.remove()
                one, two = results
                lock[1] = {name: content for name, content in one.items() if two.get(name) == content}, seconds
            return lock[1]

    def __call__(self, case):
        """Run a case."""
        began = time.monotonic()
        try:
            ordinary, seconds = self.ordinary(case.command)
        except AssertionError as error:
            return Verdict(case, str(error), case.command.words, 0)
        box = Sandbox(case.command, self.material, f"{self._places}/{threading.get_ident()}")
        box.ordinary, box.seconds = ordinary, seconds

        def attempt(expect=case.expect, forgiven=()):
            before = tree(box.root)
            done = box.run()
            after = {path: content for path, content in tree(box.root).items()
                     if path in before or not done.returncode or not path.startswith(forgiven or "\0")}
            return done, judge(box, done, before, after, expect, ordinary)

        try:
            case.prepare(box)
            wrong = case.act(box, attempt) if case.act else attempt()[1]
            return Verdict(case, wrong, box.words, time.monotonic() - began)
        except CannotTest as reason:
            return Verdict(case, "", box.words, 0, str(reason))
        finally:
            for stream in box.options.values():
                with contextlib.suppress(AttributeError, OSError):
                    stream.close()
            box.remove()

    def all(self, chosen, jobs=1):
        """Yield the verdicts of cases in their order, `jobs` at a time."""
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(self, chosen)

    def close(self):
        """Remove what is left."""
        shutil.rmtree(self._places, ignore_errors=True)


def choose(found):
    """Return the part for CI: each variant of each kind once, each kind of each script, nothing slow; in their order."""
    chosen, seen = set(), set()
    for case in sorted(found, key=lambda case: zlib.crc32(case.name.encode())):  # spread over the scripts
        keys = {(case.kind, case.variant.rpartition("-")[2], case.expect), (case.command.like or case.command.name, case.kind, case.part)}
        if not case.slow and not keys <= seen:
            chosen.add(case.name)
            seen |= keys
    return [case for case in found if case.name in chosen]
