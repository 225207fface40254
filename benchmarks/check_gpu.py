"""What cards compute beside what was computed without them: a table of what agreed and how fast.

    bash scripts/check_gpu.sh                     on a box with cards, two of them for the row of two processes
    bash scripts/check_gpu.sh --device cpu        the same over gloo, where there are none

Losses of a few steps with dropout off are compared, and what is recalled; a row says how far apart the most distant
ones are and how far they may be. Speeds are medians of the printed ones, two processes' counted together.
"""

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from quality import ROOT, sample_data

EXACT, ROUNDED, HALF = 1e-5, 1e-3, 0.03  # allowed: of the same sums, of sums in another order, of 16 bits
LINE = re.compile(r"^global step (\d+),.*?loss: ([\d.naif]+), speed: ([\d.]+)", re.M)


@dataclass
class Run:
    """What a training printed. losses: by step; speed: samples a second."""

    losses: dict[int, float] = field(default_factory=dict)
    speed: float = 0.0
    text: str = ""


@dataclass
class Row:
    """A line of the table. difference: None where nothing was compared, and `note` says why."""

    name: str
    against: str = ""
    difference: float | None = None
    allowed: float = 0.0
    speed: str = ""
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether it was compared and does not agree; a difference that is no number does not."""
        return self.difference is not None and not self.difference <= self.allowed

    def __str__(self) -> str:
        verdict = self.note or ("NO" if self.failed else "yes")
        numbers = ["", ""] if self.difference is None else [f"{self.difference:.2g}", f"{self.allowed:g}"]
        return f"| {' | '.join([self.name, self.against, *numbers, self.speed, verdict])} |"


class Check:
    """The runs of one device, below a directory."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out, self.device = args, os.path.abspath(args.out), args.device
        self.data = os.path.join(self.out, "data")

    def command(self, *words: object, processes: int = 1) -> list[str]:
        """Return the command line of a script on so many processes."""
        launch: list[str] = []
        if processes > 1:
            cards = ["--gpus", ",".join(map(str, range(processes)))]
            launch = ["-m", "paddle.distributed.launch", *(cards if self.device == "gpu" else
                                                           ["--nproc_per_node", str(processes)]),
                      "--log_dir", os.path.join(self.out, "log")]
        return [sys.executable, "-u", *launch, os.path.join(ROOT, str(words[0])), *map(str, words[1:])]

    def call(self, *words: object, processes: int = 1, device: str = "") -> str:
        """Run a script to its end; return what it printed."""
        own = [] if words[0] == "export_model.py" else ["--device", device or self.device]
        command = self.command(*words, *own, processes=processes)
        print("+", *command, file=sys.stderr, flush=True)
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.out)
        if done.returncode:
            raise RuntimeError(f"{words[0]} ended with {done.returncode}: "
                               f"{((done.stdout + done.stderr).strip().splitlines() or ['nothing was said'])[-1]}")
        return done.stdout

    def training(self, name: str, *more: object, processes: int = 1) -> list[object]:
        """Return the flags of a training."""
        args = self.args
        return ["train_batch_neg.py", "--model_name_or_path", args.encoder, "--output_emb_size", 0, "--dropout", 0,
                "--head_dropout", 0, "--train_set_file", f"{self.data}/train.csv", "--max_seq_length", 48,
                "--batch_size", args.batch_size // processes, "--max_steps", args.steps, "--learning_rate", "1e-4",
                "--log_steps", 1, "--save_dir", os.path.join(self.out, name), "--seed", 1, *more]

    def train(self, name: str, *more: object, processes: int = 1) -> Run:
        """Train for some steps."""
        return self.read(self.call(*self.training(name, "--overwrite", *more, processes=processes),
                                   processes=processes), processes)

    def read(self, text: str, processes: int = 1) -> Run:
        """Read the lines of a training."""
        rows = LINE.findall(text)
        speeds = [float(speed) for _, _, speed in rows[1:]] or [0.0]  # the first step builds kernels
        return Run({int(step): float(loss) for step, loss, _ in rows},
                   statistics.median(speeds) * self.args.batch_size, text)

    def stop_and_resume(self, name: str, *more: object) -> Run:
        """Train, tell the run to stop where a quarter of its steps is taken, and go on with it."""
        words = self.training(name, *more, "--device", self.device)
        shutil.rmtree(os.path.join(self.out, name), ignore_errors=True)
        lines = list[str]()
        with subprocess.Popen(self.command(*words), cwd=self.out, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                if line.startswith(f"global step {max(1, self.args.steps // 4)},"):
                    process.send_signal(signal.SIGTERM)
        if not any("told to stop" in line for line in lines):
            last = lines[-1].strip() if lines else "nothing was said"
            raise RuntimeError(f"the run could not be stopped before its end, take more --steps: {last}")
        again = self.call(*self.training(name, *more, "--resume"))
        if "resumed from" not in again:
            raise RuntimeError("it did not resume")
        return self.read(again)

    def recall(self, name: str, processes: int = 1, device: str = "") -> tuple[np.ndarray, float]:
        """Recall; return the cosines, a row a query, and the seconds."""
        began = time.perf_counter()
        self.call("recall.py", "--params_path", f"{self.out}/fp32/latest", "--corpus_file", f"{self.data}/corpus.csv",
                  "--similar_text_pair", f"{self.data}/test.csv", "--recall_num", 50, "--recall_result_dir", self.out,
                  "--recall_result_file", name, processes=processes, device=device)
        seconds = time.perf_counter() - began
        with open(os.path.join(self.out, name), encoding="utf-8") as file:
            return np.array([float(line.rsplit("\t", 1)[1]) for line in file]).reshape(-1, 50), seconds


def apart(one: Run, two: Run) -> float:
    """Return the largest relative difference of two runs' losses at a step that both took."""
    steps = one.losses.keys() & two.losses.keys()
    found = [abs(one.losses[step] - two.losses[step]) / max(abs(one.losses[step]), 1e-6) for step in steps]
    return max(found) if found and np.isfinite(found).all() else float("nan")


def per_second(run: Run, base: Run | None = None) -> str:
    """Return a run's speed, and how many times another's it is."""
    return f"{run.speed:.0f} samples/s" + (f", {run.speed / base.speed:.2f} times" if base and base.speed else "")


def quickstart(check: Check) -> Row:
    """Run the quickstart; its trained encoder must recall more than the one it starts from."""
    began = time.perf_counter()
    done = subprocess.run(["bash", os.path.join(ROOT, "scripts", "quickstart.sh")], capture_output=True, text=True,
                          env=os.environ | {"OUT": os.path.join(check.out, "quickstart")}
                          | ({"CUDA_VISIBLE_DEVICES": ""} if check.device == "cpu" else {}))
    table = re.findall(r"^(pretrained|untrained|trained)\b.*?recall@10=([\d.]+)", done.stdout, re.M)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr).strip().splitlines()[-1])
    found = "; ".join(f"{name} recall@10 {value}" for name, value in table)
    return Row("quickstart", speed=f"{time.perf_counter() - began:.0f} s", note=f"ran; {found}")


