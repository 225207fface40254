"""The device, the processes and their talk: one place for what differs between one CPU and many GPUs."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from semindex.environment import keep_freed_memory, prepare_environment, prepare_home
from semindex.errors import UserError
from semindex.peers import Peers, answer_at_once, check_name, check_port, explain_abort, open_sockets

_TOLD = os.environ.get("OMP_NUM_THREADS", "")  # read now: paddle sets it to 1 when imported


def processes() -> tuple[int, int]:
    """Return this process's number and how many there are: what paddle.distributed.launch says; 0 and 1 without it.

    Raises UserError where the environment says half of it, or what cannot be.
    """
    names = ("PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM")
    number, count = (os.environ.get(name, usual) for name, usual in zip(names, "01"))
    whole = all(text.isascii() and text.isdigit() for text in (number, count))
    if whole and int(count) == 1 and int(number) == 0:
        return 0, 1
    lacking = [name for name in (*names, "PADDLE_CURRENT_ENDPOINT") if name not in os.environ]
    if not os.environ.get("PADDLE_MASTER") and not os.environ.get("PADDLE_TRAINER_ENDPOINTS"):
        lacking.append("PADDLE_TRAINER_ENDPOINTS")
    if whole and not lacking and int(number) < int(count):
        return int(number), int(count)
    said = ", ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
    raise UserError(f"the environment says {said}" + f", and lacks {', '.join(lacking)}" * bool(lacking)
                    + "; these belong to python -m paddle.distributed.launch, which sets them together: start the "
                    "script through it, or unset them")


def rank() -> int:
    """Return this process's number under `paddle.distributed.launch`, 0 otherwise."""
    return processes()[0]


def world_size() -> int:
    """Return the number of processes of the run."""
    return processes()[1]


def say(text: str) -> None:
    """Print a line on rank 0."""
    if rank() == 0:
        print(text, flush=True)


def warn(text: str) -> None:
    """Print `warning: text` on standard error, on rank 0."""
    if rank() == 0:
        print(f"warning: {text}", file=sys.stderr, flush=True)


def warn_of(text: str) -> None:
    """Warn of what may be nothing: an empty text."""
    if text:
        warn(text)


class _PlainProgress:
    """What a progress bar is where there is no terminal: a line of figures every half minute."""

    def __init__(self, total: int, unit: str, title: str) -> None:
        self.total, self.unit, self.title, self.done = total, unit, title, 0
        self.began = self.said = time.monotonic()

    def __enter__(self) -> "_PlainProgress":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, count: int) -> None:
        """Count what was done."""
        self.done += count
        now = time.monotonic()
        if now - self.said >= 30 and self.done:
            self.said, rate = now, self.done / (now - self.began)
            say(f"{self.title}: {self.done} of {self.total}, {rate:.0f} {self.unit}/s, "
                f"{(self.total - self.done) / rate:.0f} s left")


def progress(total: int, unit: str, title: str, lines: bool = True) -> Any:
    """Return a progress bar with rate and time left, on rank 0 only; plain lines, where wanted, off a terminal."""
    from tqdm import tqdm

    if lines and not sys.stderr.isatty():
        return _PlainProgress(total, unit, title)
    return tqdm(total=total, unit=unit, desc=title, disable=None if rank() == 0 else True, leave=False, smoothing=0.05)


def on_cpu() -> bool:
    """Tell whether the device that start() chose is the CPU."""
    import paddle

    return paddle.device.get_device().startswith("cpu")


def threads() -> int:
    """Return how many threads this process computes with on a CPU: OMP_NUM_THREADS, else its share of the cores."""
    return int(_TOLD) if _TOLD.isdigit() and int(_TOLD) else max(1, (os.cpu_count() or 1) // world_size())


def start(device: str = "auto", seed: int = 0, join: bool = True) -> str:
    """Import paddle, choose the device, join the other processes and seed; return the device's name.

    join: false where the processes work each for itself: then they share nothing, and nothing waits for another.
    Raises UserError where this machine or this build of paddle lacks the device, or the port at which the processes
    meet is taken.
    """
    processes()  # an error in them before the seconds that importing paddle takes
    prepare_home()
    prepare_environment()
    logging.getLogger().setLevel(logging.WARNING)
    import paddle

    _handle_signals(paddle)
    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if device == "auto":
        device = "gpu" if gpus else "cpu"
    kind = device.split(":")[0]
    if kind == "gpu" and not gpus:
        reason = ("this machine shows no GPU" if paddle.is_compiled_with_cuda()
                  else "the installed paddle is a CPU build: bash scripts/setup.sh --gpu installs the other")
        raise UserError(f"--device {device}: {reason}; or pass --device cpu")
    if kind == "cpu":
        keep_freed_memory()
        # Transposed views otherwise reach slow CPU kernels: a training step takes 1.4 to 2.9 times as long.
        paddle.set_flags({"FLAGS_use_stride_kernel": os.environ.get("SEMINDEX_STRIDE_KERNEL") == "1"})
        if not _TOLD:
            paddle.base.core.set_num_threads(threads())
    try:
        paddle.set_device(device)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"--device {device}: {str(error).strip().splitlines()[-1]}") from None
    if join and world_size() > 1:
        if kind == "cpu":
            explain_abort(lambda: None if (lost := _peers.lost()) is None else str(_ended(lost)))
            check_name(os.environ.get("PADDLE_CURRENT_ENDPOINT", ""))
        check_port(rank())
        before = open_sockets()
        paddle.distributed.init_parallel_env()
        answer_at_once(open_sockets() - before)
        _peers.join(_store(), rank())
    paddle.seed(seed)
    return device


