import copy

import numpy as np
import paddle
import pytest
from paddle import nn

from models import cpu_layers
from models.loading import create

TEXTS = ["信用卡丢了怎么挂失", "卡找不到了", "怎么查快递到哪了，急", "退押金"]


def batch(tokenizer):
    tokens = tokenizer(TEXTS)
    return paddle.to_tensor(tokens.pad(np.arange(len(tokens)), tokenizer.pad_id))


def gradients(model, ids):
    paddle.seed(3)
    model.train()
    vectors = model(ids)
    (vectors * paddle.arange(vectors.size).reshape(vectors.shape).astype("float32")).sum().backward()
    found = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    model.clear_gradients()
    return vectors.numpy(), found


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_exchanged_layers_compute_the_same(pooling):
    """Vectors and every gradient, dropout off, to the rounding of float32; names and classes of the model stay."""
    paddle.seed(0)
    model, tokenizer = create("scratch-2x64", {"dropout": 0.0, "output_emb_size": 16, "pooling": pooling}, TEXTS,
                              head_dropout=0.0)
    for p in model.parameters():
        p.set_value(p + 0.05 * paddle.randn(p.shape))  # biases and norms are 0 and 1 when new
    ids, names = batch(tokenizer), list(model.state_dict())
    before, theirs = gradients(model, ids)
    cpu_layers.exchange(model)
    kinds = {type(layer) for layer in model.sublayers()}
    assert {cpu_layers.Linear, cpu_layers.LayerNorm, cpu_layers.Dropout, cpu_layers.SelfAttention} <= kinds and nn.Linear not in kinds
    after, ours = gradients(model, ids)
    assert list(model.state_dict()) == names and ours.keys() == theirs.keys() and len(ours) > 30
    np.testing.assert_allclose(after, before, atol=1e-6)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, atol=2e-6 * max(1.0, np.abs(value).max()), rtol=0, err_msg=name)


@pytest.mark.parametrize("layer", ["Linear", "LayerNorm"])
def test_gradients_are_the_slopes(layer):
    """Against differences of the function itself, not of paddle's own gradient."""
    paddle.seed(1)
    module = nn.Linear(5, 3) if layer == "Linear" else nn.LayerNorm(5)
    module.__class__ = getattr(cpu_layers, layer)
    for p in module.parameters():
        p.set_value(paddle.randn(p.shape))
    x = paddle.randn([2, 4, 5])
    x.stop_gradient = False
    weights = paddle.randn(module(x).shape)
    (module(x) * weights).sum().backward()
    for tensor in (x, *module.parameters()):
        flat = tensor.detach().numpy().reshape(-1).copy()
        for i in range(len(flat)):
            values = []
            for step in (1e-2, -1e-2):
                moved = flat.copy()
                moved[i] += step
                kept = tensor.detach().clone()
                tensor.set_value(paddle.to_tensor(moved.reshape(tensor.shape)))
                values.append(float((module(x) * weights).sum()))
                tensor.set_value(kept)
            assert tensor.grad.numpy().reshape(-1)[i] == pytest.approx((values[0] - values[1]) / 2e-2, abs=2e-2)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_share_mean_and_scale(rate):
    paddle.seed(2)
    x = paddle.ones([400, 1000])
    out = cpu_layers.dropout(x, rate).numpy()
    kept = out[out > 0]
    assert abs((out == 0).mean() - rate) < 5 * (rate * (1 - rate) / out.size) ** 0.5 + 1 / 65536
    assert len(np.unique(kept)) == 1 and kept[0] == pytest.approx(1 / (1 - rate), rel=1e-4)
    for axis in (0, 1):  # no row and no column is favoured
        shares = (out == 0).mean(axis)
        assert abs(shares.std() - (rate * (1 - rate) / out.shape[axis]) ** 0.5) < 0.2 * shares.std()


def test_dropout_follows_paddles_generator():
    x = paddle.ones([50, 50])
    paddle.seed(4)
    state = paddle.get_rng_state()
    first, second = cpu_layers.dropout(x, 0.3).numpy(), cpu_layers.dropout(x, 0.3).numpy()
    assert (first != second).any()
    paddle.set_rng_state(state)
    np.testing.assert_array_equal(cpu_layers.dropout(x, 0.3).numpy(), first)


def test_no_dropout_outside_training_and_none_at_rate_nought():
    layer = nn.Dropout(0.5)
    layer.__class__ = cpu_layers.Dropout
    layer.eval()
    x = paddle.randn([3, 3])
    np.testing.assert_array_equal(layer(x).numpy(), x.numpy())
    np.testing.assert_array_equal(cpu_layers.dropout(x, 0.0).numpy(), x.numpy())
    assert not cpu_layers.dropout(x, 1.0).numpy().any()


def test_an_exchanged_model_still_becomes_a_static_graph(tmp_path):
    paddle.seed(0)
    model, tokenizer = create("scratch-1x32", {"output_emb_size": 8}, TEXTS)
    cpu_layers.exchange(model)
    model.eval()
    from models.export import export

    found = export(model, tokenizer, str(tmp_path / "export"), (), "here")
    assert found["paddle"][0] < 1e-5


def test_only_plain_layers_are_exchanged():
    special = nn.Sequential(nn.LayerNorm([2, 3]), nn.Dropout(0.1, axis=0), nn.Linear(2, 2, bias_attr=False))
    cpu_layers.exchange(special)
    assert type(special[0]) is nn.LayerNorm and type(special[1]) is nn.Dropout
    x = paddle.randn([3, 2])
    plain = copy.deepcopy(special[2])
    plain.__class__ = nn.Linear
    np.testing.assert_allclose(special[2](x).numpy(), plain(x).numpy(), atol=1e-6)
