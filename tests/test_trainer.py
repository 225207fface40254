import contextlib
import json
import math
import os
import re
import signal

import numpy as np
import paddle
import pytest
from conftest import FRAMES, SUBJECTS
from paddle import nn

from data import TrainingSet
from models.heads.head import Head
from models.heads.in_batch_negative import InBatchNegative
from models.loading import create, load
from semindex.errors import UserError
from training.checkpoints import Checkpoints
from training.monitor import Monitor
from training.schedule import Schedule
from training.trainer import Trainer, train

PAIRS = [[FRAMES[i].format(subject), FRAMES[j].format(subject)] for subject in SUBJECTS for i, j in ((0, 1), (1, 0), (2, 3))]


def setup(seed=0, **flags):
    paddle.seed(seed)
    texts = [text for row in PAIRS for text in row]
    model, tokenizer = create("scratch-1x32", {"output_emb_size": 16, "max_seq_length": 24, "dropout": 0.1} | flags, texts)
    return model, tokenizer, TrainingSet.from_samples(PAIRS, tokenizer, batch_size=8, seed=1)


def schedule(path, **values):
    return Schedule(**{"save_dir": str(path), "epochs": 2, "learning_rate": 1e-3, "log_steps": 2, "save_steps": 3,
                       "seed": 1} | values)


def weights(directory):
    return {name: value.numpy() for name, value in paddle.load(os.path.join(directory, "model_state.pdparams")).items()}


def assert_same(a, b, atol=0.0):
    for name, value in weights(a).items():
        np.testing.assert_allclose(value, weights(b)[name], atol=atol, rtol=0, err_msg=name)


@pytest.mark.slow
def test_loss_falls_lines_are_the_recipes_and_checkpoints_stand(tmp_path, capsys):
    model, tokenizer, data = setup()
    last = train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, epochs=8))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("global step")]
    form = r"global step (\d+), epoch: (\d+), batch: (\d+), loss: (\d+\.\d{5}), speed: \d+\.\d\d step/s"
    found = [re.fullmatch(form, line) for line in lines]
    assert all(found) and [int(m[1]) for m in found] == list(range(2, 41, 2))
    assert [(int(m[2]), int(m[3])) for m in found][:3] == [(1, 2), (1, 4), (2, 1)]
    assert float(found[-1][4]) < 0.6 * float(found[0][4])
    steps = Checkpoints(str(tmp_path)).steps()
    assert steps == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 40] and last == str(tmp_path / "model_40")
    assert os.readlink(tmp_path / "latest") == "model_40"
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith(".")) == []
    assert not (tmp_path / "model_3" / "optimizer.pdopt").exists() and (tmp_path / "model_40" / "optimizer.pdopt").exists()


def test_a_ctrl_c_that_a_library_swallows_ends_the_run_after_the_step(tmp_path):
    class Swallowing(InBatchNegative):
        """A head in which a destructor runs as Ctrl-C comes: Python prints the exception and goes on."""

        def forward(self, vectors, mask=None, labels=None):
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            return super().forward(vectors, mask)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(*setup()[:2], Swallowing(), setup()[2], schedule(tmp_path / "run"))
    assert signal.getsignal(signal.SIGINT) is before is signal.default_int_handler


def test_zero_epochs_save_the_encoder_as_it_starts(tmp_path):
    model, tokenizer, data = setup()
    before = model.emb_reduce_linear.weight.numpy()
    train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, epochs=0))
    np.testing.assert_array_equal(weights(tmp_path / "latest")["emb_reduce_linear.weight"], before)


@pytest.mark.slow
def test_same_seed_same_weights_other_seed_others(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        model, tokenizer, data = setup()
        train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path / name, seed=seed))
    assert_same(tmp_path / "a" / "latest", tmp_path / "b" / "latest")
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "a" / "latest", tmp_path / "c" / "latest")


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 4, 7])
def test_a_resumed_run_ends_where_the_undisturbed_one_does(tmp_path, stop):
    """Dropout on; the optimizer, the schedule and the position all come back."""
    model, tokenizer, data = setup()
    train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path / "whole"))

    class Stop(Exception):
        pass

    def stopping(trainer):
        if trainer.run.number == stop:
            raise Stop
        return "", {}

    model, tokenizer, data = setup()
    with pytest.raises(Stop):
        train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path / "part"), callback=stopping)
    assert Checkpoints(str(tmp_path / "part")).steps()[-1] == stop - stop % 3
    model, tokenizer, data = setup(seed=99)  # other weights and other parameter names: all must come from the file
    train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path / "part", resume=True))
    assert_same(tmp_path / "whole" / "latest", tmp_path / "part" / "latest")


