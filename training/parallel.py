"""What the processes of a training exchange: vectors, gradients, a wish to stop. Sums are over processes."""

import contextlib
from collections.abc import Iterator, Sequence

import paddle
from paddle import Tensor, nn

from semindex import locks, runtime


def gather_vectors(vectors: Tensor, counts: list[int], columns: int) -> list[Tensor]:
    """Return the vectors of all processes, one tensor [samples of all, dimension] a column.

    vectors: this process's, [columns * counts[rank], dimension], column after column. Its own rows keep their
    gradient, the others' are constants: with the loss of the whole batch on every process, and the gradients
    summed over processes, that is the gradient of one process with the joined batch.
    """
    rank = runtime.rank()
    blocks = [vectors]
    if runtime.world_size() > 1:
        padded = vectors.detach()
        if counts[rank] < max(counts):
            lacking = columns * (max(counts) - counts[rank])
            padded = paddle.concat([padded, paddle.zeros([lacking, vectors.shape[1]])])
        received: list[Tensor] = []
        with runtime.talk():
            paddle.distributed.all_gather(received, padded)
        blocks = [block[: columns * count] for block, count in zip(received, counts)]
        blocks[rank] = vectors
    split = [block.reshape([columns, count, -1]) for block, count in zip(blocks, counts)]
    return [paddle.concat([block[column] for block in split]) for column in range(columns)]


def start_alike(layer: nn.Layer) -> None:
    """Give a layer rank 0's values on every process, as DataParallel does for the encoder."""
    state = layer.state_dict()
    if state and runtime.world_size() > 1:
        received = runtime.share({name: value.numpy() for name, value in state.items()})
        layer.set_state_dict({name: paddle.to_tensor(value) for name, value in received.items()})


def sum_gradients(parameters: Sequence[Tensor], factor: float = 1.0) -> None:
    """Replace every parameter's gradient by its sum over the processes, times factor."""
    if runtime.world_size() > 1:
        from paddle.distributed.fleet.utils.hybrid_parallel_util import fused_allreduce_gradients_with_group

        with runtime.talk():
            fused_allreduce_gradients_with_group(parameters, None, scale=factor)


def anywhere(flag: bool) -> bool:
    """Tell whether the flag is set on any process. Every process must call it."""
    if runtime.world_size() == 1:
        return flag
    value = paddle.to_tensor([int(flag)], "int32")
    with runtime.talk():
        paddle.distributed.all_reduce(value, paddle.distributed.ReduceOp.MAX)
    return bool(value)


@contextlib.contextmanager
def locked(path: str, flag: str) -> Iterator[None]:
    """Hold the lock of what all processes write together, see locks.locked; rank 0 has it. Every rank calls it."""
    with contextlib.ExitStack() as stack:
        runtime.on_rank_0(lambda: stack.enter_context(locks.locked(path, flag)))
        yield
