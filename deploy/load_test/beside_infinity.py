"""Embeddings a second of the service beside infinity-emb's engines, with the same weights, in one run on one machine.

    python -m venv infinity && infinity/bin/pip install torch==2.13.0 "infinity-emb[server,torch,optimum]==0.0.78"
    python export_model.py --params_path CHECKPOINT --output_path ours --format onnx int8
    python export_model.py --params_path CHECKPOINT --output_path theirs --format sentence-transformers
    infinity/bin/optimum-cli export onnx --library transformers --model theirs \\
        --task feature-extraction theirs_onnx
    python deploy/load_test/beside_infinity.py --model_dir ours --infinity infinity/bin/infinity_emb \\
        --sentence_dir theirs --onnx_dir theirs_onnx

All servers run at once and are asked in turns, so that what else the machine does meets all alike; who is not asked
computes nothing. No cache. Infinity's texts begin with the prompt of queries, which the service puts there itself.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.append(ROOT)
from semindex.cli import Parser, positive_float, positive_int, run  # noqa: E402

FAMILIAR = 0.999  # the least cosine of two vectors of one text by the same weights in fp32
SHAPES = ((32, 1), (8, 32), (2, 256))  # users, texts a request


def parser() -> Parser:
    """Return the command line."""
    parser = Parser(__doc__)
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="the service's export, with ONNX and int8")
    parser.add_argument("--infinity", required=True, metavar="PROGRAM", help="infinity_emb of its own environment")
    parser.add_argument("--sentence_dir", required=True, metavar="DIR", help="the same weights for its torch engine")
    parser.add_argument("--onnx_dir", metavar="DIR", help="the same weights for its onnx engine [left out]")
    parser.add_argument("--pooling", choices=["mean", "cls"], default="mean", help="of the weights [mean]")
    parser.add_argument("--texts", metavar="FILE", default=os.path.join(ROOT, "datasets", "faq_zh", "groups.tsv"),
                        help="[datasets/faq_zh/groups.tsv]")
    parser.add_argument("--longest", type=positive_int, default=30, metavar="N",
                        help="characters of a text: nobody cuts any [30]")
    parser.add_argument("--seconds", type=positive_float, default=5.0, metavar="S", help="of each figure [5]")
    parser.add_argument("--repeats", type=positive_int, default=5, metavar="N", help="turns [5]")
    parser.add_argument("--output_file", metavar="FILE", help="where to write the figures as JSON")
    parser.reads("model_dir", "sentence_dir", "onnx_dir", "texts")
    parser.writes("output_file")
    return parser


@contextlib.contextmanager
def infinity(program: str, model: str, engine: str, pooling: str, log: Any) -> Iterator[str]:
    """Run infinity_emb on a free port of this machine, off the network; yield its address once it answers."""
    import socket

    from semindex.errors import UserError

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [os.path.abspath(program), "v2", "--model-id", model if engine == "torch" else ".",
         "--served-model-name", "m", "--engine", engine, "--device", "cpu",
         "--host", "127.0.0.1", "--port", str(port), "--pooling-method", pooling],
        # Its onnx engine finds model.onnx by a path from the model's folder alone, and keeps what it optimised by name.
        stdout=log, stderr=log, cwd=model, env=os.environ | {
            "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1", "HF_HOME": log.name + ".kept"})
    try:
        until = time.monotonic() + 600
        while time.monotonic() < until:
            if process.poll() is not None:
                with open(log.name, encoding="utf-8", errors="replace") as lines:
                    said = [line.strip() for line in lines if line.strip()][-1:]
                raise UserError(f"{program} with engine {engine} ended: {''.join(said)}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()


async def vectors(address: str, path: str, texts: list[str]) -> Any:
    """Return what a server gives for texts."""
    import numpy as np

    from deploy.load_test import driver

    async with driver.session(address) as client, client.post(path, json={"model": "m", "input": texts}) as answer:
        return np.array([row["embedding"] for row in (await answer.json())["data"]])


def measure(args: argparse.Namespace, servers: dict[str, tuple[str, str, str]],
            texts: list[str]) -> list[dict[str, Any]]:
    """Return a row a shape: the median embeddings a second of each server. servers: name to address, path, prompt."""
    import itertools

    from deploy.load_test import driver
    from semindex.errors import UserError

    rows = []
    for users, many in SHAPES:
        found: dict[str, list[float]] = {name: [] for name in servers}
        for turn in range(args.repeats):
            order = list(servers)
            for name in order[turn % len(order) :] + order[: turn % len(order)]:
                address, path, prompt = servers[name]
                given = itertools.cycle([prompt + text for text in texts])
                asks = (driver.Ask(path, {"model": "m", "input": list(itertools.islice(given, many))})
                        for _ in itertools.count())
                outcome = asyncio.run(driver.closed(address, asks, users, args.seconds))
                if outcome.others:
                    raise UserError(f"{name}: requests were not answered: {dict(outcome.others)}")
                found[name].append(outcome.rate * many)
        rows.append({"users": users, "texts a request": many}
                    | {name: round(statistics.median(rates), 1) for name, rates in found.items()})
        print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    return rows


def main() -> None:
    """Start all, compare their vectors, ask in turns."""
    args = parser().parse_args()
    import numpy as np

    from deploy.load_test import driver
    from semindex.errors import UserError
    from semindex.files import atomic_file
    from semindex.text.tables import read_rows

    rows = read_rows(args.texts, range(1, 1000), what="texts, tabs between them", may_lack=True)
    texts = list(dict.fromkeys(text for _, row in rows for text in row if 0 < len(text) <= args.longest))
    with open(os.path.join(args.sentence_dir, "config_sentence_transformers.json"), encoding="utf-8") as file:
        prompt = json.load(file).get("prompts", {}).get("query", "")
    theirs = {"infinity torch": (args.sentence_dir, "torch")}
    theirs |= {"infinity onnx": (args.onnx_dir, "optimum")} if args.onnx_dir else {}
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        servers = {}
        for name, engine in (("service fp32", "onnx"), ("service int8", "int8")):
            address, _ = stack.enter_context(driver.started(
                "--model_dir", args.model_dir, "--engine", engine, "--cache_size", 0,
                "--data_dir", os.path.join(scratch, engine)))
            servers[name] = address, "/v1/embeddings", ""
        log = stack.enter_context(open(os.path.join(scratch, "log"), "w"))
        for name, (path, engine) in theirs.items():
            address = stack.enter_context(infinity(args.infinity, os.path.abspath(path), engine, args.pooling, log))
            servers[name] = address, "/embeddings", prompt
        own = asyncio.run(vectors(*servers["service fp32"][:2], texts[:50]))
        for name in theirs:
            other = asyncio.run(vectors(*servers[name][:2], [prompt + text for text in texts[:50]]))
            least = float(np.min((own * other).sum(axis=1)))
            print(f"{name}: smallest cosine to the service's vectors {least:.5f}", flush=True)
            if least < FAMILIAR:
                raise UserError(f"{name} gives other vectors than the service: these are not the same weights")
        found = measure(args, servers, texts)
    for row in found:
        best = max(row[name] for name in theirs)
        print(f"{row['users']} users, {row['texts a request']} texts: fp32 to its best "
              f"{row['service fp32'] / best:.2f}, int8 to its torch {row['service int8'] / row['infinity torch']:.2f}")
    if args.output_file:
        with atomic_file(args.output_file) as out:
            out.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