def test_resume_with_other_flags_or_data_is_refused(tmp_path):
    model, tokenizer, data = setup()
    train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path))
    fewer = TrainingSet.from_samples(PAIRS[:-4], tokenizer, 8, seed=1)
    for other, changes in ((data, {"epochs": 3}), (data, {"learning_rate": 2e-3}), (fewer, {})):
        with pytest.raises(UserError, match="--resume: .* was made with"):
            train(model, tokenizer, InBatchNegative(), other, schedule(tmp_path, resume=True, **changes))


def test_resume_without_a_checkpoint_starts_anew(tmp_path, capsys):
    model, tokenizer, data = setup()
    train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, resume=True))
    assert "nothing to resume" in capsys.readouterr().out


@pytest.mark.parametrize("precise", ["loss", "weights"])
def test_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path, precise):
    model, tokenizer, data = setup()

    class Failing(InBatchNegative):
        calls = 0

        def forward(self, vectors, mask=None):
            Failing.calls += 1
            loss = super().forward(vectors, mask)
            if precise == "loss":
                return loss * (float("nan") if Failing.calls == 5 else 1.0)
            if Failing.calls == 6:  # the weights go bad in this step, the checkpoint after it must not be written
                model.emb_reduce_linear.bias.set_value(paddle.full([16], float("inf")))
            return loss

    with pytest.raises(UserError, match=r"last good checkpoint: .*model_3; lower --learning_rate"):
        train(model, tokenizer, Failing(), data, schedule(tmp_path, max_grad_norm=0))
    assert Checkpoints(str(tmp_path)).steps() == [3] and os.readlink(tmp_path / "latest") == "model_3"
    assert all(np.isfinite(value).all() for value in weights(tmp_path / "model_3").values())


def test_accumulated_gradients_are_the_mean_of_the_batches(tmp_path):
    model, tokenizer, data = setup(dropout=0.0)
    model.dropout.p = 0.0
    trainer = Trainer(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, gradient_accumulation_steps=2))
    assert trainer.total == 2 * math.ceil(5 / 2)
    batches = [data.batch(samples) for samples in data.plan(0)[:2]]
    parameter = model.emb_reduce_linear.weight
    single = []
    for batch in batches:
        trainer.step.loss(batch).backward()
        single.append(parameter.grad.numpy())
        trainer.step.optimizer.clear_grad()
    seen = []
    trainer.step.optimizer.step = lambda: seen.append(parameter.grad.numpy())
    trainer.step.update(0, batches)
    np.testing.assert_allclose(seen[0], (single[0] + single[1]) / 2, atol=1e-6)


def test_no_decay_on_bias_and_norm(tmp_path):
    model, tokenizer, data = setup()
    trainer = Trainer(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, weight_decay=0.1))
    decays = {name: trainer.step.optimizer._apply_decay_param_fun(p.name) for name, p in model.named_parameters()}
    assert decays["ptm.encoder.layers.0.linear1.weight"] and decays["ptm.embeddings.word_embeddings.weight"]
    assert not decays["ptm.encoder.layers.0.linear1.bias"] and not decays["ptm.encoder.layers.0.norm1.weight"]
    assert not decays["ptm.embeddings.layer_norm.weight"]


def test_learning_rate_rises_and_falls(tmp_path):
    model, tokenizer, data = setup()
    trainer = Trainer(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, warmup_proportion=0.4))
    rates = []
    for samples in data.plan(0) + data.plan(1):
        rates.append(trainer.step.optimizer.get_lr())
        trainer.step.update(0, [data.batch(samples)])
    np.testing.assert_allclose(rates, np.array([0, 1, 2, 3, 4, 4 - 4 / 6, 4 - 8 / 6, 2, 8 / 6, 4 / 6]) / 4 * 1e-3, atol=1e-9)


def test_false_negatives_are_masked_only_when_asked(tmp_path):
    model, tokenizer, _ = setup(dropout=0.0)
    data = TrainingSet.from_samples([["a", "b"], ["a", "c"], ["d", "e"], ["f", "c"]], tokenizer, 4)
    batch = data.batch(np.arange(4))
    seen = []

    class Looking(InBatchNegative):
        def forward(self, vectors, mask=None):
            seen.append(mask)
            return super().forward(vectors, mask)

    for mask in (True, False):
        Trainer(model, tokenizer, Looking(), data, schedule(tmp_path), mask).step.loss(batch)
    assert seen[0].numpy().sum() == 6 and seen[1] is None


