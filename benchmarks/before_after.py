"""What a change did to speed: training and encoding of two trees of this project, in turn, a second at a time.

    git worktree add --detach /tmp/before COMMIT
    python benchmarks/before_after.py --before /tmp/before --pairs DIR/train.csv --texts DIR/corpus.csv

A process for each tree has everything loaded; they take turns, one step or 256 texts each, while the other one waits.
So what else the machine does falls on both alike: on a busy one whole runs of equal code differed by a fifth. Medians
over --rounds, and the quartiles of the ratio. Then `--help` of every command that both trees have, in turn.
"""

import argparse
import glob
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENGINES = ("dynamic", "static", "onnx", "int8")


def units(tree: str, args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name, of the tree that this process is for; each call does a little of it."""
    sys.path.insert(0, tree)
    try:
        from models.encoders import fast_encoder
        from models.heads.in_batch_negative import InBatchNegative
        from models.loading import create
        from semindex import runtime
        from semindex.encode.encoder import encode
        from training.schedule import Schedule
        from training.setup import chunk_size
        from training.trainer import Trainer
    except ImportError:  # up to commit 44518dc everything was flat
        import runtime  # type: ignore[import-not-found,no-redef]
        from encoder import encode  # type: ignore[import-not-found,no-redef]
        from models.in_batch_negative import InBatchNegative  # type: ignore[import-not-found,no-redef]
        from static_graph import fast_encoder  # type: ignore[import-not-found,no-redef]
        from trainer import Schedule, Trainer  # type: ignore[import-not-found,no-redef]
        from training_setup import chunk_size  # type: ignore[import-not-found,no-redef]

        from models.semantic_index import create  # type: ignore[attr-defined,no-redef]
    from data import TrainingSet

    runtime.start("cpu", 0)
    with open(args.pairs, encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split("\t")[:2] for _, line in zip(range(1280), file)]
    with open(args.texts, encoding="utf-8") as file:
        texts = [line.strip() for _, line in zip(range(256), file)]
    model, tokenizer = create(args.encoder, {"output_emb_size": 0, "max_seq_length": 48},
                              [text for pair in pairs for text in pair], head_dropout=0.0)
    encoders = {way: fast_encoder(model, tokenizer, way, 10_000)[0] for way in ENGINES}
    data = TrainingSet.from_samples(pairs, tokenizer, 32, seed=1, chunk=chunk_size(model))
    trainer = Trainer(model, tokenizer, InBatchNegative(0.0, 20.0), data, Schedule(tempfile.mkdtemp()))
    batches = iter([batch for epoch in range(100) for batch in data.plan(epoch)])

    def step() -> None:
        model.train()
        batch = [data.batch(next(batches))]
        if hasattr(trainer, "update"):
            trainer.update(batch)
        else:
            trainer.step.update(0, batch)

    found: dict[str, Callable[[], object]] = {"training, pairs/s": step}
    for way, encoder in encoders.items():
        found[f"encoding {way}, texts/s"] = partial(encode, encoder, texts)
    return found


def child(tree: str, args: argparse.Namespace) -> None:
    """Do what the lines of standard input name, and answer with the seconds."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work = units(tree, args)
    print("|".join(work), file=answers, flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        work[line.strip()]()
        print(time.perf_counter() - began, file=answers, flush=True)


def helps(trees: list[str], rounds: int) -> tuple[str, list[tuple[float, ...]]]:
    """Return the slowest command of the second tree, and the seconds of all commands' --help in each tree."""
    names = set.intersection(*({os.path.basename(path) for path in glob.glob(os.path.join(tree, "*.py"))}
                               for tree in trees))
    commands = sorted(name for name in names if "cli.run(" in Path(trees[1], name).read_text())
    rows, slowest = [], dict.fromkeys(commands, 9.0)
    for _ in range(rounds):
        row = [0.0, 0.0]
        for name in commands:
            for place, tree in enumerate(trees):
                began = time.perf_counter()
                subprocess.run([sys.executable, name, "--help"], cwd=tree, stdout=subprocess.DEVNULL, check=True)
                seconds = time.perf_counter() - began
                row[place] += seconds
                slowest[name] = min(slowest[name], seconds) if place else slowest[name]
        rows.append(tuple(row))
    name = max(slowest, key=lambda name: slowest[name])
    return f"--help of {len(commands)} commands, s; slowest {name} {slowest[name]:.3f}", rows


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--encoder", default="scratch-4x256")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.pairs, args.texts = os.path.abspath(args.pairs), os.path.abspath(args.texts)
    if args.child:
        child(args.child, args)
        return
    trees = [os.path.abspath(args.before), ROOT]
    settings = os.environ | {"OMP_NUM_THREADS": str(os.cpu_count() or 1), "OMP_WAIT_POLICY": "PASSIVE"}
    processes = [subprocess.Popen([sys.executable, os.path.abspath(__file__), "--before", trees[0], "--pairs",
                                   args.pairs, "--texts", args.texts, "--encoder", args.encoder, "--child", tree],
                                  text=True, env=settings,
                                  cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for tree in trees]
    names = [process.stdout.readline().strip().split("|") for process in processes if process.stdout][1]

    def seconds(process: "subprocess.Popen[str]", name: str) -> float:
        assert process.stdin and process.stdout
        process.stdin.write(f"{name}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    found: dict[str, list[tuple[float, ...]]] = {}
    for number in range(-3, args.rounds):  # the first three are to warm up
        for name in names:
            order = (0, 1) if number % 2 else (1, 0)
            row = {place: seconds(processes[place], name) for place in order}
            if number >= 0:
                found.setdefault(name, []).append((row[0], row[1]))
    for process in processes:
        process.stdin.close()  # type: ignore[union-attr]
    print("| | before | after | after to before | quartiles |\n|---|---:|---:|---:|---|")
    for name, rows in found.items():
        count = 32 if name.startswith("training") else 256
        before, after = (count / statistics.median(side) for side in zip(*rows))
        low, middle, high = statistics.quantiles([one / two for one, two in rows], n=4)
        print(f"| {name} | {before:.4g} | {after:.4g} | {middle:.3f} | {low:.2f} to {high:.2f} |", flush=True)
    name, rows = helps(trees, 7)
    before, after = (statistics.median(side) for side in zip(*rows))
    low, middle, high = statistics.quantiles([two / one for one, two in rows], n=4)
    print(f"| {name} | {before:.3f} | {after:.3f} | {middle:.3f} | {low:.2f} to {high:.2f} |")


if __name__ == "__main__":
    main()
