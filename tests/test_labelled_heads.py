"""Losses over labelled pairs: numbers by hand, sentence-transformers' (tests/reference/make_labelled.py), odd batches."""

import json
import math

import numpy as np
import paddle
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from models.heads.contrastive import Contrastive, OnlineContrastive
from models.heads.cosine_similarity import CosineSimilarity
from models.heads.matryoshka import Matryoshka
from models.heads.multiple_negatives import MultipleNegatives
from models.heads.ordering import CoSent, PairwiseHinge
from models.heads.similarity import softmax_over_batch

REFERENCE = json.loads((ROOT / "tests" / "reference" / "labelled.json").read_text(encoding="utf-8"))["losses"]
THEIRS = {"contrastive": Contrastive(form="sentence_transformers"), "cosine": CosineSimilarity(), "cosent": CoSent(),
          "online_contrastive": OnlineContrastive(form="sentence_transformers"), "multiple_negatives": MultipleNegatives()}
EVERY = {"contrastive": Contrastive(), "online_contrastive": OnlineContrastive(), "hinge": PairwiseHinge(),
         "hinge, skipping": PairwiseHinge(skip_equal=True), **{f"{name}, theirs": head for name, head in THEIRS.items()}}


def of_cosines(values):
    """Two columns of unit vectors with such cosines."""
    values = np.array(values, np.float64)
    second = np.stack([values, np.sqrt(1 - values**2)], 1)
    return [np.float32([[1, 0]] * len(values)), second.astype(np.float32)]


def tensors(arrays):
    found = [paddle.to_tensor(np.asarray(array, np.float32)) for array in arrays]
    for tensor in found:
        tensor.stop_gradient = False
    return found


def value_and_gradients(head, arrays, labels, mask=None):
    columns = tensors(arrays)
    loss = head(columns, mask, labels=paddle.to_tensor(np.asarray(labels, np.float32)))
    loss.backward()
    return float(loss), [column.grad.numpy() for column in columns]


@pytest.mark.parametrize(("head", "labels", "wanted"), [
    # cosines 0.8, 0.6, 0.0, 0.9: distances 0.2, 0.4, 1.0, 0.1
    (Contrastive(), [1, 1, 0, 0], (0.2 + 0.4 + 0 + 0.4) / 4),
    (Contrastive(margin=0.05), [1, 1, 0, 0], (0.2 + 0.4) / 4),
    (Contrastive(form="sentence_transformers"), [1, 1, 0, 0], (0.04 + 0.16 + 0 + 0.16) / 8),
    # means: of the matching 0.3, of the others 0.55; hard are 0.4 and 0.1
    (OnlineContrastive(), [1, 1, 0, 0], (0.1 + 0.45) / 4),
    # three that match, one mean 0.7 / 3; the only other pair counts against the margin
    (OnlineContrastive(), [1, 1, 0, 1], (0.4 - 0.7 / 3) / 4),
    (OnlineContrastive(), [1, 0, 0, 0], (0.2 + (0.5 - 0.4) + (0.5 - 0.1)) / 4),
    # further than the nearest other, 0.1: both; nearer than the furthest matching, 0.4: the last
    (OnlineContrastive(form="sentence_transformers"), [1, 1, 0, 0], 0.04 + 0.16 + 0.16),
    # one other pair alone: matching ones are hard beyond their mean, 0.7 / 3; one matching: others nearer than theirs, 0.5
    (OnlineContrastive(form="sentence_transformers"), [1, 1, 0, 1], 0.16),
    (OnlineContrastive(form="sentence_transformers"), [1, 0, 0, 0], 0.04 + 0.01 + 0.16),
    (CosineSimilarity(), [1, 0.5, -1, 0.9], (0.04 + 0.01 + 1 + 0) / 4),
    # the terms of i and j and of j and i are equal
    (PairwiseHinge(), [1, 0.5, 0.5, 0], 2 / 4 * (
        (0.5 - 0.5 * 0.2) + (0.5 - 0.5 * 0.8) + (0.5 - 1 * -0.1) + 0.5 + (0.5 - 0.5 * -0.3) + (0.5 - 0.5 * -0.9))),
    (PairwiseHinge(skip_equal=True), [1, 0.5, 0.5, 0], 2 / 4 * (
        (0.5 - 0.5 * 0.2) + (0.5 - 0.5 * 0.8) + (0.5 - 1 * -0.1) + (0.5 - 0.5 * -0.3) + (0.5 - 0.5 * -0.9))),
    (PairwiseHinge(margin=0.3), [1, 1, 1, 1], 3 * 0.3),
    (PairwiseHinge(skip_equal=True), [1, 1, 1, 1], 0.0),
    (CoSent(scale=2), [3, 2, 2, -7], math.log(1 + sum(math.exp(2 * gap) for gap in (-0.2, -0.8, 0.1, 0.3, 0.9)))),
])
def test_values_by_hand(head, labels, wanted):
    assert value_and_gradients(head, of_cosines([0.8, 0.6, 0.0, 0.9]), labels)[0] == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: f"{case['loss']}, {case['case']}")
