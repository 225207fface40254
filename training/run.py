"""A training as something that can be cut short: what is saved, what a resume must find equal, signals."""

import contextlib
import math
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import asdict
from types import FrameType
from typing import Any

from paddle import nn

from models import loading
from models.settings import EncoderSettings
from models.weights.state_files import read_state
from semindex import runtime
from semindex.errors import UserError
from semindex.fields import read_fields, real, whole
from semindex.text.tokenizer import TextTokenizer
from training.checkpoints import HEAD, OPTIMIZER, SCALER, STATE, Checkpoints, rename_optimizer
from training.parallel import anywhere
from training.step import Step

# Of the schedule, what decides the weights.
SAME = ("gradient_accumulation_steps", "seed", "learning_rate", "weight_decay", "warmup_proportion", "warmup_steps",
        "max_grad_norm", "precision", "optimizer", "freeze_embeddings", "freeze_layers", "layer_decay")
# What checkpoints of before there was a choice were made with.
EARLIER: dict[str, Any] = {"warmup_steps": 0, "freeze_embeddings": False, "freeze_layers": 0, "layer_decay": 1.0,
                           "guide": "none", "balanced": False} | {
    f"encoder's {name}": value for name, value in asdict(EncoderSettings("")).items()}


FIELDS = {"step": whole(0, 2**40), "best": real(-1e30, 1e30).or_none(), "waited": whole(0, 2**40)}


class Run:
    """Where a training stands, and its checkpoints.

    number: steps taken; saved: the step of the last checkpoint, -1 for none; best: the main metric's best value;
    waited: evaluations since then; total: steps of the whole training.
    """

    def __init__(self, step: Step, tokenizer: TextTokenizer, total: int) -> None:
        self.step, self.tokenizer, self.total = step, tokenizer, total
        self.checkpoints = Checkpoints(step.schedule.save_dir, step.schedule.keep_checkpoints)
        self.number, self.saved, self.best, self.waited = 0, -1, -math.inf, 0
        self.stopping = self.interrupted = False

    def prepare(self) -> None:
        """Make the directory, and go on from its latest checkpoint where --resume says so."""
        step, schedule = self.step, self.step.schedule
        parameters = [*step.model.parameters(), *step.head.parameters()]
        size = sum((4 if p.stop_gradient else 12) * p.size for p in parameters)  # weights and two moments of 4 bytes
        runtime.on_rank_0(lambda: self.checkpoints.prepare(schedule.resume, schedule.overwrite, size))
        if schedule.resume:
            self.resume()

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a resumed run to go on as the undisturbed one would."""
        step, data = self.step, self.step.data
        model = {f"encoder's {name}": value for name, value in asdict(step.model.settings).items()
                 if name not in ("encoder", "format", "threshold")}
        rates = sorted({layer.p for layer in step.model.sublayers() if isinstance(layer, nn.Dropout)})
        return {"batch_size": data.batch_size, "processes": data.world, "samples": len(data.rows),
                "total_steps": self.total, "head": step.head.name, "mask": step.mask, "dropout": rates,
                "chunk_size": data.chunk, "balanced": data.balanced, "training texts": data.fingerprint(),
                "guide": data.guide.identity if data.guide else "none",
                } | step.head.settings() | model | {name: getattr(step.schedule, name) for name in SAME}

    def save(self, best: bool = False) -> None:
        """Write a checkpoint of this step, unless there is one."""
        if self.saved == self.number and not best:
            return
        state = self.identity() | {"step": self.number, "best": None if math.isinf(self.best) else self.best,
                                   "waited": self.waited}

        def write() -> None:
            if self.saved == self.number:
                self.checkpoints.mark_best(self.number)
                return
            step = self.step
            optimizer = rename_optimizer(step.optimizer.state_dict(), step.names)
            if step.scaler.is_enable():
                optimizer[SCALER] = step.scaler.state_dict()
            path = self.checkpoints.save(step.model, step.head, self.tokenizer, self.number, optimizer, state, best,
                                         {"training file": step.data.source})
            runtime.say(f"saved {path}")

        runtime.on_rank_0(write)
        self.saved = self.number

    def resume(self) -> None:
        """Take weights, optimizer, schedule and position from the latest checkpoint, if there is one."""
        path = runtime.on_rank_0(self.checkpoints.latest)
        if path is None:
            runtime.say(f"nothing to resume in {self.step.schedule.save_dir}: starting anew")
            return
        if anywhere(not os.path.isdir(path)):
            raise UserError(f"--resume: {path} is not there for every process; --save_dir must be a directory that all "
                            "boxes share, or its newest checkpoint be copied to each")
        loading.check_files(path)
        try:
            state = read_fields(os.path.join(path, STATE), FIELDS, others=True)
            optimizer = read_state(os.path.join(path, OPTIMIZER))
        except (OSError, UserError) as error:
            raise UserError(f"--resume: {path} is damaged ({error}); remove that directory to resume "
                            "from the one before, or --init_from_ckpt to start a new run from its weights") from None
        for name, value in self.identity().items():
            if state.get(name, EARLIER.get(name)) != value:
                raise UserError(f"--resume: {path} was made with {name} {state.get(name)}, now it is {value}; "
                                "give the same flags and data, or --init_from_ckpt to start a new run from its weights")
        step = self.step
        loading.load_weights(step.model, os.path.join(path, loading.WEIGHTS))
        if step.head.state_dict():
            loading.load_weights(step.head, os.path.join(path, HEAD))
        paddle_names = {ours: theirs for theirs, ours in step.names.items()}
        if SCALER in optimizer:
            step.scaler.load_state_dict(optimizer.pop(SCALER))
        try:
            step.optimizer.set_state_dict(rename_optimizer(optimizer, paddle_names))
        except Exception as error:  # paddle asserts what it finds, in many places
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"--resume: {os.path.join(path, OPTIMIZER)} does not fit the encoder ({reason:.200}); "
                            "--init_from_ckpt starts a new run from the checkpoint's weights") from None
        self.number = self.saved = state["step"]
        self.best = -math.inf if state["best"] is None else state["best"]
        self.waited = state["waited"]
        runtime.say(f"resumed from {path}")

    @contextlib.contextmanager
    def catch_signals(self) -> Iterator[None]:
        """On SIGTERM, which batch systems send before they kill, the step is ended and saved first.

        Ctrl-C interrupts at once; where that is lost, in a destructor or a library's callback, after the step.
        """
        def note(*_: object) -> None:
            self.stopping = True

        def interrupt(number: int, frame: FrameType | None) -> None:
            self.interrupted = True
            signal.default_int_handler(number, frame)

        if threading.current_thread() is not threading.main_thread():  # only that one may
            yield
            return
        before = signal.signal(signal.SIGTERM, note)
        python_s = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if python_s:
            signal.signal(signal.SIGINT, interrupt)
        signal.siginterrupt(signal.SIGTERM, False)  # what is being received goes on: paddle's store would give up
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            if python_s:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def stop_if_told(self) -> None:
        """Save and exit where a process was sent SIGTERM. Every process must call it."""
        if self.interrupted:
            raise KeyboardInterrupt
        if anywhere(self.stopping):
            self.save()
            runtime.say(f"told to stop: saved step {self.number} of {self.total}; --resume goes on from there")
            raise SystemExit(128 + signal.SIGTERM)