def _handle_signals(paddle: Any) -> None:
    """Take signals back from paddle, whose handlers print a dump of many lines on a mere SIGTERM."""
    ours = signal.getsignal(signal.SIGTERM)
    paddle.disable_signal_handler()  # the system's own action from here on
    if callable(ours) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ours)


_barriers = 0
_peers = Peers()


def _store() -> Any:
    from paddle.distributed import collective

    return collective._default_store  # paddle's own, over TCP, in rank 0's process


def _ended(rank: int) -> UserError:
    _peers.tell(rank)
    return UserError(f"process {rank} of {world_size()} has ended, or its box cannot be reached; its own output says "
                     "why. Start all of them again: what was saved is used")


def barrier() -> None:
    """Wait for the other processes, however long they work; to be called before any talk with them.

    Gloo gives up after 30 s, which Paddle offers no way to change, and rank 0 may build an index for an hour. Raises
    UserError where a process that is waited for has ended.
    """
    global _barriers
    if world_size() == 1:
        return
    store = _store()
    _barriers += 1

    def count_of(name: str, own: int) -> int:
        try:
            return int(store.add(name, own))
        except (RuntimeError, ValueError):  # rank 0 has the store
            raise _ended(0) from None

    def wait(missing: Callable[[], set[int]]) -> None:
        pause = 0.0002
        while True:
            gone = _peers.gone()  # asked first: who has counted may end
            left = missing()
            if not left:
                return
            if lost := gone & left:
                raise _ended(min(lost))
            time.sleep(pause)
            pause = min(2 * pause, 0.1)

    ranks = range(world_size())
    if rank() == 0 and (gone := _peers.gone()):  # also who came, and ended while this one worked
        raise _ended(min(gone))
    count_of("semantic_index/came", 1)
    # The talk takes all of them: one that came and ended is missed, too.
    wait(lambda: set(ranks) if count_of("semantic_index/came", 0) < _barriers * len(ranks) else set())
    # Rank 0 may end after this talk, and the store with it: not before the others have seen that all came.
    if rank() > 0:
        count_of(f"semantic_index/saw/{rank()}", 1)
    else:  # who has seen it may end, and is not waited for
        wait(lambda: {one for one in ranks[1:] if count_of(f"semantic_index/saw/{one}", 0) < _barriers})


@contextlib.contextmanager
def talk() -> Iterator[None]:
    """Meet, then talk through gloo; a process that ends meanwhile is named, where gloo tells of a socket."""
    barrier()
    try:
        yield
    except RuntimeError as error:
        # One that is there and does not answer in time is no lost one: gloo's own error says so.
        if "gloo" not in str(error) or (lost := _peers.lost()) is None:
            raise
        raise _ended(lost) from None


def share(value: Any) -> Any:
    """Return rank 0's value, whatever can be pickled, on every rank."""
    if world_size() == 1:
        return value
    import paddle

    box = [value]
    with talk():
        paddle.distributed.broadcast_object_list(box, src=0)
    return box[0]


def on_rank_0(work: Callable[[], Any]) -> Any:
    """Do the work on rank 0 only and return its result everywhere; a failure there ends every rank alike."""
    if world_size() == 1:
        return work()
    result, failure = None, None
    if rank() == 0:
        try:
            result = work()
        except (UserError, OSError) as error:
            failure = error
    result, failure = share((result, failure))
    if failure is not None:
        raise failure
    return result


def gather_rows(rows: np.ndarray, counts: list[int]) -> list[np.ndarray]:
    """Give every rank the rows of all ranks.

    rows: float32 or int64 [counts[rank()], width]; counts: rows of each rank, known to all. Returns one array a rank.
    """
    if world_size() == 1:
        return [rows]
    import paddle

    padded = np.zeros([max(counts), rows.shape[1]], rows.dtype)
    padded[: len(rows)] = rows
    received: list[Any] = []
    with talk():
        paddle.distributed.all_gather(received, paddle.to_tensor(padded))
    return [block.numpy()[:count] for block, count in zip(received, counts)]
