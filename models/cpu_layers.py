"""Layers of an encoder whose training is slow on a CPU, exchanged for ones that compute the same from faster parts.

Of paddle's kernels the matrix product runs at the processor's peak; sums over rows, products and sums with a row or a
column that stands for a whole matrix, and random numbers take ten times what they need. Here sums are products with
ones, rows and columns are expanded first, dropout's masks come from numpy. benchmarks/training.py measures the gain.
"""

from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.autograd import PyLayer


def _sum_rows(x: Tensor) -> Tensor:
    """Return the sum over the first dimension of [rows, columns], as [columns]."""
    return paddle.matmul(paddle.ones([1, len(x)]), x).squeeze(0)


class _Affine(PyLayer):
    """x W + b with the bias's gradient as a product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.wanted = not x.stop_gradient  # of the layer above frozen ones nothing goes further back
        out = paddle.matmul(x.reshape([-1, x.shape[-1]]), weight)
        return out.add_(bias.expand(out.shape)).reshape([*x.shape[:-1], weight.shape[1]])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensor()
        rows, g = x.reshape([-1, x.shape[-1]]), gradient.reshape([-1, gradient.shape[-1]])
        back = paddle.matmul(g, weight, transpose_y=True).reshape(x.shape) if ctx.wanted else None
        return back, paddle.matmul(rows, g, transpose_x=True), _sum_rows(g)


class Linear(nn.Linear):
    """nn.Linear with a fast gradient of its bias."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x W + b."""
        if self.bias is None or not self.training or not paddle.is_grad_enabled() or self.weight.stop_gradient:
            return super().forward(x)
        return _Affine.apply(x, self.weight, self.bias)


class _Normalise(PyLayer):
    """Layer normalisation (Ba et al. 2016, arXiv 1607.06450); what the way back needs is computed there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.epsilon = epsilon
        return F.layer_norm(x, x.shape[-1], weight, bias, epsilon)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensor()
        width = x.shape[-1]
        g, rows = gradient.reshape([-1, width]), x.reshape([-1, width])
        mean_of = paddle.full([width, 1], 1.0 / width)
        centred = rows - paddle.matmul(rows, mean_of).expand(rows.shape)
        spread = paddle.rsqrt(paddle.matmul(centred * centred, mean_of) + ctx.epsilon).expand(rows.shape)
        normal = centred * spread
        weighted = g * weight.expand(g.shape)
        along = paddle.matmul(weighted * normal, mean_of).expand(rows.shape)
        back = (weighted - paddle.matmul(weighted, mean_of).expand(rows.shape) - normal * along) * spread
        return back.reshape(x.shape), _sum_rows(g * normal), _sum_rows(g)


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm over the last dimension with a fast gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised x."""
        if not self.training or not paddle.is_grad_enabled() or x.stop_gradient or self.weight.stop_gradient:
            return super().forward(x)
        return _Normalise.apply(x, self.weight, self.bias, self._epsilon)


def dropout(x: Tensor, rate: float) -> Tensor:
    """Return x with a share `rate` of it zeroed and the rest scaled up; the rate is kept to 1/65536.

    The mask follows from paddle's generator, so that whatever saves and restores its state repeats the mask.
    """
    threshold = round(rate * 65536)
    if not threshold or threshold == 65536:
        return F.dropout(x, rate)
    count = int(np.prod(x.shape))
    generator = np.random.SFC64(int(paddle.randint(0, 2**31 - 1, [1])))
    bits = generator.random_raw(count // 4 + 1).view(np.uint16)[:count]
    mask = np.multiply(bits >= threshold, np.float32(65536 / (65536 - threshold)), dtype=np.float32)
    return x * paddle.to_tensor(mask.reshape(x.shape))


class Dropout(nn.Dropout):
    """nn.Dropout of single elements, scaled up in training."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x, in training with a share p zeroed."""
        return dropout(x, self.p) if self.training else x


class SelfAttention(nn.MultiHeadAttention):
    """nn.MultiHeadAttention whose weights are dropped by `dropout`."""

    def forward(self, query: Tensor, key: Any = None, value: Any = None, attn_mask: Any = None,
                cache: Any = None) -> Any:
        """Return softmax(q k / sqrt(d) + mask) v, projected, as the class it stands for does."""
        if cache is not None or self.need_weights or not self.training or not self.dropout:
            return super().forward(query, key, value, attn_mask, cache)
        q, k, v = self._prepare_qkv(query, query if key is None else key, query if value is None else value, cache)
        product = paddle.matmul(q * self.head_dim**-0.5, k, transpose_y=True)
        if attn_mask is not None:
            product = product + attn_mask.astype(product.dtype).expand(product.shape)
        out = paddle.matmul(dropout(F.softmax(product), self.dropout), v).transpose([0, 2, 1, 3])
        return self.out_proj(out.reshape([0, 0, self.embed_dim]))


def exchange(model: nn.Layer) -> None:
    """Exchange the layers of a model, in place; parameters, their names and the mathematics stay."""
    for layer in model.sublayers():
        if type(layer) is nn.Linear:
            layer.__class__ = Linear
        elif type(layer) is nn.LayerNorm and len(layer._normalized_shape) == 1 and layer.bias is not None:
            layer.__class__ = LayerNorm
        elif type(layer) is nn.Dropout and layer.mode == "upscale_in_train" and layer.axis is None:
            layer.__class__ = Dropout
        elif type(layer) is nn.MultiHeadAttention:
            layer.__class__ = SelfAttention
