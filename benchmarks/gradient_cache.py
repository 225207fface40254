"""Peak memory and time of a training step: a plain batch of 64 pairs against 4,096 with the gradient cache.

    python benchmarks/gradient_cache.py
    python benchmarks/gradient_cache.py --encoder scratch-12x768 --batch 512

Each step runs in a process of its own. Memory is the most that the process held (ru_maxrss), and the most that paddle
had allocated at once; both hold the weights and the optimizer's moments, which no batch changes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)


def child(encoder: str, batch: int, flags: dict[str, bool], chunk: int) -> dict[str, float]:
    """Take two steps, one of a large batch; return megabytes, and seconds of the last for each 64 pairs."""
    from semindex import runtime

    runtime.start("cpu", 0)
    import paddle

    from data import TrainingSet
    from models.heads.in_batch_negative import InBatchNegative
    from models.loading import create
    from training.schedule import Schedule
    from training.trainer import Trainer

    rng = np.random.default_rng(0)
    pairs = [["".join(map(chr, rng.integers(0x4E00, 0x4E00 + 1000, 22))) for _ in range(2)] for _ in range(batch)]
    model, tokenizer = create(encoder, {"output_emb_size": 256, "max_seq_length": 24},
                              [text for pair in pairs for text in pair])
    data = TrainingSet.from_samples(pairs, tokenizer, batch, chunk=chunk)
    with tempfile.TemporaryDirectory() as directory:
        schedule = Schedule(directory, **flags)  # type: ignore[arg-type]
        trainer = Trainer(model, tokenizer, InBatchNegative(), data, schedule)
        model.train()
        for _ in range(2 if batch == 64 else 1):
            began = time.perf_counter()
            trainer.step.update(0, [data.batch(data.plan(0)[0])])
    return {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "allocated": paddle.base.core.host_memory_stat_peak_value("Allocated", 0) / 2**20,
            "seconds": (time.perf_counter() - began) * 64 / batch}


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="scratch-4x256")
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--chunk", type=int, default=64, help="texts")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print("RESULT" + json.dumps(child(args.encoder, int(args.child[0]), json.loads(args.child[1]), args.chunk)))
        return
    ways: list[tuple[int, dict[str, bool]]] = [
        (64, {}), (64, {"use_recompute": True}), (64, {"use_gradient_cache": True}),
        (args.batch, {"use_gradient_cache": True})]
    print(f"| {args.encoder}, chunks of {args.chunk} texts | resident, MB | ratio | allocated, MB | ratio "
          "| s for 64 pairs | ratio |\n|---|---:|---:|---:|---:|---:|---:|")
    first: dict[str, float] = {}
    for batch, flags in ways:
        done = subprocess.run([sys.executable, __file__, "--encoder", args.encoder, "--chunk", str(args.chunk),
                               "--child", str(batch), json.dumps(flags)], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.split("RESULT")[1])
        first = first or found
        cells = [f"{found[key]:.{digits}f} | {found[key] / first[key]:.2f}"
                 for key, digits in (("resident", 0), ("allocated", 0), ("seconds", 2))]
        print(f"| {batch} pairs {' '.join('--' + name for name in flags)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
