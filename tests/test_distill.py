"""Distillation: losses, the teacher's vectors, students."""

import json

import numpy as np
import paddle
import pytest
from conftest import ROOT
from reference.make_distill import TEMPERATURE, WIDTH, vectors

from data import Neighbours, TrainingSet
from models.heads.distill import Distill
from models.heads.matryoshka import Matryoshka
from models.weights.principal import principal_directions
from semindex.text.prompts import Prompts
from training import teacher
from training.teacher import Spread, Targets, Texts

REFERENCE = json.loads((ROOT / "tests" / "reference" / "distill.json").read_text(encoding="utf-8"))


def computed(head, columns, **options):
    """Return the loss and the student's gradient, float64 [columns, samples, width], of the reference's vectors."""
    student = [paddle.to_tensor(column.astype(np.float32)) for column in vectors(columns, 1)]
    for column in student:
        column.stop_gradient = False
    loss = head(student, labels=paddle.to_tensor(vectors(columns, 2).swapaxes(0, 1).astype(np.float32)), **options)
    loss.backward()
    return float(loss), np.array([column.grad.numpy() for column in student])


# What ours is of theirs: theirs is the mean over numbers too; theirs is times the squared temperature.
@pytest.mark.parametrize(("name", "columns", "factor"), [("mse", 1, WIDTH), ("kl", 3, TEMPERATURE**-2), ("margin_mse", 4, 1)])
def test_losses_are_sentence_transformers(name, columns, factor):
    wanted = REFERENCE[name]
    loss, gradient = computed(Distill([name], TEMPERATURE), columns)
    assert loss == pytest.approx(factor * wanted["loss"], abs=1e-5)
    np.testing.assert_allclose(gradient, factor * np.array(wanted["gradient"]), atol=2e-5)


def test_losses_by_hand():
    """Of two texts, of pairs with in-batch negatives, and the weighted sum."""
    student, wanted = vectors(1, 1)[0], vectors(1, 2)[0]
    losses = {name: computed(Distill([name], 0.2), 1)[0] for name in ("mse", "cosine", "kl")}
    assert losses["mse"] == pytest.approx(((student - wanted) ** 2).sum(1).mean(), abs=1e-5)
    assert losses["cosine"] == pytest.approx((1 - (student * wanted).sum(1)).mean(), abs=1e-5)
    terms = []
    for row in range(len(student)):  # every text against the others, itself left out
        others = np.arange(len(student)) != row
        p, q = (np.exp(side[others] @ side[row] / 0.2) for side in (wanted, student))
        p, q = p / p.sum(), q / q.sum()
        terms.append((p * np.log(p / q)).sum())
    assert losses["kl"] == pytest.approx(np.mean(terms), abs=1e-5)
    assert computed(Distill(["mse", "kl"], 0.2, [2, 0.5]), 1)[0] == pytest.approx(
        2 * losses["mse"] + 0.5 * losses["kl"], abs=1e-5)
    scores = [side[0] @ side[1].T for side in (vectors(2, 1), vectors(2, 2))]
    gaps = np.diag(scores[0])[:, None] - scores[0] - (np.diag(scores[1])[:, None] - scores[1])
    samples = len(gaps)
    assert computed(Distill(["margin_mse"]), 2)[0] == pytest.approx((gaps**2).sum() / (samples * (samples - 1)), abs=1e-5)


def test_losses_of_a_student_that_is_the_teacher_are_0():
    for columns in (1, 2, 3):
        same = [paddle.to_tensor(column.astype(np.float32)) for column in vectors(columns, 3)]
        names = ["mse", "cosine", "kl"] + ["margin_mse"] * (columns > 1)
        assert float(Distill(names)(same, labels=paddle.stack(same, axis=1))) == pytest.approx(0, abs=1e-6)


def test_shorter_student_vectors_learn_the_first_numbers():
    """With --matryoshka_dims each width learns the teacher's first numbers, made a unit vector; kl all of its scores."""
    wanted, student = vectors(1, 2)[0], vectors(1, 1)[0]
    cut = [side[:, :4] / np.linalg.norm(side[:, :4], axis=1, keepdims=True) for side in (student, wanted)]
    both = [((student - wanted) ** 2).sum(1).mean(), ((cut[0] - cut[1]) ** 2).sum(1).mean()]
    assert computed(Matryoshka(Distill(), [4]), 1)[0] == pytest.approx(np.mean(both), abs=1e-5)


def test_what_losses_do_not_take():
    for names, weights in ((["mae"], None), (["mse", "mse"], None), ([], None), (["mse"], [1, 2])):
        with pytest.raises(ValueError):
            Distill(names, weights=weights)
    with pytest.raises(ValueError, match="margin_mse needs"):
        computed(Distill(["margin_mse"]), 1)


