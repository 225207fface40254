"""What runtime.py's settings for a CPU are worth: matrix products and a training step, with and without each.

    python benchmarks/cpu_settings.py

Every row is a process of its own; the rows run in turn, --repeats times, and the medians are printed. The training
step is of scratch-2x256 on 128 pairs of 16 tokens, in-batch negatives, dropout on.
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
# name: (MKL_DEBUG_CPU_TYPE where the processor is AMD's, stride kernel off, threads)
SETTINGS = {
    "as paddle comes": (False, False, 0),
    "all threads": (False, False, os.cpu_count() or 1),
    "all threads, no stride kernel": (False, True, os.cpu_count() or 1),
    "all threads, MKL told the instruction set": (True, False, os.cpu_count() or 1),
    "all three (what the scripts do)": (True, True, os.cpu_count() or 1),
}


def child(mkl: bool, stride: bool, threads: int) -> dict[str, float]:
    """Measure under one setting; called in a process that has not imported paddle."""
    from deploy.python.serving.predictor import prepare_environment

    if mkl:
        prepare_environment()
    import numpy as np
    import paddle

    if stride:
        paddle.set_flags({"FLAGS_use_stride_kernel": False})
    if threads:
        paddle.base.core.set_num_threads(threads)
    paddle.set_device("cpu")
    square = paddle.rand([1024, 1024])
    paddle.matmul(square, square)
    began = time.perf_counter()
    for _ in range(20):
        paddle.matmul(square, square)
    gflops = 20 * 2 * 1024**3 / (time.perf_counter() - began) / 1e9

    from models.in_batch_negative import InBatchNegative
    from models.semantic_index import create

    model, _ = create("scratch-2x256", {}, [chr(0x4E00 + i) for i in range(1500)])
    head, optimizer = InBatchNegative(), paddle.optimizer.AdamW(parameters=model.parameters())
    model.train()
    ids = paddle.to_tensor(np.random.default_rng(0).integers(5, 1500, [256, 16]))
    times = []
    for _ in range(6):
        began = time.perf_counter()
        vectors = model(ids)
        head([vectors[:128], vectors[128:]]).backward()
        optimizer.step()
        optimizer.clear_grad()
        times.append(time.perf_counter() - began)
    return {"gflops": gflops, "step": statistics.median(times[1:])}


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print("RESULT" + json.dumps(child(*SETTINGS[args.child])))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(args.repeats):
        for name in SETTINGS:
            command = [sys.executable, __file__, "--child", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout.split("RESULT")[1]))
    base = statistics.median(row["step"] for row in found["as paddle comes"])
    print("| settings | matrix product, GFLOPS | training step, s | times as fast |\n|---|---:|---:|---:|")
    for name, rows in found.items():
        step = statistics.median(row["step"] for row in rows)
        print(f"| {name} | {statistics.median(row['gflops'] for row in rows):.0f} | {step:.2f} | {base / step:.1f} |")


if __name__ == "__main__":
    main()
