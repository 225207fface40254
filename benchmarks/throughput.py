"""Texts a second of one encoder in five engines: dynamic graph, Paddle Inference, ONNX, int8, PyTorch.

    python benchmarks/throughput.py                                      scratch-4x256
    python benchmarks/throughput.py --encoder scratch-12x768             ERNIE's shape

Every engine runs in a process of its own, in turn, --repeats times; medians. The inputs are token ids, so that the
tokenizer, the same for all, is left out. PyTorch runs transformers' BertModel of the same shape with mean pooling, by
the interpreter of --torch_python, and is left out where that has no torch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
ENGINES = ("dynamic graph", "Paddle Inference", "ONNX", "int8", "PyTorch")


def torch_engine(encoder: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from ids to vectors by PyTorch."""
    import torch
    from transformers import BertConfig, BertModel

    torch.set_num_threads(threads)
    layers, width = map(int, encoder.removeprefix("scratch-").split("x"))
    model = BertModel(BertConfig(vocab_size=1400, hidden_size=width, num_hidden_layers=layers,
                                 num_attention_heads=max(1, width // 64), intermediate_size=4 * width)).eval()

    def run(ids: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            hidden = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(ids != 0)).last_hidden_state
            return torch.nn.functional.normalize(hidden.mean(1), dim=-1).numpy()

    return run


def child(engine: str, directory: str, encoder: str, threads: int, tokens: int) -> dict[str, float]:
    """Return texts a second at each batch size."""
    if engine == "PyTorch":
        run = torch_engine(encoder, threads)
    elif engine == "dynamic graph":
        import paddle

        from semindex import runtime

        runtime.start("cpu", 0)
        from models.loading import load

        model, _ = load(os.path.join(directory, "checkpoint"), {})

        def run(ids: np.ndarray) -> np.ndarray:
            with paddle.no_grad():
                return model(paddle.to_tensor(ids)).numpy()
    else:
        from semindex.encode import engines

        exported = os.path.join(directory, "export")
        if engine == "Paddle Inference":
            run = engines.paddle_engine(exported, "cpu", "fp32", threads)
        else:
            run = engines.onnx_engine(exported, engines.INT8 if engine == "int8" else engines.ONNX, threads)
    found = {}
    for batch in (1, 32):
        ids = np.random.default_rng(0).integers(5, 1000, [batch, tokens])
        run(ids)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < 3:
            run(ids)
            count += 1
        found[str(batch)] = batch * count / (time.perf_counter() - began)
    return found


def prepare(directory: str, encoder: str) -> None:
    """Write a checkpoint and its export."""
    from semindex import runtime

    runtime.start("cpu", 0)
    from models import loading
    from models.export import export

    texts = [chr(0x4E00 + i) for i in range(1395)]
    model, tokenizer = loading.create(encoder, {"output_emb_size": 0}, texts)
    os.mkdir(os.path.join(directory, "checkpoint"))
    loading.save(model, tokenizer, os.path.join(directory, "checkpoint"))
    model.eval()
    export(model, tokenizer, os.path.join(directory, "export"), ("onnx", "int8"), encoder)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="scratch-4x256")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        engine, directory = args.child
        print("RESULT" + json.dumps(child(engine, directory, args.encoder, args.threads, args.tokens)))
        return
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = [{ROOT!r}, {ROOT + '/benchmarks'!r}]; "
                        f"from throughput import prepare; prepare({directory!r}, {args.encoder!r})"], check=True,
                       stdout=subprocess.DEVNULL)
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(args.repeats):
            for engine in ENGINES:
                python = args.torch_python if engine == "PyTorch" else sys.executable
                done = subprocess.run([python, __file__, "--child", engine, directory, "--encoder", args.encoder,
                                       "--threads", str(args.threads), "--tokens", str(args.tokens)],
                                      capture_output=True, text=True)
                if done.returncode:
                    print(f"{engine}: left out ({done.stderr.strip().splitlines()[-1]})", file=sys.stderr)
                    continue
                found.setdefault(engine, []).append(json.loads(done.stdout.split("RESULT")[1]))
    middle = {engine: {size: statistics.median(row[size] for row in rows) for size in ("1", "32")}
              for engine, rows in found.items()}
    base = middle["dynamic graph"]
    print("| engine | texts/s, batch 1 | ratio | texts/s, batch 32 | ratio |\n|---|---:|---:|---:|---:|")
    for engine, speeds in middle.items():
        print(f"| {engine} | {speeds['1']:.0f} | {speeds['1'] / base['1']:.2f} "
              f"| {speeds['32']:.0f} | {speeds['32'] / base['32']:.2f} |")


if __name__ == "__main__":
    main()