def test_vectors_come_back_in_the_order_of_the_samples(tmp_path):
    model, tokenizer, data = setup(dropout=0.0)
    data.chunk = 3
    batch = data.batch(data.plan(0)[0])
    trainer = Trainer(model, tokenizer, InBatchNegative(), data, schedule(tmp_path))
    model.eval()
    seen = []

    class Looking(Head):
        def forward(self, vectors, mask=None, labels=None):
            seen.append(vectors)
            return vectors[0].sum()

    trainer.step.head = Looking()
    trainer.step.loss(batch)
    for column, ids in zip(seen[0], batch.ids):
        ids = np.ascontiguousarray(ids)
        np.testing.assert_allclose(column.numpy(), model(paddle.to_tensor(data.tokens.pad(ids, 0))).numpy(), atol=1e-5)


def test_too_little_data_is_an_error(tmp_path):
    model, tokenizer, _ = setup()
    with pytest.raises(UserError, match="1 training sample with --batch_size 8 give no batch"):
        train(model, tokenizer, InBatchNegative(), TrainingSet.from_samples(PAIRS[:1], tokenizer, 8), schedule(tmp_path))


def watch_after(loss, vectors, head, reports=10):
    watch = Monitor(head, 8)
    for step in range(reports):
        watch.see(loss)
        watch.report(step, vectors, 2)
    return watch.warned


def test_a_stuck_loss_and_collapsed_vectors_are_noticed(capsys):
    rng = np.random.default_rng(0)
    apart = nn.functional.normalize(paddle.to_tensor(rng.normal(size=[8, 16]).astype(np.float32)))
    alike = nn.functional.normalize(paddle.to_tensor(1 + 0.01 * rng.normal(size=[8, 16]).astype(np.float32)))
    head = InBatchNegative(margin=0.0, scale=20)
    assert not watch_after(0.5, apart, head)
    assert not watch_after(math.log(8), alike, head, reports=5)
    assert capsys.readouterr().err == ""
    assert watch_after(math.log(8), apart, head)
    assert "the loss sits at 2.079" in capsys.readouterr().err
    assert watch_after(0.5, alike, head)
    assert "the vectors collapse" in capsys.readouterr().err


def test_a_loss_of_nothing_is_noticed(capsys, tmp_path):
    apart = nn.functional.normalize(paddle.to_tensor(np.eye(8, 16, dtype=np.float32)))
    assert not watch_after(0.0, apart, InBatchNegative(), reports=9)
    assert not watch_after(1e-4, apart, InBatchNegative()) and capsys.readouterr().err == ""
    assert watch_after(0.0, apart, InBatchNegative())
    assert "the loss has been 0 in ten reports" in capsys.readouterr().err
    model, tokenizer, _ = setup()
    for samples, told in ((PAIRS[:1] * 20, True), ([*PAIRS[:1] * 20, PAIRS[1]], False)):
        data = TrainingSet.from_samples(samples, tokenizer, 8)
        Trainer(model, tokenizer, InBatchNegative(), data, schedule(tmp_path))
        assert ("all 20 training samples are the same" in capsys.readouterr().err) == told


def test_state_says_where_the_run_stands(tmp_path):
    model, tokenizer, data = setup()
    train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, epochs=1))
    state = json.loads((tmp_path / "latest" / "training_state.json").read_text())
    assert state["step"] == 5 and state["batch_size"] == 8 and state["head"] == "in_batch_negative"
    assert load(str(tmp_path / "latest"), {})[0].settings.output_emb_size == 16


def test_a_resume_with_another_loss_or_other_data_is_refused(tmp_path):
    model, tokenizer, data = setup()
    train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, max_steps=2))
    again = schedule(tmp_path, max_steps=2, resume=True)
    with pytest.raises(UserError, match="made with margin 0.2, now it is 0.9"):
        train(model, tokenizer, InBatchNegative(margin=0.9), data, again)
    data.rows[0] = data.rows[1]
    with pytest.raises(UserError, match="made with training texts"):
        train(model, tokenizer, InBatchNegative(), data, again)
    state = os.path.join(Checkpoints(str(tmp_path)).latest(), "training_state.json")
    with open(state, "w") as file:
        file.write("{")
    with pytest.raises(UserError, match="changed since"):
        train(model, tokenizer, InBatchNegative(), data, again)


@pytest.mark.parametrize("width, texts", [(32, 32), (512, 16)])
def test_wide_encoders_take_smaller_chunks_on_a_cpu(width, texts):
    from training.setup import chunk_size

    assert chunk_size(create(f"scratch-1x{width}", {}, ["怎么退款"])[0]) == texts
