import numpy as np
import paddle
import pytest

from models.heads.hardest_negative import HardestNegative


def vectors(similarity):
    """Vectors whose cosines are a given matrix: queries are axes, candidates its columns (not unit length)."""
    similarity = np.float32(similarity)
    return paddle.to_tensor(np.eye(len(similarity), dtype=np.float32)), paddle.to_tensor(similarity.T)


def split(query, candidates):
    return [query, *paddle.split(candidates, len(candidates) // len(query))]


def unit(rows, seed):
    x = np.random.default_rng(seed).standard_normal([rows, 6]).astype(np.float32)
    return paddle.to_tensor(x / np.linalg.norm(x, axis=1, keepdims=True))


def by_hand(similarity, margin, choose):
    losses = []
    for i, row in enumerate(np.array(similarity)):
        positive = row[i]
        losses += [max(0.0, margin - positive + s) for s in choose([row[j] for j in range(len(row)) if j != i], positive)]
    return np.mean(losses)


CHOICES = {
    "hardest": ({}, lambda others, positive: sorted(others)[-1:]),
    "three": ({"hardest": 3}, lambda others, positive: sorted(others)[-3:]),
    "more than there are": ({"hardest": 99}, lambda others, positive: others),
    "semi-hard": ({"negatives": "semi_hard"},
                  lambda others, positive: [max([s for s in others if s < positive], default=min(others))]),
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("columns", [2, 3])
def test_loss_is_the_formula(name, columns):
    flags, choose = CHOICES[name]
    texts = [unit(7, seed) for seed in range(columns)]
    similarity = texts[0].numpy() @ np.concatenate([t.numpy() for t in texts[1:]]).T
    if name == "more than there are":
        flags = {"hardest": 7 * (columns - 1) - 1}
    assert float(HardestNegative(0.2, **flags)(texts)) == pytest.approx(by_hand(similarity, 0.2, choose), rel=1e-5)


def test_gradient_where_a_negative_beats_the_positive():
    """The published loss gives exactly zero here: both of its terms are the row's maximum."""
    similarity = paddle.to_tensor(np.float32([[0.3, 0.9, 0.1], [0.2, 0.8, 0.7], [0.5, 0.4, 0.6]]))
    similarity.stop_gradient = False
    query = paddle.eye(3)
    loss = HardestNegative(0.2)([query, similarity.t()])
    loss.backward()
    third = 1 / 3
    np.testing.assert_allclose(similarity.grad.numpy(), [[-third, third, 0], [0, -third, third], [third, 0, -third]],
                               atol=1e-6)
    assert float(loss) == pytest.approx((0.8 + 0.1 + 0.1) / 3)


def test_random_is_the_next_one_that_is_allowed():
    head = HardestNegative(0.2, "random")
    similarity, allowed = paddle.rand([4, 4]), paddle.eye(4) == 0
    assert head.choose(similarity, similarity[:, :1], allowed, paddle.arange(4).unsqueeze(1)).reshape([-1]).tolist() == [1, 2, 3, 0]
    allowed[0, 1] = False
    assert head.choose(similarity, similarity[:, :1], allowed, paddle.arange(4).unsqueeze(1)).reshape([-1]).tolist() == [2, 2, 3, 0]


@pytest.mark.parametrize("negatives", ["hardest", "semi_hard", "random"])
def test_masked_texts_are_never_chosen(negatives):
    query, positive = unit(5, 0), unit(5, 1)
    mask = np.random.default_rng(2).random([5, 5]) < 0.5
    mask[2] = True  # nothing is left for the third query: it adds nothing
    np.fill_diagonal(mask, False)
    similarity = paddle.matmul(query, positive, transpose_y=True)
    head = HardestNegative(0.2, negatives)
    allowed = paddle.to_tensor(~mask & ~np.eye(5, dtype=bool))
    chosen = head.choose(similarity, paddle.diagonal(similarity).unsqueeze(1), allowed, paddle.arange(5).unsqueeze(1)).numpy()[:, 0]
    rows = [i for i in range(5) if i != 2]
    assert all(allowed.numpy()[i, chosen[i]] for i in rows)
    expected = np.mean([max(0, 0.2 - float(similarity[i, i]) + float(similarity[i, int(chosen[i])])) for i in rows])
    assert float(head([query, positive], paddle.to_tensor(mask))) == pytest.approx(expected, rel=1e-5)
    assert float(head([query, positive], paddle.to_tensor(~np.eye(5, dtype=bool)))) == 0.0


def test_vectors_that_are_all_alike_give_the_margin():
    same = paddle.ones([4, 9]) / 3
    for negatives in ("hardest", "semi_hard", "random"):
        head = HardestNegative(0.3, negatives)
        assert float(head([same, same])) == pytest.approx(head.stuck(4, 2)) == pytest.approx(0.3)


def test_unknown_negatives():
    with pytest.raises(ValueError, match="negatives 'easy'"):
        HardestNegative(negatives="easy")
