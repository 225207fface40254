"""Kill a service while it is written to, again and again, and count what was acknowledged and is lost.

    python deploy/load_test/kills.py --faq_dir FAQ --kills 25 --writes 20

Starts serve.py --supervise on a directory of its own, sends additions, changes and removals at a steady rate, kills the
worker with SIGKILL, waits until it is back by itself, and looks at every entry. At the end a second service begins from
a copy of the database alone; both must find the same. Status 1 where anything differs.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

ROUNDING = 1e-3  # of a score, where batches have other shapes
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.append(ROOT)
from semindex.cli import Parser, positive_float, positive_int, run  # noqa: E402
from semindex.errors import UserError  # noqa: E402
from semindex.measure.hits import ranked_alike  # noqa: E402


def parser() -> Parser:
    """Return the command line."""
    parser = Parser(__doc__)
    parser.add_argument("--faq_dir", required=True, metavar="DIR", help="what build_faq.py --model_dir wrote")
    parser.add_argument("--kills", type=positive_int, default=25, metavar="N", help="[25]")
    parser.add_argument("--writes", type=positive_float, default=20.0, metavar="N", help="a second [20]")
    parser.add_argument("--between", type=positive_float, default=3.0, metavar="S",
                        help="seconds of writing before each [3]")
    parser.reads("faq_dir")
    return parser


class Server:
    """A supervised service on a free port."""

    def __init__(self, faq: str, data: str, log: IO[str]) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(ROOT, "deploy", "service", "serve.py"), "--faq_dir", faq, "--data_dir", data,
             "--port", "0", "--supervise", "--rebuild_after", "100"],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout
        self.address = self.process.stdout.readline().strip()

    def ask(self, method: str, path: str, body: Any = None, seconds: float = 60) -> Any:
        """Return the answer; OSError where there is none, HTTPError among them."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return json.loads(answer.read())

    def ready(self) -> float:
        """Wait until searches are answered; return the seconds it took. UserError where the service gives up."""
        began = time.monotonic()
        while self.process.poll() is None:
            with suppress(OSError, ValueError):
                if self.ask("GET", "/ready")["ready"]:
                    return time.monotonic() - began
            time.sleep(0.01)
        self.log.seek(0)
        said = [line for line in self.log if line.startswith("error: ")] or ["it says nothing"]
        raise UserError(f"the service ended: {said[-1].strip().removeprefix('error: ')}")

    def kill(self) -> None:
        """Kill the worker, not who looks after it."""
        parent = self.process.pid
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as file:
            for child in file.read().split():
                os.kill(int(child), signal.SIGKILL)

    def entries(self) -> dict[int, str]:
        """Return the answer of each entry."""
        found, after = dict[int, str](), 0
        while rows := self.ask("GET", f"/entries?limit=1000&after={after}")["entries"]:
            found |= {row["id"]: row["answer"] for row in rows}
            after = rows[-1]["id"]
        return found


@contextmanager
def serving(faq: str, data: str) -> Iterator[Server]:
    """Yield a service; end it."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        server = Server(faq, data, log)
        try:
            yield server
        finally:
            server.process.terminate()
            server.process.wait(60)


class Writes:
    """What was acknowledged. expected: answer of each entry; unsure: ids whose last write had no answer."""

    def __init__(self, server: Server, rate: float) -> None:
        self.server, self.rate = server, rate
        self.expected, self.gone, self.unsure = dict[int, str](), set[int](), set[int]()
        self.count = self.failed = 0
        self.stop = threading.Event()
        self._random = random.Random(0)

    def go(self) -> None:
        """Write at the rate until told to stop."""
        due = time.monotonic()
        while not self.stop.is_set():
            self._one()
            due = max(due + 1 / self.rate, time.monotonic() - 1)
            self.stop.wait(max(0.0, due - time.monotonic()))

    def _one(self) -> None:
        kind, self.count = self._random.random(), self.count + 1
        known = [id for id in self.expected if id not in self.unsure]
        text = {"question": f"第{self.count}个问题怎么问", "answer": f"第{self.count}个答案"}
        id = self._random.choice(known) if known and kind < 0.4 else 0
        try:
            if not id:
                self.expected[self.server.ask("POST", "/entries", text, 10)["id"]] = text["answer"]
            elif kind < 0.2:
                self.server.ask("PUT", f"/entries/{id}", text, 10)
                self.expected[id] = text["answer"]
            else:
                self.server.ask("DELETE", f"/entries/{id}", None, 10)
                del self.expected[id]
                self.gone.add(id)
        except (OSError, ValueError):  # no answer: it may have happened or not
            self.failed += 1
            self.unsure.add(id)


def lost(writes: Writes, found: dict[int, str]) -> list[int]:
    """Return the entries whose acknowledged state is not what is there."""
    wrong = [id for id, answer in writes.expected.items() if id not in writes.unsure and found.get(id) != answer]
    return wrong + [id for id in writes.gone if id in found]


def same_as_a_rebuild(server: Server, faq: str, folder: str) -> int:
    """Return for how many of the entries' questions a service that begins from the database finds something else."""
    rows = [json.loads(line) for line in urllib.request.urlopen(server.address + "/entries/export").read().splitlines()]
    queries = [row["question"][:-1] for row in rows][-1000:]  # not the very question: that one stands first anyway
    shutil.copytree(os.path.join(folder, "data"), os.path.join(folder, "again"),
                    ignore=shutil.ignore_patterns("snapshots", ".semindex*"))
    with serving(faq, os.path.join(folder, "again")) as other:
        other.ready()
        replies = [one.ask("POST", "/search", {"query": queries, "top": 3})["replies"] for one in (server, other)]
    pairs = zip(*([[(hit["answer"], hit["score"]) for hit in reply["hits"]] for reply in some] for some in replies))
    return sum(not ranked_alike(mine, theirs, ROUNDING) for mine, theirs in pairs)


def main() -> int:
    """Kill, look, tell; return the status."""
    args = parser().parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(args.faq_dir, os.path.join(folder, "data")) as server:
        server.ready()
        writes, back, wrong = Writes(server, args.writes), list[float](), set[int]()
        thread = threading.Thread(target=writes.go)
        thread.start()
        try:
            for _ in range(args.kills):
                time.sleep(args.between)
                server.kill()
                back.append(server.ready())
        finally:
            writes.stop.set()
            thread.join()
        wrong |= set(lost(writes, server.entries()))
        differ = same_as_a_rebuild(server, args.faq_dir, folder)
    acknowledged = writes.count - writes.failed
    print(f"{args.kills} kills; {writes.count} writes, {acknowledged} acknowledged, {writes.failed} without an answer; "
          f"lost: {len(wrong)}; back after {sorted(back)[len(back) // 2]:.1f} s (median), {max(back):.1f} s at most; "
          f"searches that differ from a rebuild's: {differ}")
    return 1 if wrong or differ else 0


if __name__ == "__main__":
    run(lambda: (status := main()) and sys.exit(status))
