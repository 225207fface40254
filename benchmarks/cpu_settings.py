"""What the settings for a CPU are worth (runtime.py, models/cpu_layers.py): products and a training step, with them and
without.

    python benchmarks/cpu_settings.py
    python benchmarks/cpu_settings.py --encoder scratch-12x768 --pairs 16 --steps 3 --repeats 1      ERNIE's shape

Every row is a process of its own; the rows run in turn, --repeats times, and the medians are printed. The training
step is of --encoder on --pairs pairs of 16 tokens, in-batch negatives, dropout on; the median of --steps behind the
first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
SETTINGS = {
    "as paddle comes": [],
    "all threads": ["threads"],
    "all threads, no stride kernel": ["threads", "stride"],
    "all threads, MKL told the instruction set": ["threads", "mkl"],
    "all threads, freed memory kept": ["threads", "memory"],
    "these four": ["threads", "stride", "mkl", "memory"],
    "these four and the layers of models/cpu_layers.py": ["threads", "stride", "mkl", "memory", "layers"],
}


def child(settings: list[str], encoder: str, pairs: int, steps: int) -> dict[str, float]:
    """Measure under some settings; called in a process that has not imported paddle."""
    from semindex.environment import keep_freed_memory, prepare_environment

    if "mkl" in settings:
        prepare_environment()
    if "memory" in settings:
        keep_freed_memory()
    import numpy as np
    import paddle

    if "stride" in settings:
        paddle.set_flags({"FLAGS_use_stride_kernel": False})
    if "threads" in settings:
        paddle.base.core.set_num_threads(os.cpu_count() or 1)
    paddle.set_device("cpu")
    square = paddle.rand([1024, 1024])
    paddle.matmul(square, square)
    began = time.perf_counter()
    for _ in range(20):
        paddle.matmul(square, square)
    gflops = 20 * 2 * 1024**3 / (time.perf_counter() - began) / 1e9

    from models import cpu_layers
    from models.heads.in_batch_negative import InBatchNegative
    from models.loading import create

    model, _ = create(encoder, {}, [chr(0x4E00 + i) for i in range(1500)])
    if "layers" in settings:
        cpu_layers.exchange(model)
    head, optimizer = InBatchNegative(), paddle.optimizer.AdamW(parameters=model.parameters())
    model.train()
    ids = paddle.to_tensor(np.random.default_rng(0).integers(5, 1500, [2 * pairs, 16]))
    times = []
    for _ in range(1 + steps):
        began = time.perf_counter()
        vectors = model(ids)
        head([vectors[:pairs], vectors[pairs:]]).backward()
        optimizer.step()
        optimizer.clear_grad()
        times.append(time.perf_counter() - began)
    return {"gflops": gflops, "step": statistics.median(times[1:])}


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--encoder", default="scratch-2x256")
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print("RESULT" + json.dumps(child(SETTINGS[args.child], args.encoder, args.pairs, args.steps)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(args.repeats):
        for name in SETTINGS:
            command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout.split("RESULT")[1]))
    base = statistics.median(row["step"] for row in found["as paddle comes"])
    print("| settings | matrix product, GFLOPS | training step, s | times as fast |\n|---|---:|---:|---:|")
    for name, rows in found.items():
        step = statistics.median(row["step"] for row in rows)
        print(f"| {name} | {statistics.median(row['gflops'] for row in rows):.0f} | {step:.2f} | {base / step:.1f} |")


if __name__ == "__main__":
    main()
