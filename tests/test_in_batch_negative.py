import math

import numpy as np
import paddle
import pytest

from models.heads.in_batch_negative import InBatchNegative


def unit(rows, width=6, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def reference(query, candidates, margin, scale, mask=None):
    """The loss as the paper writes it, row by row."""
    losses = []
    for i, q in enumerate(query):
        logits = [scale * (float(q @ c) - margin * (i == j)) for j, c in enumerate(candidates)]
        keep = [x for j, x in enumerate(logits) if j == i or mask is None or not mask[i, j]]
        losses.append(-logits[i] + math.log(sum(math.exp(x) for x in keep)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("margin", "scale"), [(0.2, 30.0), (0.0, 20.0)])
def test_recipe_loss(margin, scale):
    q, p = unit(5), unit(5, seed=1)
    loss = InBatchNegative(margin, scale)([paddle.to_tensor(q), paddle.to_tensor(p)])
    assert float(loss) == pytest.approx(reference(q, p, margin, scale), rel=1e-5)


def test_defaults_are_the_recipes():
    head = InBatchNegative()
    assert (head.margin, head.scale, head.symmetric, head.gap) == (0.2, 30.0, False, None)


def test_symmetric_is_the_mean_of_both_directions():
    q, p = unit(5), unit(5, seed=1)
    loss = InBatchNegative(0.1, 10, symmetric=True)([paddle.to_tensor(q), paddle.to_tensor(p)])
    assert float(loss) == pytest.approx((reference(q, p, 0.1, 10) + reference(p, q, 0.1, 10)) / 2, rel=1e-5)


def test_hard_negatives_join_the_candidates_of_every_query():
    q, p, n = unit(4), unit(4, seed=1), unit(4, seed=2)
    loss = InBatchNegative(0.2, 30)([paddle.to_tensor(x) for x in (q, p, n)])
    assert float(loss) == pytest.approx(reference(q, np.concatenate([p, n]), 0.2, 30), rel=1e-5)


def test_masked_candidates_give_no_gradient_and_others_do():
    q, p = (paddle.to_tensor(unit(4, seed=s), stop_gradient=False) for s in (0, 1))
    mask = np.zeros([4, 4], bool)
    mask[:, 2] = True
    mask[2, 2] = False
    loss = InBatchNegative()([q, p], paddle.to_tensor(mask))
    assert float(loss) == pytest.approx(reference(q.numpy(), p.numpy(), 0.2, 30, mask), rel=1e-5)
    weights = paddle.to_tensor([1.0, 1.0, 0.0, 1.0]).unsqueeze(1)
    InBatchNegative()([q * weights + q.detach() * (1 - weights), p], paddle.to_tensor(mask)).backward()
    gradient = np.abs(p.grad.numpy()).sum(1)
    assert (gradient > 0).all()


def test_gap_masks_negatives_that_beat_the_positive():
    q = paddle.to_tensor(np.eye(3, 4, dtype=np.float32))
    p = np.eye(3, 4, dtype=np.float32)
    p[0] = [0.6, 0.8, 0, 0]  # to the query of row 1 its own positive is 1.0, this one .8
    p[1] = [0, 0.5, 0.5, math.sqrt(0.5)]
    p[2] = [0.5, 0.5, 0.5, 0.5]
    positives = paddle.to_tensor(p)
    similarity = q.numpy() @ p.T
    mask = similarity > np.diag(similarity)[:, None] + 0.1
    np.fill_diagonal(mask, False)
    assert mask.sum() == 1
    loss = InBatchNegative(0.2, 30, gap=0.1)([q, positives])
    assert float(loss) == pytest.approx(reference(q.numpy(), p, 0.2, 30, mask), abs=1e-6)
    assert float(InBatchNegative(0.2, 30, gap=1.0)([q, positives])) == pytest.approx(
        reference(q.numpy(), p, 0.2, 30), rel=1e-5)


def test_symmetric_with_mask_uses_it_both_ways():
    q, p = unit(4), unit(4, seed=1)
    mask = np.zeros([4, 4], bool)
    mask[0, 3] = mask[3, 0] = True
    loss = InBatchNegative(0.2, 30, symmetric=True)([paddle.to_tensor(q), paddle.to_tensor(p)], paddle.to_tensor(mask))
    both = (reference(q, p, 0.2, 30, mask) + reference(p, q, 0.2, 30, mask.T)) / 2
    assert float(loss) == pytest.approx(both, rel=1e-5)


@pytest.mark.parametrize(("margin", "columns"), [(0.0, 2), (0.2, 2), (0.2, 3)])
def test_stuck_is_the_loss_of_vectors_all_alike(margin, columns):
    head = InBatchNegative(margin, 20.0)
    same = paddle.to_tensor(np.repeat(unit(1), 8, axis=0))
    assert float(head([same] * columns)) == pytest.approx(head.stuck(8, columns), rel=1e-4)
    if margin == 0:
        assert head.stuck(8, columns) == pytest.approx(math.log(8))


def test_symmetric_gap_is_measured_against_each_sides_own_positive():
    query, positive = (paddle.to_tensor(np.float32(x)) for x in ([[1, 0], [0.6, 0.8]], [[1, 0], [0, 1]]))
    # cosines [[1, 0], [.6, .8]]: no query has a candidate above its positive by .1; nor has a positive
    assert float(InBatchNegative(0, 10, True, gap=0.1)([query, positive])) == pytest.approx(
        float(InBatchNegative(0, 10, True)([query, positive])))
    positive = paddle.to_tensor(np.float32([[0.8, 0.6], [0.6, -0.8]]))
    # cosines [[.8, .6], [.96, -.28]]: 0.96 is above both positives of its row and of its column
    loss = float(InBatchNegative(0, 10, True, gap=0.1)([query, positive]))
    back = np.logaddexp(10 * -0.28, 10 * 0.6) - 10 * -0.28  # of the second positive, whose rival is .6, masked too
    forth = np.logaddexp(8, 6) - 8
    assert back > 1 and loss == pytest.approx((forth / 2 + 0 / 2) / 2, rel=1e-4)
