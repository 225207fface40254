import json

import numpy as np
import paddle
import pytest
from conftest import FRAMES, SUBJECTS

from data import TrainingSet
from models.heads.simcse import SimCSE
from models.loading import create, load, save
from models.semantic_index import SemanticIndex
from semindex.errors import UserError
from training.schedule import Schedule
from training.trainer import Trainer, train

TEXTS = [frame.format(subject) for subject in SUBJECTS for frame in FRAMES][:24]


def setup(texts=TEXTS, **flags):
    paddle.seed(3)
    model, tokenizer = create("scratch-1x32", {"output_emb_size": 0, "max_seq_length": 32} | flags, texts, "simcse")
    return model, tokenizer, TrainingSet.from_samples([[text] for text in texts], tokenizer, 8, seed=1)


class Looking(SimCSE):
    def forward(self, vectors, mask=None):
        self.seen = vectors
        return super().forward(vectors, mask)


def test_the_two_views_differ_by_dropout_alone(tmp_path):
    for dropout, same in ((0.0, True), (0.1, False)):
        model, tokenizer, data = setup(dropout=dropout)
        model.dropout.p = 0.0  # dropout inside the encoder is what tells the views apart
        trainer = Trainer(model, tokenizer, Looking(), data, Schedule(str(tmp_path)))
        model.train()
        trainer.step.loss(data.batch(np.arange(8)))
        first, second = (v.numpy() for v in trainer.step.head.seen)
        assert np.allclose(first, second, atol=1e-6) == same
        assert (np.einsum("ij,ij->i", first, second) > 0.5).all()


def test_loss_is_the_formula():
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in np.random.default_rng(0).standard_normal([2, 6, 5]))
    logits = 20 * first @ second.T
    expected = np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits))
    got = SimCSE()([paddle.to_tensor(x.astype(np.float32)) for x in (first, second)])
    assert float(got) == pytest.approx(expected, rel=1e-5)
    assert SimCSE().stuck(6, 2) == pytest.approx(np.log(6))


def test_a_text_that_stands_twice_in_a_batch_is_masked(tmp_path):
    model, tokenizer, data = setup([*TEXTS[:4], TEXTS[0]])
    batch = data.batch(np.arange(5))
    mask = data.positives.mask(batch.ids)
    assert mask.sum() == 2 and mask[0, 4] and mask[4, 0]
    assert data.shared_texts() == 2


@pytest.mark.slow
def test_training_spreads_the_vectors_and_keeps_the_views_together(tmp_path):
    model, tokenizer, data = setup()
    best = train(model, tokenizer, SimCSE(), data, Schedule(str(tmp_path), epochs=20, learning_rate=3e-3, log_steps=1000))
    tuned, tokenizer = load(best, {})
    with paddle.no_grad():
        vectors = tuned(paddle.to_tensor(tokenizer(TEXTS).pad(np.arange(len(TEXTS)), 0))).numpy()
    others = (vectors @ vectors.T)[~np.eye(len(TEXTS), dtype=bool)]
    assert others.mean() < 0.2  # untrained they are all near 1


@pytest.mark.parametrize(("given", "size", "inference", "training"), [
    (True, 0, "pooler", ""), (True, 8, "pooler", ""), (False, 0, "cls", "pooler"), (False, 8, "cls", ""),
])
def test_infer_with_fc_pooler(tmp_path, given, size, inference, training):
    source, tokenizer = create("scratch-1x32", {"max_seq_length": 32, "output_emb_size": 0}, TEXTS)
    source.ptm.save_pretrained(str(tmp_path / "encoder"))
    tokenizer.save(str(tmp_path / "encoder"))
    model, tokenizer = create(str(tmp_path / "encoder"), {"output_emb_size": size, "infer_with_fc_pooler": given,
                                                             "dropout": 0.0}, head="simcse", head_dropout=0.0)
    assert (model.settings.pooling, model.settings.training_pooling) == (inference, training)
    assert model.ptm.pooler.dense.weight.stop_gradient == ((training or inference) != "pooler")
    ids = paddle.to_tensor(tokenizer(TEXTS[:3]).pad(np.arange(3), 0))
    model.train()
    in_training = model(ids).numpy()
    model.eval()
    assert np.allclose(in_training, model(ids).numpy(), atol=1e-5) == (not training)
    (tmp_path / "out").mkdir()
    save(model, tokenizer, str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "semantic_index.json").read_text())["training_pooling"] == training
    again, _ = load(str(tmp_path / "out"), {})
    np.testing.assert_allclose(again(ids).numpy(), model(ids).numpy(), atol=1e-6)
    again.set_head("in_batch_negative")  # other heads train what inference uses
    assert again.settings.training_pooling == "" and isinstance(again, SemanticIndex)
    assert again.ptm.pooler.dense.weight.stop_gradient == (inference != "pooler")


def test_infer_with_fc_pooler_contradicts_another_pooling():
    with pytest.raises(UserError, match="--infer_with_fc_pooler contradicts --pooling mean"):
        setup(pooling="mean", infer_with_fc_pooler=True)