def test_principal_directions_keep_inner_products_best():
    """Against numpy's SVD: the same subspace, the same share, and no other product of rank k is nearer."""
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal([300, 10]) * np.geomspace(3, 0.1, 10) + 1).astype(np.float32)
    basis, shares = principal_directions(rows, 4)
    _, values, directions = np.linalg.svd(rows.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(basis @ basis.T, directions[:4].T @ directions[:4], atol=1e-5)
    np.testing.assert_allclose(shares, np.cumsum(values**2) / (values**2).sum(), atol=1e-6)
    assert (basis[np.abs(basis).argmax(0), np.arange(4)] > 0).all()
    error = np.linalg.norm(rows @ rows.T - (rows @ basis) @ (rows @ basis).T)
    assert error == pytest.approx(np.sqrt((values[4:] ** 4).sum()), rel=1e-3)


def test_targets():
    rows, numbers = vectors(1, 2)[0].astype(np.float32), np.array([[0, 1], [2, 3]])
    np.testing.assert_array_equal(Targets(rows, numbers, "key")[np.array([1])], rows[[[2, 3]]])
    basis, _ = principal_directions(rows, 3)
    found = Targets(rows, numbers, "key", basis)[np.array([1, 0])]
    assert found.shape == (2, 2, 3)
    wanted = rows[[2, 3]] @ basis
    np.testing.assert_allclose(found[0], wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)


def test_texts_have_their_sides():
    pairs = [["a", "b"], ["b", "c"], ["a", "c"]]
    alike = Texts.of(pairs, "", True)
    assert alike.queries == ["a", "b", "c"] and alike.rows.tolist() == [[0, 1], [1, 2], [0, 2]]
    differ = Texts.of(pairs, "both", True)
    assert (differ.queries, differ.passages) == (["a", "b"], ["b", "c"]) and differ.rows.tolist() == [[0, 2], [1, 3], [0, 3]]
    assert Texts.of(pairs, "both", False).rows.tolist() == [[0], [1], [2], [3]]
    alone = [["a"], ["b"], ["a"]]
    assert Texts.of(alone, "passage", False).passages == ["a", "b"]
    both = Texts.of(alone, "both", True)
    assert (both.queries, both.passages, both.rows.tolist()) == (["a", "b"], ["a", "b"], [[0], [1], [2], [3]])
    assert len({texts.fingerprint for texts in (alike, differ, both)}) == 3

    class Letters:
        def prompted(self, prompt):
            return lambda texts: teacher.Ragged(np.array([ord(c) for text in texts for c in prompt + text], np.int32),
                                                np.cumsum([0, *(len(prompt + text) for text in texts)]))

    tokens = both.tokens(Letters(), Prompts("q", "p"))
    assert "".join(map(chr, tokens.flat)) == "qaqbpapb"


def test_spread_and_collapse():
    rng = np.random.default_rng(0)
    wide = rng.standard_normal([200, 32])
    spread = Spread.of(wide)
    assert abs(spread.cosine) < 0.02 and 28 < spread.rank < 32
    line = np.outer(rng.standard_normal(200), wide[0])
    assert Spread.of(line).rank == pytest.approx(1, abs=1e-6)
    near = Spread.of(wide * 0.01 + wide[0])
    assert near.cosine > 0.99
    assert near.collapsed(spread) and Spread.of(line).collapsed(spread) and not spread.collapsed(spread)


def test_samples_of_one_text_stand_once():
    rows = np.arange(6)[:, None]
    tokens = teacher.Ragged(np.arange(12, dtype=np.int32), np.arange(0, 13, 2))
    data = TrainingSet(rows, tokens, Neighbours(np.empty([0, 2], np.int64), 6), 4, views=1,
                       labels=Targets(np.eye(6, dtype=np.float32), rows, "key"))
    batch = data.batch(np.array([3, 1]))
    assert data.columns == 1 and batch.ids.tolist() == [[3, 1]] and batch.labels.argmax(2).tolist() == [[3], [1]]
    assert data.fingerprint() != TrainingSet(rows, tokens, data.positives, 4, views=1,
                                             labels=Targets(np.eye(6, dtype=np.float32), rows, "other")).fingerprint()


def losses(output):
    return [float(line.split("loss: ")[1].split(",")[0]) for line in output.splitlines() if "loss: " in line]


def weights(path):
    return {name: value.numpy() for name, value in paddle.load(str(path / "model_state.pdparams")).items()}
