"""The ANCE head, its encoder, its data, its generations."""


import numpy as np
import paddle
import pytest

from models.heads.ance import Ance
from models.heads.in_batch_negative import InBatchNegative
from models.loading import create, load, save
from semindex.collection import store as collections
from semindex.collection.store import Sources
from semindex.errors import UserError
from training.negatives.training_set import AnceTrainingSet
from training.schedule import Schedule
from training.trainer import Trainer


def vectors(columns, samples=5, width=7, seed=0):
    rng = np.random.default_rng(seed)
    return [paddle.to_tensor(rng.standard_normal([samples, width]).astype(np.float32)) for _ in range(columns)]


def softmax_loss(scores, own):
    """-log softmax of each row's own place, float64."""
    scores = scores.astype(np.float64)
    return np.mean(np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1)) + scores.max(1)
                   - scores[np.arange(len(scores)), own])


def test_the_loss_is_the_papers():
    q, p, *negatives = some = vectors(4)
    scores = np.stack([(q.numpy() * text.numpy()).sum(1) for text in (p, *negatives)], 1)
    assert float(Ance(scale=1.0)(some)) == pytest.approx(softmax_loss(scores, 0), rel=1e-5)
    assert float(Ance(scale=3.0)(some)) == pytest.approx(softmax_loss(3 * scores, 0), rel=1e-5)


def test_in_batch_the_other_pairs_texts_count_too():
    q, *texts = some = vectors(4)
    scores = q.numpy() @ np.concatenate([text.numpy() for text in texts]).T
    assert float(Ance(2.0, in_batch=True)(some)) == pytest.approx(softmax_loss(2 * scores, np.arange(5)), rel=1e-5)
    alone = some[:2]  # no negatives: the batch's, as of the in-batch loss
    assert float(Ance(2.0)(alone)) == pytest.approx(float(InBatchNegative(0.0, 2.0)(alone)), rel=1e-5)


