r"""Training pairs a second, beside sentence-transformers' trainer with MultipleNegativesRankingLoss.

    python benchmarks/training.py --data DIR/train.csv --torch_python PYTHON
    python benchmarks/training.py --data DIR/train.csv --torch_python PYTHON --encoder scratch-12x768 --steps 4 \
        --ways ours sentence-transformers
    python benchmarks/training.py --data DIR/train.csv --torch_python PYTHON --encoder scratch-12x384 --steps 15 \
        --ways ours sentence-transformers --freeze_embeddings

DIR/train.csv holds lines of text<TAB>text. The interpreter of --torch_python has torch and sentence-transformers. Both
train the same shape on the same pairs, batches and vocabulary, dropout 0.1, AdamW, in fp32 with the same threads; each
in a process of its own, in turn, --repeats times; medians over the steps and then over the repeats. `as paddle comes`
is our own trainer without what runtime.py and models/cpu_layers.py set and exchange on a CPU.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
WAYS = ("ours", "as paddle comes", "sentence-transformers")
WARM_UP = 3


def read(path: str, count: int) -> list[list[str]]:
    """Return the first pairs of a file."""
    with open(path, encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t")[:2] for _, line in zip(range(count), file)]


def ours(pairs: list[list[str]], args: argparse.Namespace, directory: str, plain: bool) -> list[float]:
    """Return the seconds of each step of our trainer."""
    from semindex import runtime

    if plain:
        import paddle

        from models import cpu_layers

        paddle.base.core.set_num_threads(args.threads)
        cpu_layers.exchange = lambda model: None  # type: ignore[assignment]
    else:
        runtime.start("cpu", 0)
    from data import TrainingSet
    from models.heads.in_batch_negative import InBatchNegative
    from models.loading import create
    from training.schedule import Schedule
    from training.setup import chunk_size
    from training.trainer import Trainer

    model, tokenizer = create(args.encoder, {"output_emb_size": 0, "max_seq_length": 48},
                              [text for pair in pairs for text in pair], head_dropout=0.0)
    data = TrainingSet.from_samples(pairs, tokenizer, args.batch_size, seed=1,
                                    chunk=2 * args.batch_size if plain else chunk_size(model))
    schedule = Schedule(directory, freeze_embeddings=args.freeze_embeddings, freeze_layers=args.freeze_layers)
    trainer = Trainer(model, tokenizer, InBatchNegative(0.0, 20.0), data, schedule)
    model.train()
    seconds = []
    for samples in data.plan(0)[: args.steps + WARM_UP]:
        began = time.perf_counter()
        trainer.step.update(0, [data.batch(samples)])
        seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP:]


def theirs(pairs: list[list[str]], args: argparse.Namespace, directory: str) -> list[float]:
    """Return the seconds of each step of sentence-transformers' trainer."""
    import torch
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
        models,
    )
    from transformers import BertConfig, BertModel, BertTokenizerFast, TrainerCallback

    from datasets import Dataset  # type: ignore[attr-defined]

    torch.set_num_threads(args.threads)
    layers, width = map(int, args.encoder.removeprefix("scratch-").split("x"))
    vocabulary = os.path.join(directory, "vocab.txt")
    with open(vocabulary, encoding="utf-8") as file:
        size = len(file.read().splitlines())
    BertTokenizerFast(vocabulary).save_pretrained(directory)
    BertModel(BertConfig(vocab_size=size, hidden_size=width, num_hidden_layers=layers,
                         num_attention_heads=max(1, width // 64),
                         intermediate_size=4 * width)).save_pretrained(directory)
    encoder = models.Transformer(directory, max_seq_length=48)
    model = SentenceTransformer(modules=[encoder, models.Pooling(width), models.Normalize()], device="cpu")
    bert = next(module for module in model.modules() if isinstance(module, BertModel))
    frozen = [bert.embeddings] * args.freeze_embeddings + list(bert.encoder.layer[: args.freeze_layers])
    for parameter in (parameter for module in frozen for parameter in module.parameters()):
        parameter.requires_grad = False
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(-time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times[-1] += time.perf_counter()

    arguments = SentenceTransformerTrainingArguments(
        os.path.join(directory, "out"), per_device_train_batch_size=args.batch_size, max_steps=args.steps + WARM_UP,
        report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True, max_grad_norm=5.0)
    data = Dataset.from_dict({"anchor": [pair[0] for pair in pairs], "positive": [pair[1] for pair in pairs]})
    SentenceTransformerTrainer(model, arguments, data, loss=losses.MultipleNegativesRankingLoss(model, scale=20.0),
                               callbacks=[Clock()]).train()
    return times[WARM_UP:]


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--encoder", default="scratch-4x256")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--freeze_embeddings", action="store_true")
    parser.add_argument("--freeze_layers", type=int, default=0)
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    pairs = read(args.data, args.batch_size * (args.steps + WARM_UP))
    if args.child:
        way, directory = args.child
        seconds = theirs(pairs, args, directory) if way == WAYS[2] else ours(pairs, args, directory, way == WAYS[1])
        print("RESULT" + json.dumps(statistics.median(seconds)))
        return
    found: dict[str, list[float]] = {way: [] for way in args.ways}
    with tempfile.TemporaryDirectory() as directory:
        from models.weights.scratch import make_vocabulary

        with open(os.path.join(directory, "vocab.txt"), "w", encoding="utf-8") as file:
            file.writelines(f"{token}\n" for token in make_vocabulary(text for pair in pairs for text in pair))
        for _ in range(args.repeats):
            for way in args.ways:
                python = args.torch_python if way == WAYS[2] else sys.executable
                done = subprocess.run([python, __file__, *sys.argv[1:], "--child", way, directory], capture_output=True,
                                      text=True, env=os.environ | {"OMP_NUM_THREADS": str(args.threads)})
                if done.returncode:
                    print(f"{way}: left out ({done.stderr.strip().splitlines()[-1]})", file=sys.stderr)
                    continue
                found[way].append(args.batch_size / float(done.stdout.split("RESULT")[1]))
    peer = found.get(WAYS[2], [])
    base = statistics.median(peer or [float("nan")])
    print(f"| {args.encoder}, batches of {args.batch_size} pairs | pairs/s | ratio | of each repeat |")
    print("|---|---:|---:|---|")
    for way, speeds in found.items():
        if speeds:
            middle = statistics.median(speeds)
            each = ", ".join(f"{speed / other:.2f}" for speed, other in zip(speeds, peer))
            print(f"| {way} | {middle:.3g} | {middle / base:.2f} | {each} |")


if __name__ == "__main__":
    main()