def cards() -> int:
    """Return how many cards the driver lists."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return 0
    return len(re.findall(r"^GPU \d+:", done.stdout, re.M))


def rows(check: Check) -> list[tuple[str, Callable[[], Row]]]:
    """Return the checks by name, in order: functions that give a row."""
    one = Run()

    def base() -> Row:
        nonlocal one
        one = check.train("fp32")
        return Row("one process, fp32", speed=per_second(one), note="the base")

    def two() -> Row:
        if check.device == "gpu" and cards() < 2:
            return Row("two processes, NCCL", note=f"not compared: {cards()} card")
        run = check.train("two", processes=2)
        return Row(f"two processes, {'NCCL' if check.device == 'gpu' else 'gloo'}", "one process", apart(one, run),
                   ROUNDED, per_second(run, one))

    def cache() -> Row:
        run = check.train("cache", "--use_gradient_cache", "--chunk_size", max(1, check.args.batch_size // 4))
        return Row("GradCache", "one process", apart(one, run), ROUNDED, per_second(run, one))

    def resumed() -> Row:
        run = check.stop_and_resume("resumed")
        return Row("fp32, stopped and resumed", "one process", apart(one, run),
                   ROUNDED if check.device == "gpu" else EXACT, per_second(run, one))

    def half(precision: str) -> Row:
        if check.device == "cpu":
            return Row(f"{precision}, stopped and resumed", note="not compared: on a CPU fp32 is used instead")
        whole = check.train(precision, "--precision", precision)
        run = check.stop_and_resume(f"{precision}_resumed", "--precision", precision)
        return Row(f"{precision}, stopped and resumed", "fp32, and undisturbed",
                   float(np.max([apart(one, whole), apart(whole, run)])), HALF, per_second(whole, one))

    def recall() -> Row:
        scores, seconds = check.recall("recall.device")
        if check.device == "cpu" or cards() > 1:
            name, (other, wanted) = "two processes", check.recall("recall.two", processes=2)
        else:
            name, (other, wanted) = "the CPU", check.recall("recall.cpu", device="cpu")
        return Row("recall, cosines", name, float(abs(scores - other).max()), ROUNDED,
                   f"{seconds:.1f} s, {name} {wanted:.1f} s")

    def export() -> Row:
        check.call("export_model.py", "--params_path", f"{check.out}/fp32/latest", "--output_path",
                   f"{check.out}/exported")
        found = []
        for words in (["predict.py", "--params_path", f"{check.out}/fp32/latest"],
                      ["deploy/python/predict.py", "--model_dir", f"{check.out}/exported"]):
            check.call(*words, "--text_pair_file", f"{check.data}/dev.csv", "--output_file", f"{check.out}/cosines")
            found.append(np.loadtxt(f"{check.out}/cosines"))
        return Row("export, cosines", "the checkpoint", float(abs(found[0] - found[1]).max()), ROUNDED)

    return [("quickstart", partial(quickstart, check)), ("one", base), ("two", two), ("cache", cache),
            ("resume", resumed), ("bf16", partial(half, "bf16")), ("fp16", partial(half, "fp16")), ("recall", recall),
            ("export", export)]


def main() -> None:
    """Run all, print the table, end with 1 where something does not agree or did not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--out", default=os.path.join(ROOT, "output", "check_gpu"), help="all that is made goes there")
    parser.add_argument("--encoder", default="scratch-4x256")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--without", nargs="+", default=[], metavar="CHECK",
                        help="checks to leave out, of: quickstart two cache resume bf16 fp16 recall export")
    args = parser.parse_args()
    check = Check(args)
    if args.device == "gpu" and not cards():
        raise SystemExit("error: nvidia-smi lists no card; --device cpu runs the same over gloo")
    shutil.rmtree(check.data, ignore_errors=True)
    os.makedirs(check.out, exist_ok=True)
    sample_data(check.data)
    table = []
    for name, work in rows(check):
        if name in args.without:
            continue
        try:
            table.append(work())
        except (RuntimeError, OSError, ValueError) as error:
            table.append(Row(name, difference=float("nan"), note=f"FAILED: {' '.join(str(error).split())}"))
        print(table[-1], file=sys.stderr, flush=True)
    print(f"| {args.device}, {args.encoder}, {args.steps} steps of {args.batch_size} | against | largest difference "
          "| allowed | speed | agrees |\n|---|---|---:|---:|---:|---|")
    print(*table, sep="\n")
    raise SystemExit(any(row.failed for row in table))


if __name__ == "__main__":
    main()
