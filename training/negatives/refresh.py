"""Generations of negatives while a training runs: made by itself, or taken from another job's directory."""

import os
import time
from typing import Any

import numpy as np

from models.encoders import dynamic
from semindex import runtime
from semindex.environment import probe
from semindex.errors import UserError
from semindex.roles import check_place
from semindex.text.counted import counted
from semindex.text.tokenizer import TextTokenizer
from training.negatives.generations import Generation, Generations
from training.negatives.miner import Miner
from training.negatives.patience import Patience
from training.negatives.training_set import AnceTrainingSet
from training.trainer import Trainer


class Refresh:
    """Called by the trainer before each step: see that the data deals the newest negatives.

    every: steps between generations, 0: never another than the first. warmup: where the first generation comes from:
    bm25, triples (what is judged not relevant), in_batch (no negatives but the batch's), or none: from the encoder as
    it starts, or what run_ann_data_gen.py made beforehand from the checkpoint that the training starts from. origin:
    identity of that checkpoint, '' for any.
    """

    def __init__(self, data: AnceTrainingSet, miner: Miner, generations: Generations, tokenizer: TextTokenizer,
                 every: int, warmup: str, origin: str = "") -> None:
        self.data, self.miner, self.generations, self.tokenizer = data, miner, generations, tokenizer
        self.every, self.warmup, self.origin = every, warmup, origin
        self.now: Generation | None = None

    def __call__(self, trainer: Trainer) -> tuple[str, dict[str, float]]:
        """Take up what there is; return what to add to the log line, and figures for the log."""
        if self.now is None and trainer.run.saved < 0:  # a new run: what is there is of an earlier one
            runtime.on_rank_0(lambda: self.generations.clear(self._prepared))
        self.renew(trainer)
        assert self.now is not None
        age = trainer.run.number - self.now.step
        return (f", trainning_file: {self.generations.path(self.now.number)}, age: {age} steps", {"negatives_age": age})

    def _prepared(self, generation: Generation) -> bool:
        """Tell whether a generation was made for this training before it began."""
        return (generation.source == "init" and self.warmup == "none" and self.origin in ("", generation.weights)
                and generation.collection == self.miner.collection.about.key)

    def renew(self, trainer: Trainer) -> None:
        """Take up another generation where there is one to be taken."""
        raise NotImplementedError

    def use(self, number: int, step: int) -> None:
        """Deal the negatives of a generation; step: the trainer's."""
        self.now = runtime.share(self.generations.read(number) if runtime.rank() == 0 else None)
        if self.now.collection != self.miner.collection.about.key:
            raise UserError(f"{self.generations.path(number)}: made from another collection or with another tokenizer; "
                            "--overwrite starts anew")
        self.data.use(number, self.generations.negatives(number))
        runtime.say(f"negatives of generation {number} ({self.now.source}, of step {self.now.step}, age "
                    f"{counted(step - self.now.step, 'step')}): {self.generations.path(number)}")

    def first(self, trainer: Trainer) -> bool:
        """Make generation 0 by the warm-up's rule, if it has one; return whether there was one to make."""
        if self.warmup == "none":
            return False

        def work() -> None:
            generation = Generation(0, 0, self.warmup, self.miner.collection.about.key)
            began = time.perf_counter()
            if self.warmup == "bm25":
                negatives, generation.counts = self.miner.by_bm25()
            elif self.warmup == "triples":
                negatives, generation.counts = self.miner.by_judgements()
            else:
                negatives = np.empty([len(self.data.rows), 0], np.int32)
            generation.seconds = {"search": round(time.perf_counter() - began, 2)}
            self.generations.publish(generation, negatives)

        runtime.on_rank_0(work)
        return True


class SyncRefresh(Refresh):
    """Training pauses every `every` steps while its own processes make the next generation.

    A generation follows from the weights at its step, and those from what came before: a resumed run makes the very
    ones that an undisturbed run makes.
    """

    def renew(self, trainer: Trainer) -> None:
        """Make the generation of this step where one is due."""
        number, rest = divmod(trainer.run.number, self.every) if self.every else (0, trainer.run.number)
        if self.now is not None and (rest or self.now.number == number):
            return
        found = runtime.on_rank_0(lambda: number in self.generations.numbers())
        if not found:
            if rest:
                raise UserError(f"--resume: {self.generations.path(number)} is missing, the negatives of step "
                                f"{trainer.run.number}; --init_from_ckpt starts a new run from the weights")
            if number or not self.first(trainer):
                self._make(trainer, number)
        self.use(number, trainer.run.number)

    def _make(self, trainer: Trainer, number: int) -> None:
        generation = Generation(number, trainer.run.number, "ann", self.miner.collection.about.key)
        # A run that goes on from its last checkpoint wants the generation of that step.
        keep = max(3, number - max(trainer.run.saved, 0) // self.every + 1) if self.every else 3
        self.miner.publish(dynamic(trainer.step.model, self.tokenizer), generation, self.generations, keep)


class AsyncRefresh(Refresh):
    """Another job, run_ann_data_gen.py, makes generations from this one's checkpoints; the newest is taken up.

    That job and this one share two directories and nothing else: each may end and start again at any moment. command:
    the line that starts the other job; the others are Refresh's.
    """

    POLL_SECONDS = 0.5

    def __init__(self, command: str, *others: Any) -> None:
        super().__init__(*others)
        self.command = command

    def renew(self, trainer: Trainer) -> None:
        """Take up the newest generation; wait for the first one. Save what the other job is to make the next from."""
        run = trainer.run
        if self.every and run.number and run.number % self.every == 0:
            run.save()
        if self.now is None and not runtime.on_rank_0(self.generations.numbers):
            if run.number == 0 and self.first(trainer):
                pass
            else:
                run.save()
                runtime.say(f"waiting for negatives in {self.generations.directory}: start {self.command}")
        patience = Patience()
        while True:
            newest = runtime.on_rank_0(lambda: self._newest(run.number))
            if newest is not None:
                self.use(newest, run.number)
            if self.now is not None:
                return
            run.stop_if_told()
            patience.look(lambda: self._seen(trainer))
            time.sleep(self.POLL_SECONDS)

    def _seen(self, trainer: Trainer) -> str:
        """Return what there is and what there is not, for a user who wonders."""
        directory, number = self.generations.directory, trainer.run.number
        numbers = self.generations.numbers()
        if numbers:
            step = self.generations.read(numbers[-1]).step
            what = (f"{self.generations.path(numbers[-1])} is there, but it is of step {step} and this run is at step "
                    f"{number}, so it is another run's")
        elif os.path.isdir(directory) and os.listdir(directory):
            what = f"no generation in {directory} yet, but the other job has begun one there"
        else:
            what = f"no generation in {directory}, and no other job has written there"
        return (f"{what}; the checkpoint it is to be made from is {trainer.run.checkpoints.latest() or 'not there'}; "
                f"the other job is started with: {self.command}")

    def _newest(self, step: int) -> int | None:
        """Return the newest generation that is newer than the present one, None where there is none.

        One from weights of a later step is of a run that was here before, published while this one began.
        """
        numbers = self.generations.numbers()
        if not numbers or self.now is not None and numbers[-1] <= self.now.number:
            return None
        return numbers[-1] if self.generations.read(numbers[-1]).step <= step else None


def check_generations(directory: str) -> None:
    """See that the directory of the generations can be written; UserError where not. Leaves nothing behind."""
    check_place(directory, "--ann_dir")
    try:
        probe(directory)
    except OSError as error:
        raise UserError(f"--ann_dir {directory}: cannot be written ({error.strerror})") from None
