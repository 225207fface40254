"""One training loop for every head. A head sees vectors only; all else is the same for each."""

import math
import os
import time
from collections.abc import Callable
from typing import Any

from data import TrainingSet
from models.heads.head import Head
from models.semantic_index import SemanticIndex
from semindex import runtime
from semindex.errors import UserError
from semindex.measure.evaluator import Evaluator
from semindex.text.counted import counted
from semindex.text.tokenizer import TextTokenizer
from training.checkpoints import LOG
from training.evaluation import Evaluation
from training.monitor import Monitor, check_samples
from training.run import Run
from training.schedule import Schedule
from training.step import Step

# Called before each step; returns what to add to the printed line, and figures for the log.
Callback = Callable[["Trainer"], tuple[str, dict[str, float]]]


class Trainer:
    """Trains a model with a head on a training set; see train()."""

    def __init__(self, model: SemanticIndex, tokenizer: TextTokenizer, head: Head, data: TrainingSet,
                 schedule: Schedule, mask: bool = True, evaluator: Evaluator | None = None,
                 callback: Callback | None = None) -> None:
        self.data, self.schedule, self.callback = data, schedule, callback
        self.batches_per_epoch = len(data.plan(0))
        if not self.batches_per_epoch:
            raise UserError(f"{counted(len(data.rows), 'training sample')} with --batch_size "
                            f"{data.batch_size} give no batch of two samples a process, and one alone has no negative")
        check_samples(data.rows)
        self.steps_per_epoch = -(-self.batches_per_epoch // schedule.gradient_accumulation_steps)
        total = self.steps_per_epoch * schedule.epochs
        self.total = min(total, schedule.max_steps) if schedule.max_steps else total
        self.step = Step(model, head, data, schedule, self.total, mask)
        self.run = Run(self.step, tokenizer, self.total)
        self.evaluation = Evaluation(self.run, evaluator) if evaluator is not None else None
        self.log: Any = None

    def train(self) -> str:
        """Train; return the directory of the best checkpoint, the last one where nothing was evaluated."""
        run, model = self.run, self.step.model
        run.prepare()
        self._open_log()
        model.train()
        self.step.head.train()
        try:
            with run.catch_signals(), runtime.progress(self.total, "step", "train", lines=False) as bar:
                bar.update(run.number)
                self._loop(bar)
        finally:
            if self.log is not None:
                self.log.close()
        run.save()
        model.eval()
        last = run.checkpoints.path(run.number)
        best = runtime.on_rank_0(run.checkpoints.best) if self.evaluation else None
        found = f"best {self.evaluation.metric} {run.best}: {best}; " if self.evaluation and best else ""
        runtime.say(f"trained {counted(run.number, 'step')}; {found}last: {last}")
        return best or last

    def _loop(self, bar: Any) -> None:
        run, schedule = self.run, self.schedule
        monitor = Monitor(self.step.head, self.data.joined_batch)
        clock, timed_from = time.perf_counter(), run.number
        suffix, figures = "", dict[str, float]()
        while run.number < self.total:
            epoch, done = divmod(run.number, self.steps_per_epoch)
            for batches in self._batches(epoch, done):
                if self.callback is not None:
                    paused = time.perf_counter()
                    suffix, figures = self.callback(self)
                    clock += time.perf_counter() - paused
                loss = self.step.update(run.number, [self.data.batch(samples) for samples in batches])
                if not math.isfinite(loss):
                    raise UserError(f"step {run.number + 1}: the loss is {loss}; last good checkpoint: "
                                    f"{run.checkpoints.latest() or 'none'}; lower --learning_rate, or go on from there "
                                    "with --resume")
                run.number += 1
                self.step.model.settings.threshold = None  # that of the weights before
                bar.update(1)
                monitor.see(loss)
                in_epoch = run.number - epoch * self.steps_per_epoch
                if run.number % schedule.log_steps == 0:
                    speed = (run.number - timed_from) / (time.perf_counter() - clock)
                    mean = monitor.report(run.number, self.step.last_vectors, self.data.columns)
                    bar.clear()
                    runtime.say(f"global step {run.number}, epoch: {epoch + 1}, batch: {in_epoch}, "
                                f"loss: {mean:.5f}, speed: {speed:.2f} step/s{suffix}")
                    rate = self.step.optimizer.get_lr()
                    self._record({"loss": mean, "learning_rate": rate, "steps/s": speed} | figures)
                    clock, timed_from = time.perf_counter(), run.number
                paused = time.perf_counter()
                if self._evaluate_and_save(in_epoch == self.steps_per_epoch or run.number == self.total):
                    return
                clock += time.perf_counter() - paused  # the speed is that of training
                if run.number == self.total:
                    return

    def _batches(self, epoch: int, done: int) -> list[list[Any]]:
        """Return the samples of the batches of each step of an epoch that is still to be taken."""
        plan, accumulate = self.data.plan(epoch), self.schedule.gradient_accumulation_steps
        if len(plan) != self.batches_per_epoch:  # no_duplicates deals a little differently each epoch
            plan = (plan + plan[:1] * self.batches_per_epoch)[: self.batches_per_epoch]
        return [plan[start : start + accumulate] for start in range(done * accumulate, len(plan), accumulate)]

    def _evaluate_and_save(self, epoch_ended: bool) -> bool:
        """Do what is due after a step; return whether the training ends early."""
        run, every = self.run, self.schedule.save_steps
        if self.evaluation and self.evaluation.due(run.number, epoch_ended):
            metrics, stop = self.evaluation.measure()
            self._record(dict(metrics))
            if stop:
                return True
        if every and run.number % every == 0:
            run.save()
        run.stop_if_told()
        return False

    def _open_log(self) -> None:
        if runtime.rank() == 0:
            try:
                from visualdl import LogWriter

                self.log = LogWriter(os.path.join(self.schedule.save_dir, LOG))
            except Exception as error:  # its absence must not stop a training
                runtime.warn(f"no VisualDL log: {error}")

    def _record(self, values: dict[str, float]) -> None:
        if self.log is not None:
            for name, value in values.items():
                self.log.add_scalar(name, value, self.run.number)


def train(model: SemanticIndex, tokenizer: TextTokenizer, head: Head, data: TrainingSet, schedule: Schedule,
          mask: bool = True, evaluator: Evaluator | None = None, callback: Callback | None = None) -> str:
    """Train a model with a head and return the directory of the best checkpoint.

    mask: whether false negatives are masked. evaluator: called on every process. callback: called on every process
    before each step, may exchange what the data deals. Raises UserError for a loss or weights that are not finite.
    """
    return Trainer(model, tokenizer, head, data, schedule, mask, evaluator, callback).train()
