"""Run by test_scripts.py on one process and on two: the gradients of one batch for every head, written by rank 0."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from semindex import runtime

runtime.start("cpu", 5)

import numpy as np  # noqa: E402
import paddle  # noqa: E402
from learned_head import LearnedHead  # noqa: E402

from data import TrainingSet  # noqa: E402
from models.heads.ance import Ance  # noqa: E402
from models.heads.contrastive import Contrastive, OnlineContrastive  # noqa: E402
from models.heads.cosine_similarity import CosineSimilarity  # noqa: E402
from models.heads.hardest_negative import HardestNegative  # noqa: E402
from models.heads.in_batch_negative import InBatchNegative  # noqa: E402
from models.heads.labelled import PairHead  # noqa: E402
from models.heads.matryoshka import Matryoshka  # noqa: E402
from models.heads.multiple_negatives import MultipleNegatives  # noqa: E402
from models.heads.ordering import CoSent, PairwiseHinge  # noqa: E402
from models.heads.simcse import SimCSE  # noqa: E402
from models.loading import create  # noqa: E402
from training.schedule import Schedule  # noqa: E402
from training.trainer import Trainer  # noqa: E402

SAMPLES = [[f"第{i}个问题 {i * 7}", f"问题的第{i}种说法 {i * 7}", f"另一件事{i % 3}"] for i in range(11)]
paddle.seed(runtime.rank())  # a head that starts differently on each process must not stay so
HEADS = {"in-batch": InBatchNegative(symmetric=True), "hardest": HardestNegative(0.9), "simcse": SimCSE(),
         "ance": Ance(), "learned": LearnedHead(8), "matryoshka": Matryoshka(InBatchNegative(), [3, 5]),
         "contrastive": Contrastive(1.5), "online": OnlineContrastive(1.5),
         "online, theirs": OnlineContrastive(1.5, "sentence_transformers"), "hinge": PairwiseHinge(), "cosent": CoSent(5.0),
         "cosine": CosineSimilarity(), "multiple negatives": MultipleNegatives()}
LABELS = {name: np.arange(11) % 2 for name, head in HEADS.items() if isinstance(head, PairHead)}
WAYS = {"plain": {}, "cache": {"use_gradient_cache": True}, "recompute": {"use_recompute": True},
        "both": {"use_gradient_cache": True, "use_recompute": True}}
texts = [text for row in SAMPLES for text in row]
world = runtime.world_size()
found = {}
for head in HEADS:
    for way, flags in WAYS.items():
        if isinstance(HEADS[head], PairHead) and way not in ("plain", "cache"):
            continue
        paddle.seed(5)
        model, tokenizer = create("scratch-2x32", {"dropout": 0.0, "output_emb_size": 8, "max_seq_length": 32}, texts,
                                  head_dropout=0.0)
        data = TrainingSet.from_samples(SAMPLES, tokenizer, 12 // world, 2, runtime.rank(), world,
                                        chunk=4 if flags else 64, labels=LABELS.get(head, np.linspace(-1, 1, 11)),
                                        alike=np.arange(11) % 2 == 1 if head == "multiple negatives" else None)
        trainer = Trainer(model, tokenizer, HEADS[head], data, Schedule(str(Path(sys.argv[1]).parent), **flags))
        (samples,) = data.plan(0)
        assert len(samples) == 11  # five on one process, six on the other
        kept = {}
        parameters = [*model.named_parameters(), *HEADS[head].named_parameters("head")]
        trainer.step.optimizer.step = lambda kept=kept, parameters=parameters: kept.update(
            (name, p.grad.numpy()) for name, p in parameters if p.grad is not None)
        kept["loss"] = np.array([trainer.step.update(0, [data.batch(np.asarray(samples))])])
        found[f"{head}, {way}"] = kept
if runtime.rank() == 0:
    paddle.save(found, sys.argv[1])
runtime.barrier()
