"""Texts a second of a corpus, tokenised and encoded: the recipe's loop, sentence-transformers and our engines.

    python benchmarks/encoding.py --data DIR/corpus.csv --torch_python PYTHON
    python benchmarks/encoding.py --data DIR/corpus.csv --torch_python PYTHON --encoder scratch-12x768 --texts 1000

The first --texts lines of the file, in its order. The recipe's loop is file order, paddlenlp's tokenizer, batches of 32
padded to their longest, the dynamic graph, as paddle comes. Each way runs in a process of its own, in turn, --repeats
times; medians. With optimum-onnx in PYTHON's environment sentence-transformers runs on onnxruntime too, in fp32 and in
its own 8 bits. Then one process against two, a thread each. The share of the peak counts the matrix products that the
texts' own tokens need, in fp32, against the fastest product of large matrices that paddle, numpy or onnxruntime reach
in a process of their own in the same round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
OURS = ("dynamic", "static", "onnx", "int8")
RECIPE, THEIRS, PEAK = "the recipe's loop", "sentence-transformers", "peak"
THEIR_ONNX, THEIR_INT8 = f"{THEIRS}, onnx", f"{THEIRS}, its int8"
Encode = Callable[[Sequence[str]], object]


def recipe(checkpoint: str, threads: int) -> Encode:
    """Return the recipe's way to encode."""
    import paddle
    from paddlenlp.transformers import AutoTokenizer

    from models.loading import load

    paddle.base.core.set_num_threads(threads)
    model, _ = load(checkpoint, {})
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)

    def encode(texts: Sequence[str]) -> object:
        vectors = []
        with paddle.no_grad():
            for start in range(0, len(texts), 32):
                rows = [tokenizer(text, max_length=64, truncation=True)["input_ids"]
                        for text in texts[start : start + 32]]
                longest = max(map(len, rows))
                vectors.append(model(paddle.to_tensor([row + [0] * (longest - len(row)) for row in rows])).numpy())
        return np.concatenate(vectors)

    return encode


def theirs(way: str, name: str, directory: str, threads: int) -> Encode:
    """Return sentence-transformers' way: on PyTorch, or on onnxruntime."""
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.set_num_threads(threads)
    layers, width = map(int, name.removeprefix("scratch-").split("x"))
    vocabulary = os.path.join(directory, "checkpoint", "vocab.txt")
    with open(vocabulary, encoding="utf-8") as file:
        size = len(file.read().splitlines())
    with tempfile.TemporaryDirectory() as place:
        BertTokenizerFast(vocabulary).save_pretrained(place)
        BertModel(BertConfig(vocab_size=size, hidden_size=width, num_hidden_layers=layers,
                             num_attention_heads=max(1, width // 64),
                             intermediate_size=4 * width)).save_pretrained(place)
        encoder = models.Transformer(place, max_seq_length=64)
        model = SentenceTransformer(modules=[encoder, models.Pooling(width), models.Normalize()], device="cpu")
        if way != THEIRS:
            model.save_pretrained(place)
            settings = {"provider": "CPUExecutionProvider"}
            model = SentenceTransformer(place, device="cpu", backend="onnx", model_kwargs=settings | {"export": True})
            model.save_pretrained(place)
            if way == THEIR_INT8:
                from sentence_transformers import export_dynamic_quantized_onnx_model

                export_dynamic_quantized_onnx_model(model, "avx2", place)
                settings["file_name"] = "onnx/model_quint8_avx2.onnx"
                model = SentenceTransformer(place, device="cpu", backend="onnx", model_kwargs=settings)
    return lambda texts: model.encode(list(texts), batch_size=32)


def peak(threads: int) -> float:
    """Return the operations a second of the fastest of three libraries at a product of [1024, 1024] matrices."""
    from semindex import runtime

    runtime.start("cpu", 0)
    import onnxruntime
    import paddle
    from onnx import TensorProto, helper

    a = np.random.default_rng(0).standard_normal([1024, 1024], np.float32)
    b = paddle.to_tensor(a)
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1024, 1024]) for name in "ab"]
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "a"], ["b"])], "product", sides[:1], sides[1:])
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    products: list[Callable[[], object]] = [lambda: float(paddle.matmul(b, b)[0, 0]), lambda: a @ a,
                                            lambda: session.run(None, {"a": a})]
    best = []
    for product in products:
        seconds = []
        for _ in range(30):
            began = time.perf_counter()
            product()
            seconds.append(time.perf_counter() - began)
        best.append(2 * 1024**3 / statistics.median(seconds))
    return max(best)


def needed(lengths: np.ndarray, name: str) -> float:
    """Return the operations that the matrix products of some texts need, padding left out."""
    layers, width = map(int, name.removeprefix("scratch-").split("x"))
    each = lengths.astype(np.float64)
    return float(layers * (24 * width**2 * each + 4 * width * each**2).sum())