@pytest.mark.parametrize("in_batch", [False, True])
def test_of_several_passages_the_best_counts(in_batch):
    q, *passages = some = vectors(1 + 3 * 2)  # a positive and two negatives of two passages each
    dots = q.numpy() @ np.concatenate([text.numpy() for text in passages]).T
    best = dots.reshape(5, 3, 2, 5).max(2)  # [query, text, sample]
    own = best[np.arange(5), :, np.arange(5)]
    expected = softmax_loss(best.reshape(5, -1), np.arange(5)) if in_batch else softmax_loss(own, 0)
    assert float(Ance(1.0, in_batch, chunks=2)(some)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("in_batch", [False, True])
def test_a_masked_negative_changes_nothing(in_batch):
    some = vectors(3)
    head = Ance(1.0, in_batch)
    mask = np.zeros([5, 10], bool)
    mask[:, 5 + 2] = True  # the third sample's negative, for that sample and, in the batch, for all
    mask[2, 2] = not in_batch  # its positive never is
    without = float(head(some, paddle.to_tensor(mask)))
    some[2][2] = 100 * some[0][2]
    assert float(head(some, paddle.to_tensor(mask))) == pytest.approx(without, rel=1e-6)
    assert float(head(some)) > without + 1


def test_a_negative_above_the_positive_has_a_gradient():
    q, p, n = vectors(3, samples=1)
    for tensor in (q, p, n):
        tensor.stop_gradient = False
    n.set_value(q)  # as near as can be
    Ance()([q, p, n]).backward()
    assert float(p.grad.norm()) > 0.1 and float(n.grad.norm()) > 0.1


def test_the_papers_encoder_ends_in_a_layer_norm(tmp_path):
    texts = ["怎么退款", "快递到哪了"]
    model, tokenizer = create("scratch-1x32", {"max_seq_length": 16, "similarity": "dot"}, texts)
    model.eval()
    ids = paddle.to_tensor(tokenizer(texts).pad(np.arange(2), 0))
    found = model(ids).numpy()
    assert found.shape == (2, 32)  # a square linear layer
    pooled = model.pool(ids)
    expected = paddle.nn.functional.layer_norm(model.emb_reduce_linear(pooled), 32, model.norm.weight, model.norm.bias)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert np.linalg.norm(found, axis=1) == pytest.approx(32**0.5, rel=0.01)
    (tmp_path / "c").mkdir()
    save(model, tokenizer, str(tmp_path / "c"))
    again, _ = load(str(tmp_path / "c"), {})
    np.testing.assert_array_equal(again(ids).numpy(), found)
    with pytest.raises(UserError, match="--similarity 'cosine' contradicts the checkpoint"):
        load(str(tmp_path / "c"), {"similarity": "cosine"})
    with pytest.raises(UserError, match="go on with train_ance.py"):
        again.set_head("in_batch_negative")


def test_lamb_takes_steps_of_the_trust_ratio(tmp_path):
    """You et al. 2019: the step is learning rate * |w| / |u| * u, u the bias-corrected Adam step; at step 1, sign(g)."""
    from data import TrainingSet

    paddle.seed(0)  # gradients that are large enough to see the step's direction in
    pairs = [[f"第{i}问", f"{i}的答"] for i in range(8)]
    model, tokenizer = create("scratch-1x32", {"max_seq_length": 8, "dropout": 0.0},
                              [text for pair in pairs for text in pair], head_dropout=0.0)
    trainer = Trainer(model, tokenizer, InBatchNegative(), TrainingSet.from_samples(pairs, tokenizer, 8),
                      Schedule(str(tmp_path), learning_rate=0.01, optimizer="lamb", max_grad_norm=0.0, epochs=3))
    before = {name: p.numpy().copy() for name, p in model.named_parameters()}
    batch = trainer.data.batch(trainer.data.plan(0)[0])
    kept = {}
    step = trainer.step.optimizer.step
    trainer.step.optimizer.step = lambda: (kept.update((name, p.grad.numpy().copy()) for name, p in model.named_parameters()
                                                  if p.grad is not None), step())[1]
    first = trainer.step.update(0, [batch])
    checked = 0
    for name, p in model.named_parameters():
        if name not in kept or not np.linalg.norm(before[name]) or np.abs(kept[name]).min() < 1e-4:
            continue
        u = kept[name] / (np.abs(kept[name]) + 1e-6)
        moved = 0.01 * np.linalg.norm(before[name]) / np.linalg.norm(u) * u
        np.testing.assert_allclose(before[name] - p.numpy(), moved, rtol=2e-2, atol=1e-6, err_msg=name)
        checked += 1
    assert checked >= 1
    assert trainer.step.update(0, [batch]) < first


@pytest.fixture
def data(tmp_path):
    documents = [(f"D{i}", f"文{i}章" * (1 + i % 3 * 4)) for i in range(9)]
    queries = [(f"q{i}", f"问{i}") for i in range(4)]
    model, tokenizer = create("scratch-1x32", {"max_seq_length": 8}, [text for _, text in documents + queries])
    judged = [(f"q{i}", f"D{i}", 1) for i in range(4)] + [("q0", "D8", 1)]
    collections.build(str(tmp_path / "c"), Sources(lambda separator: documents, queries, 4, judged, "", (8, 8), 2), tokenizer)
    return AnceTrainingSet(collections.load(str(tmp_path / "c")), 3, 2, seed=1)


def test_a_batch_has_the_passages_of_its_documents(data):
    first = data.collection.first_passage
    assert data.columns == 3  # no generation yet: queries and the positives' two passages
    negatives = np.array([[5, 6], [4, 7], [5, 8], [6, 7], [7, 4]], np.int32)
    data.use(0, negatives)
    assert data.columns == 1 + 3 * 2
    samples = np.array([3, 0, 4])
    batch = data.batch(samples)
    texts = [chunk[row] for chunk in batch.chunks for row in range(len(chunk))]
    rows = [texts[place][texts[place] != 0].tolist() for place in batch.order]
    assert len(rows) == 7 * 3
    collection = data.collection

    def tokens(row):
        return collection.tokens.flat[collection.tokens.starts[row] : collection.tokens.starts[row + 1]].tolist()

    for place, sample in enumerate(samples):
        query, document = collection.pairs[sample]
        column = [rows[i * 3 + place] for i in range(7)]
        assert column[0] == tokens(collection.about.passages + query)
        assert column[1] == tokens(first[document])
        assert column[2] == tokens(first[document + 1] - 1)  # a document of one passage gives it twice
        for i, one in enumerate(column[3::2]):
            document = next(d for d in negatives[sample] if tokens(first[d]) == one)
            assert column[4 + 2 * i] == tokens(first[document + 1] - 1)
    again = data.batch(samples)
    for one, two in zip(batch.chunks, again.chunks):
        np.testing.assert_array_equal(one, two)


def test_other_positives_of_a_query_are_masked_in_the_batch(data):
    samples = np.array([int(np.flatnonzero((data.collection.pairs == pair).all(1))[0]) for pair in ([0, 0], [0, 8], [1, 1])])
    mask = data.positives.mask(data.batch(samples).ids)
    assert mask[0, 1] and mask[1, 0] and not mask[0, 2] and not mask[2, 0]


