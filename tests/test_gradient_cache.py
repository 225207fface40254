import numpy as np
import paddle
import pytest

from data import TrainingSet
from models.heads import similarity
from models.heads.ance import Ance
from models.heads.contrastive import Contrastive
from models.heads.hardest_negative import HardestNegative
from models.heads.in_batch_negative import InBatchNegative
from models.heads.multiple_negatives import MultipleNegatives
from models.heads.ordering import CoSent
from models.heads.simcse import SimCSE
from models.loading import create
from training import gradient_cache
from training.schedule import Schedule
from training.trainer import Trainer

HEADS = {
    "in-batch": lambda: InBatchNegative(margin=0.1, symmetric=True),
    "in-batch, gap": lambda: InBatchNegative(margin=0.1, gap=0.05),
    "hardest": lambda: HardestNegative(0.9),
    "3 hardest": lambda: HardestNegative(0.9, hardest=3),
    "semi-hard": lambda: HardestNegative(0.9, "semi_hard"),
    "random": lambda: HardestNegative(0.9, "random"),
    "simcse": lambda: SimCSE(),
    "ance": lambda: Ance(),
    "ance, in batch": lambda: Ance(in_batch=True),
    "contrastive": lambda: Contrastive(1.5),
    "multiple negatives": lambda: MultipleNegatives(),
    "cosent": lambda: CoSent(5.0),
}
# A text twice, so that there are false negatives to mask, lengths from short to long, a column of hard negatives.
TRIPLES = [[f"第{i % 9}问 {i * 7}", f"问题的第{i}种说法 {i * 7}" * (1 + i % 3), f"另一件事{i % 3}"] for i in range(11)]


def gradients(tmp_path, head, rate=0.0, chunk=5, columns=3, **schedule):
    """The loss and the gradients of one batch of all samples."""
    paddle.seed(0)
    samples = [row[:columns] for row in TRIPLES]
    model, tokenizer = create("scratch-2x32", {"dropout": rate, "output_emb_size": 8, "max_seq_length": 32},
                              [text for row in TRIPLES for text in row], head_dropout=rate)
    data = TrainingSet.from_samples(samples, tokenizer, 11, seed=2, chunk=chunk,
                                    labels=np.arange(11) % 2 if head.uses_labels else None)
    trainer = Trainer(model, tokenizer, head, data, Schedule(str(tmp_path), **schedule))
    paddle.seed(7)
    loss = trainer.step.backward(data.batch(data.plan(0)[0]), 1.0)
    return loss, {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(a, b):
    """Equal to 1e-6, measured as float32 can: against the length of the gradient."""
    assert a[0] == pytest.approx(b[0], rel=1e-6)
    assert a[1].keys() == b[1].keys() and len(a[1]) > 20
    length = np.sqrt(sum((value.astype(np.float64) ** 2).sum() for value in b[1].values()))
    assert length > 0.01
    for name, value in a[1].items():
        np.testing.assert_allclose(value, b[1][name], atol=1e-6 * length, rtol=0, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_chunks_give_the_gradient_of_the_whole_batch(tmp_path, name, columns):
    """Rows B2 to B4: the published chunked training had another gradient than the batch."""
    whole = gradients(tmp_path, HEADS[name](), chunk=1000, columns=columns)
    assert_equal(gradients(tmp_path, HEADS[name](), columns=columns, use_gradient_cache=True), whole)


def test_one_text_a_sample_too(tmp_path):
    whole = gradients(tmp_path, SimCSE(), 0.1, columns=1)
    assert_equal(gradients(tmp_path, SimCSE(), 0.1, columns=1, use_gradient_cache=True), whole)


@pytest.mark.slow
@pytest.mark.parametrize("cache", [False, True])
def test_dropout_drops_the_same_in_both_passes(tmp_path, cache):
    """With dropout the second pass must repeat the first: then even the masks of the plain batch come out."""
    whole = gradients(tmp_path, InBatchNegative(), 0.2)
    again = gradients(tmp_path, InBatchNegative(), 0.2, use_gradient_cache=cache)
    assert_equal(again, whole)
    assert abs(gradients(tmp_path, InBatchNegative(), 0.0)[0] - whole[0]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("cache", [False, True])
def test_layers_computed_again_give_the_same_gradient(tmp_path, cache):
    whole = gradients(tmp_path, InBatchNegative(), 0.2)
    assert_equal(gradients(tmp_path, InBatchNegative(), 0.2, use_recompute=True, use_gradient_cache=cache), whole)


def test_the_random_state_goes_on_after_the_second_pass(tmp_path):
    """Batches of one step must not share their dropout."""
    weight = paddle.ones([40, 3])
    weight.stop_gradient = False
    seen = []

    def encode(chunk):
        vectors = paddle.nn.functional.dropout(weight[: len(chunk)], 0.5)
        seen.append(vectors.numpy().copy())
        return vectors

    for _ in range(2):
        gradient_cache.backward(encode, [paddle.zeros([40, 1])], lambda vectors: (vectors**2).sum())
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[2], seen[3])
    assert (seen[0] != seen[2]).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_blocks_of_rows_give_the_loss_of_all(tmp_path, monkeypatch, name):
    whole = gradients(tmp_path, HEADS[name]())
    monkeypatch.setattr(similarity, "CELLS", 100)  # 3 rows of 22 candidates' cosines at a time
    assert_equal(gradients(tmp_path, HEADS[name]()), whole)


def allocated(samples, **schedule):
    """Most bytes that paddle had allocated at once for one step of that many samples, in a process of its own."""
    import json
    import subprocess
    import sys

    from conftest import ROOT

    code = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from semindex import runtime
runtime.start("cpu", 0)
import paddle
from data import TrainingSet
from models.heads.in_batch_negative import InBatchNegative
from models.loading import create
from training.schedule import Schedule
from training.trainer import Trainer
texts = [["%06d" % i + "问" * 8, "%06d" % i + "答" * 8] for i in range({samples})]
model, tokenizer = create("scratch-1x64", {{"output_emb_size": 16, "max_seq_length": 16}}, texts[0])
data = TrainingSet.from_samples(texts, tokenizer, {samples}, chunk=64)
trainer = Trainer(model, tokenizer, InBatchNegative(), data, Schedule("unused", **{schedule!r}))
trainer.step.update(0, [data.batch(data.plan(0)[0])])
print(paddle.base.core.host_memory_stat_peak_value("Allocated", 0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_memory_is_that_of_a_chunk():
    """Without the cache sixteen times the samples take sixteen times the memory."""
    small = allocated(64)
    assert allocated(1024, use_gradient_cache=True) < 1.3 * small + 1024 * 1024 * 4 * 3  # three arrays of cosines
    assert allocated(1024) > 5 * small