def child(way: str, directory: str, args: argparse.Namespace) -> dict[str, float]:
    """Return texts a second, seconds until the first text, and operations a second."""
    with open(args.data, encoding="utf-8") as file:
        texts = [line.strip() for _, line in zip(range(args.texts), file)]
    if way == PEAK:
        return {"operations": peak(args.threads)}
    began, operations = time.perf_counter(), 0.0
    checkpoint = os.path.join(directory, "checkpoint")
    if way == RECIPE:
        run = recipe(checkpoint, args.threads)
    elif way.startswith(THEIRS):
        run = theirs(way, args.encoder, directory, args.threads)
    else:
        from semindex import runtime

        runtime.start("cpu", 0)
        from models.encoders import fast_encoder
        from models.loading import load
        from semindex.encode.encoder import encode, vector_file
        from semindex.text.corpus import Corpus

        encoder, _ = fast_encoder(*load(checkpoint, {}), way, len(texts))

        def run(texts: Sequence[str]) -> object:
            corpus = Corpus.from_texts(texts)
            file = vector_file(os.path.join(directory, "vectors"), encoder, corpus, f"{way} {time.time()}")
            return encode(encoder, corpus, file=file)

    run(texts[:64])
    ready = time.perf_counter() - began
    began = time.perf_counter()
    run(texts)
    seconds = time.perf_counter() - began
    if way in OURS:
        operations = needed(encoder.tokenizer(texts).lengths, args.encoder) / seconds
    return {"speed": len(texts) / seconds, "ready": ready, "operations": operations}


def measure(way: str, directory: str, args: argparse.Namespace, threads: int, processes: int = 1) -> dict[str, float]:
    """Run a child and return what it measured."""
    python = args.torch_python if way.startswith(THEIRS) else sys.executable
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(processes), "--log_dir",
              os.path.join(directory, "log")] if processes > 1 else []
    result = os.path.join(directory, "result")
    done = subprocess.run([python, *launch, __file__, "--data", args.data, "--encoder", args.encoder, "--texts",
                           str(args.texts), "--threads", str(threads), "--child", way, directory, result],
                          capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    if done.returncode:
        raise SystemExit(f"{way}: {done.stdout}\n{done.stderr}")
    with open(result) as file:
        return json.load(file)


def prepare(directory: str, args: argparse.Namespace) -> None:
    """Write a checkpoint with a vocabulary of the texts."""
    from semindex import runtime

    runtime.start("cpu", 0)
    from models import loading

    with open(args.data, encoding="utf-8") as file:
        texts = [line.strip() for _, line in zip(range(args.texts), file)]
    model, tokenizer = loading.create(args.encoder, {"output_emb_size": 0, "max_seq_length": 64}, texts)
    os.mkdir(os.path.join(directory, "checkpoint"))
    loading.save(model, tokenizer, os.path.join(directory, "checkpoint"))


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--encoder", default="scratch-4x256")
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        way, directory, result = args.child
        found = child(way, directory, args)
        if os.environ.get("PADDLE_TRAINER_ID", "0") == "0":
            with open(result, "w") as file:
                json.dump(found, file)
        return
    rounds: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        prepare(directory, args)
        more = (THEIR_ONNX, THEIR_INT8) if not subprocess.run(
            [args.torch_python, "-c", "import optimum.onnxruntime"], capture_output=True).returncode else ()
        for _ in range(args.repeats):
            for way in (PEAK, RECIPE, THEIRS, *more, *OURS):
                rounds.setdefault(way, []).append(measure(way, directory, args, args.threads))
            for processes in (1, 2):
                rounds.setdefault(f"onnx, {processes} x 1 thread", []).append(
                    measure("onnx", directory, args, 1, processes))
    print(f"| {args.encoder}, {args.texts} texts | texts/s | to {RECIPE} | to {THEIRS} | ready after, s "
          "| of the peak |")
    print("|---|---:|---:|---:|---:|---:|")
    peaks = [row["operations"] for row in rounds.pop(PEAK)]
    for way, rows in rounds.items():
        middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        ratios = [statistics.median(row["speed"] / other["speed"] for row, other in zip(rows, rounds[base]))
                  for base in (RECIPE, THEIRS)]
        shares = [row["operations"] / most for row, most in zip(rows, peaks)]
        share = f"{100 * statistics.median(shares):.0f} %" if way in OURS[:3] else ""
        print(f"| {way} | {middle['speed']:.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} | {middle['ready']:.1f} "
              f"| {share} |")
    one, two = (rounds[f"onnx, {n} x 1 thread"] for n in (1, 2))
    print(f"\npeak: {statistics.median(peaks) / 1e9:.0f} GFLOPS, {args.threads} threads")
    print(f"two processes to one: {statistics.median(b['speed'] / a['speed'] for a, b in zip(one, two)):.2f}")


if __name__ == "__main__":
    main()