def test_values_and_gradients_are_those_of_sentence_transformers(case):
    """Theirs go through a normalisation, which takes the part along the vector off the gradient."""
    columns = [np.array(column) / np.linalg.norm(column, axis=1, keepdims=True) for column in case["vectors"]]  # of 6 digits
    value, gradients = value_and_gradients(THEIRS[case["loss"]], columns, case["labels"])
    assert value == pytest.approx(case["value"], rel=1e-5, abs=1e-5)
    for unit, own, wanted in zip(columns, gradients, case["gradients"]):
        own = own - unit * (own * unit).sum(1, keepdims=True)
        np.testing.assert_allclose(own, wanted or np.zeros_like(own), atol=1e-5, rtol=1e-5)


def random_columns(rows, seed, count=2):
    rng = np.random.default_rng(seed)
    found = [rng.standard_normal([rows, 6]) for _ in range(count)]
    return [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in found]


# Whether a batch of one kind has something to learn from: what compares kinds has not.
ALONE = {"hinge", "hinge, skipping", "cosent, theirs"}
BATCHES = {"no positives": [0.0] * 5, "no negatives": [1.0] * 5, "two samples": [1.0, 0.0], "two positives": [1.0, 1.0],
           "two negatives": [0.0, 0.0], "mixed": [1.0, 0.0, 0.0, 1.0, 1.0]}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("batch", BATCHES)
def test_odd_batches_give_finite_values_and_gradients_where_there_is_something_to_learn(name, batch):
    labels = BATCHES[batch]
    columns = [column + 0.6 for column in random_columns(len(labels), 3)]  # all near enough for the margins
    columns = [column / np.linalg.norm(column, axis=1, keepdims=True) for column in columns]
    value, gradients = value_and_gradients(EVERY[name], columns, labels)
    assert math.isfinite(value) and all(np.isfinite(g).all() for g in gradients)
    learns = not (name in ALONE and len(set(labels)) == 1 or name == "multiple_negatives, theirs" and not any(labels))
    assert (max(np.abs(g).max() for g in gradients) > 1e-4) == learns


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("width", [None, 3])
@pytest.mark.parametrize("labels", [[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
def test_equal_and_opposite_vectors_give_finite_gradients(name, width, labels):
    head = EVERY[name] if width is None else Matryoshka(EVERY[name], [width])
    first, = random_columns(3, 0, 1)
    for second in (first, -first, np.repeat(first[:1], 3, 0)):
        value, gradients = value_and_gradients(head, [first, second], labels)
        assert math.isfinite(value) and all(np.isfinite(g).all() for g in gradients)


def test_multiple_negatives_is_the_softmax_over_the_batch_where_all_match():
    columns = tensors(random_columns(6, 4, 3))
    mask = np.zeros([6, 12], bool)
    mask[0, 3] = mask[2, 9] = True
    for given_mask in (None, paddle.to_tensor(mask)):
        own = MultipleNegatives(7.0)(columns, given_mask, labels=paddle.ones([6]))
        assert float(own) == pytest.approx(float(softmax_over_batch(columns, 0.0, 7.0, given_mask)), rel=1e-6)


def test_multiple_negatives_ranks_matching_pairs_among_all_second_texts():
    columns, labels = random_columns(5, 8), [1, 0, 1, 0, 0.5]
    logits = 20 * columns[0] @ columns[1].T
    mask = np.zeros([5, 5], bool)
    mask[2, 1] = True
    losses = [math.log(sum(math.exp(logits[i, j]) for j in range(5) if not mask[i, j])) - logits[i, i] for i in (0, 2, 4)]
    value, (queries, candidates) = value_and_gradients(MultipleNegatives(), columns, labels, paddle.to_tensor(mask))
    assert value == pytest.approx(np.mean(losses), rel=1e-4)
    assert not queries[[1, 3]].any() and np.abs(candidates[[1, 3]]).max(1).min() > 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1, width=32), st.sampled_from([0.0, 1.0])), min_size=2, max_size=8), st.permutations(range(8)))
def test_the_order_of_a_batch_does_not_matter(pairs, order):
    columns, labels = of_cosines([cosine for cosine, _ in pairs]), np.array([label for _, label in pairs])
    order = [place for place in order if place < len(pairs)]
    for name, head in EVERY.items():
        one, _ = value_and_gradients(head, columns, labels)
        two, _ = value_and_gradients(head, [column[order] for column in columns], labels[order])
        assert one == pytest.approx(two, rel=1e-4, abs=1e-5), name


def test_which_labels_a_loss_reads():
    values = np.array([0, 1, 0.5, -1, 2, math.nan, 1e300])  # the last is more than float32 holds
    for head, wanted in ((Contrastive(), [1, 1, 0, 0, 0, 0, 0]), (OnlineContrastive(), [1, 1, 0, 0, 0, 0, 0]),
                         (MultipleNegatives(), [1, 1, 1, 0, 0, 0, 0]), (PairwiseHinge(), [1, 1, 1, 0, 0, 0, 0]),
                         (CosineSimilarity(), [1, 1, 1, 1, 0, 0, 0]), (CoSent(), [1, 1, 1, 1, 1, 0, 0])):
        assert head.label_range.fits(values).tolist() == list(map(bool, wanted)), head.name
    assert [str(head.label_range) for head in (Contrastive(), PairwiseHinge(), CoSent())] == [
        "0 or 1", "a number from 0 to 1", "a finite number"]


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="form 'theirs'"):
        Contrastive(form="theirs")
