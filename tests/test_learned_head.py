"""A head with parameters of its own: trained, decayed, checked, saved and resumed with the encoder; labels in order.

On two processes: tests/gradients.py, run by test_scripts.py.
"""

import os

import numpy as np
import paddle
import pytest
from learned_head import LearnedHead
from test_trainer import PAIRS, assert_same, schedule

from data import TrainingSet
from models.heads import similarity
from models.heads.in_batch_negative import InBatchNegative
from models.loading import create
from semindex.errors import UserError
from training.checkpoints import Checkpoints
from training.trainer import Trainer, train

LABELS = np.random.default_rng(3).uniform(-1, 1, len(PAIRS))


def made(seed=0, rate=0.1, chunk=64):
    paddle.seed(seed)
    model, tokenizer = create("scratch-1x32", {"output_emb_size": 16, "max_seq_length": 24, "dropout": rate},
                              [text for row in PAIRS for text in row], head_dropout=rate)
    data = TrainingSet.from_samples(PAIRS, tokenizer, 8, seed=1, chunk=chunk, labels=LABELS)
    return model, tokenizer, LearnedHead(16, rate), data


def head_of(directory):
    return {name: value.numpy() for name, value in paddle.load(os.path.join(directory, "head.pdparams")).items()}


@pytest.mark.slow
def test_it_learns_and_a_resumed_run_ends_where_the_undisturbed_one_does(tmp_path):
    model, tokenizer, head, data = made()
    before = {name: value.numpy().copy() for name, value in head.state_dict().items()}
    assert before.keys() == {"temperature", "linear.weight", "linear.bias"}
    train(model, tokenizer, head, data, schedule(tmp_path / "whole", weight_decay=0.1))
    whole = head_of(tmp_path / "whole" / "latest")
    assert all(np.abs(whole[name] - value).max() > 1e-4 for name, value in before.items())

    class Stop(Exception):
        pass

    def stopping(trainer):
        if trainer.run.number == 4:
            raise Stop
        return "", {}

    with pytest.raises(Stop):
        train(*made(), schedule(tmp_path / "part", weight_decay=0.1), callback=stopping)
    model, tokenizer, head, data = made(seed=99)
    train(model, tokenizer, head, data, schedule(tmp_path / "part", weight_decay=0.1, resume=True))
    assert_same(tmp_path / "whole" / "latest", tmp_path / "part" / "latest")
    part = head_of(tmp_path / "part" / "latest")
    for name, value in whole.items():
        np.testing.assert_array_equal(part[name], value, err_msg=name)
        np.testing.assert_array_equal(head.state_dict()[name].numpy(), value, err_msg=name)
    # The weights of a head stay with the encoder's; what only a resume needs does not.
    assert sorted(head_of(tmp_path / "whole" / "model_3")) == sorted(before)
    assert not (tmp_path / "whole" / "model_3" / "optimizer.pdopt").exists()
    os.unlink(tmp_path / "part" / "latest" / "head.pdparams")
    with pytest.raises(UserError, match="head.pdparams: missing"):
        train(*made(), schedule(tmp_path / "part", weight_decay=0.1, resume=True))


def test_of_a_head_matrices_decay_alone(tmp_path):
    model, tokenizer, head, data = made()
    for optimizer in ("adamw", "lamb"):
        step = Trainer(model, tokenizer, head, data, schedule(tmp_path, weight_decay=0.5, optimizer=optimizer)).step
        before = {name: value.numpy().copy() for name, value in head.named_parameters()}
        for p in head.parameters():
            p.clear_gradient()
        for p in [*model.parameters(), *head.parameters()]:
            (p.sum() * 0.0).backward()  # a gradient of nothing: what moves is decay
        step.optimizer.step()
        step.optimizer.clear_grad()
        moved = {name: np.abs(value.numpy() - before[name]).max() > 0 for name, value in head.named_parameters()}
        assert moved == {"temperature": False, "linear.weight": True, "linear.bias": False}, optimizer


def test_a_head_that_is_not_finite_is_not_saved(tmp_path):
    model, tokenizer, head, data = made()
    calls, forward = [], head.forward

    def spoiling(*args, **more):
        loss = forward(*args, **more)
        calls.append(loss)
        if len(calls) == 6:  # the head goes bad in this step, the checkpoint after it must not be written
            head.linear.bias.set_value(paddle.full([16], float("inf")))
        return loss

    head.forward = spoiling
    with pytest.raises(UserError, match=r"the weights are not finite \(linear.bias\).*last good checkpoint: .*model_3"):
        train(model, tokenizer, head, data, schedule(tmp_path, max_grad_norm=0))
    assert Checkpoints(str(tmp_path)).steps() == [3]


@pytest.mark.parametrize("cache", [False, True])
def test_labels_come_in_the_order_of_the_samples(tmp_path, cache):
    model, tokenizer, head, data = made(rate=0.0, chunk=3)
    seen = []
    step = Trainer(model, tokenizer, head, data, schedule(tmp_path, use_gradient_cache=cache)).step
    forward = head.forward
    head.forward = lambda vectors, mask=None, labels=None: seen.append((vectors, labels)) or forward(vectors, mask, labels)
    samples = data.plan(0)[1]
    step.backward(data.batch(samples), 1.0)
    (vectors, labels), = seen
    np.testing.assert_array_equal(labels.numpy(), LABELS[samples].astype(np.float32))
    model.eval()
    for column, ids in zip(vectors, data.batch(samples).ids):
        expected = model(paddle.to_tensor(data.tokens.pad(np.ascontiguousarray(ids), 0)))
        np.testing.assert_allclose(column.numpy(), expected.numpy(), atol=1e-5)


def test_samples_without_labels_are_refused_at_the_start(tmp_path):
    model, tokenizer, head, data = made()
    data.labels = None
    with pytest.raises(ValueError, match="the head learned reads labels"):
        Trainer(model, tokenizer, head, data, schedule(tmp_path))
    Trainer(model, tokenizer, InBatchNegative(), data, schedule(tmp_path))


def test_a_parameter_gets_its_gradient_through_blocks_of_rows(tmp_path, monkeypatch):
    """Large batches are computed a block of rows at a time and once more on the way back: similarity.mean_over_rows."""
    found = []
    for cells in (similarity.CELLS, 20):
        monkeypatch.setattr(similarity, "CELLS", cells)
        model, tokenizer, head, data = made(rate=0.0)
        Trainer(model, tokenizer, head, data, schedule(tmp_path)).step.backward(data.batch(data.plan(0)[0]), 1.0)
        found.append({name: p.grad.numpy() for name, p in head.named_parameters()})
    for name, value in found[0].items():
        assert np.abs(value).max() > 1e-4
        np.testing.assert_allclose(found[1][name], value, atol=1e-5, err_msg=name)
