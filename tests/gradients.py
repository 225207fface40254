"""Run by test_scripts.py on one process and on two: the gradients of one batch, written by rank 0."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import runtime

runtime.start("cpu", 5)

import numpy as np  # noqa: E402
import paddle  # noqa: E402

from data import TrainingSet  # noqa: E402
from models.in_batch_negative import InBatchNegative  # noqa: E402
from models.semantic_index import create  # noqa: E402
from trainer import Schedule, Trainer  # noqa: E402

SAMPLES = [[f"第{i}个问题 {i * 7}", f"问题的第{i}种说法 {i * 7}", f"另一件事{i % 3}"] for i in range(11)]
texts = [text for row in SAMPLES for text in row]
model, tokenizer = create("scratch-2x32", {"dropout": 0.0, "output_emb_size": 8, "max_seq_length": 32}, texts,
                          head_dropout=0.0)
world = runtime.world_size()
data = TrainingSet(SAMPLES, tokenizer, 12 // world, seed=2, rank=runtime.rank(), world=world)
trainer = Trainer(model, tokenizer, InBatchNegative(symmetric=True), data, Schedule(str(Path(sys.argv[1]).parent)))
(samples,) = data.plan(0)
assert len(samples) == 11  # five on one process, six on the other
(trainer.loss(data.batch(np.asarray(samples))) * world).backward()
if runtime.rank() == 0:
    paddle.save({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, sys.argv[1])
runtime.barrier()
