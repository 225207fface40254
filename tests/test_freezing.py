"""Frozen embeddings and layers, and learning rates that fall by layer."""

import numpy as np
import paddle
import pytest
from test_trainer import PAIRS, schedule

from data import TrainingSet
from models.heads.in_batch_negative import InBatchNegative
from models.loading import create
from semindex.errors import UserError
from training.step import Step


def made(tmp_path, chunk=8, **values):
    paddle.seed(0)
    model, tokenizer = create("scratch-3x32", {"output_emb_size": 16, "max_seq_length": 24, "dropout": 0.0},
                              [text for row in PAIRS for text in row], head_dropout=0.0)
    data = TrainingSet.from_samples(PAIRS, tokenizer, batch_size=8, seed=1, chunk=chunk)
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    step = Step(model, InBatchNegative(), data, schedule(tmp_path, **values), 10)
    model.train()
    step.update(0, [data.batch(data.plan(0)[0])])
    return {name: float(np.abs(value.numpy() - before[name]).max()) for name, value in model.state_dict().items()}, step


def test_what_is_frozen_stays_and_has_no_state(tmp_path, capsys):
    moved, step = made(tmp_path, freeze_embeddings=True, freeze_layers=2)
    for name, change in moved.items():
        frozen = name.startswith(("ptm.embeddings.", "ptm.encoder.layers.0.", "ptm.encoder.layers.1.", "ptm.pooler"))
        assert (change == 0) == frozen, name
    named = [step.names[key] for key in step.names]
    assert not any(name.startswith("ptm.embeddings.") for name in named)
    states = {key for key in step.optimizer.state_dict() if "moment1" in key}
    assert len(states) == len(named) == 16 + 2
    assert "million parameters are frozen" in capsys.readouterr().out


def test_rates_fall_by_layer(tmp_path):
    """The first step of AdamW moves a weight by its rate, whatever the gradient."""
    moved, _ = made(tmp_path, layer_decay=0.5, learning_rate=1e-3)
    for name, ratio in (("ptm.embeddings.word_embeddings.weight", 1 / 8), ("ptm.encoder.layers.0.linear1.weight", 1 / 4),
                        ("ptm.encoder.layers.1.linear1.weight", 1 / 2), ("ptm.encoder.layers.2.linear1.weight", 1),
                        ("emb_reduce_linear.weight", 1)):
        assert moved[name] == pytest.approx(1e-3 * ratio, rel=0.02), name


@pytest.mark.parametrize("way", [{"use_recompute": True}, {"use_gradient_cache": True},
                                 {"use_recompute": True, "use_gradient_cache": True}])
def test_frozen_embeddings_change_no_gradient_above(tmp_path, way):
    """Layers that are computed again would get none, silently: their input asks for no gradient by itself."""
    values = {"freeze_embeddings": True, "freeze_layers": 1}
    plain, again = made(tmp_path, **values)[0], made(tmp_path, **values, **way)[0]
    assert {name for name, change in plain.items() if change} == {name for name, change in again.items() if change}
    for name, change in plain.items():
        assert again[name] == pytest.approx(change, rel=0.02, abs=1e-6), name


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="--freeze_layers 4: the encoder has 3 layers"):
        made(tmp_path, freeze_layers=4)
    paddle.seed(0)
    model, tokenizer = create("scratch-1x32", {"output_emb_size": 0}, ["a b c"])
    data = TrainingSet.from_samples([["a", "b"], ["b", "c"]], tokenizer, batch_size=2)
    with pytest.raises(UserError, match="nothing is left to train"):
        Step(model, InBatchNegative(), data, schedule(tmp_path, freeze_embeddings=True, freeze_layers=1), 1)
