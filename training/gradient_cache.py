"""Chunked back-propagation: one loss over a large batch in the memory of a small one. Knows no model and no loss."""

from collections.abc import Callable, Sequence

import paddle
from paddle import Tensor


def backward(encode: Callable[[Tensor], Tensor], chunks: Sequence[Tensor], loss_of: Callable[[Tensor], Tensor],
             scale: Callable[[Tensor], Tensor] = lambda loss: loss) -> float:
    """Add to the parameters' gradients what scale(loss_of(all vectors)) would, a chunk's graph at a time.

    Gradient cache of Gao et al. 2021 (arXiv 2101.06983): the vectors of all chunks without a graph, one loss on
    them all, its gradient for each vector, then every chunk again, with the random state of its first pass, so
    that dropout drops the same.

    encode: from a chunk, its first dimension the texts, to vectors, float32 [texts, dimension]. loss_of: from the
    vectors of all chunks, end to end, to a scalar. scale: for 16-bit training. Returns the loss, before `scale`.
    """
    states, parts = [], []
    with paddle.no_grad():
        for chunk in chunks:
            states.append(paddle.get_rng_state())
            parts.append(encode(chunk))
    sizes = [len(part) for part in parts]
    vectors = paddle.concat(parts)
    vectors.stop_gradient = False
    loss = loss_of(vectors)
    scale(loss).backward()
    value = float(loss)
    del loss  # and with it the graph over the whole batch
    after = paddle.get_rng_state()
    for state, chunk, gradient in zip(states, chunks, paddle.split(vectors.grad, sizes)):
        paddle.set_rng_state(state)
        encode(chunk).backward(gradient)
    paddle.set_rng_state(after)
    return value
