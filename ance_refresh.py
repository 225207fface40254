"""Generations of negatives while a training runs: made by itself, or taken from another job's directory."""

import os
import time
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

import runtime
from ance_data import AnceTrainingSet
from ann_util import IndexSettings
from bm25 import Bm25
from collection import Collection
from deploy.python.serving.text_encoder import TextEncoder
from encoder import dynamic
from generations import Generation, Generations
from mining import Known, MiningRules, Scores, Search, mine, report
from options import UserError
from ranking import DevRanking, make_ranker
from text_tokenizer import TextTokenizer
from trainer import Trainer
from vector_file import VectorFile


@dataclass
class Miner:
    """All that decides the negatives of a collection's training pairs, but for the search.

    connected: whether texts that pairs connect through others are positives of one another.
    """

    collection: Collection
    rules: MiningRules
    index: IndexSettings = field(default_factory=IndexSettings)
    connected: bool = False

    def known(self) -> Known:
        """Return what must not become a negative."""
        collection, judged = self.collection, self.collection.judged(training=True)
        make = Known.connected if self.connected else Known
        return make(judged[judged[:, 2] > 0, :2], np.asarray(collection.groups, np.int64),
                    collection.about.documents, np.unique(collection.owner))

    def by_search(self, search: Search, scores: Scores | None = None) -> tuple[np.ndarray, dict[str, int]]:
        """Return the negatives of all pairs, int32 [pairs, negatives], and mining's counts.

        scores: of pairs, for the margins; without them there are none.
        """
        rules = self.rules if scores else replace(self.rules, rank_min=0, margin=None, relative_margin=None)
        mined = mine(self.collection.pairs, search, self.known(), rules, scores, fill=True)
        runtime.say(report(mined.counts))
        return mined.documents, mined.counts

    def by_bm25(self) -> tuple[np.ndarray, dict[str, int]]:
        """Return the negatives that keyword search finds."""
        return self.by_search(*bm25_search(self.collection, self.rules.rank_max))

    def by_judgements(self) -> tuple[np.ndarray, dict[str, int]]:
        """Return those judged not relevant: the third column of triples, or grade 0 of the qrels."""
        judged = self.collection.judged(training=True)
        judged = judged[judged[:, 2] <= 0]
        if not len(judged):
            raise UserError("--warmup triples: no training query has a negative: give lines of "
                            "query<TAB>positive<TAB>negative, or qrels with grade 0")
        judged = judged[np.argsort(judged[:, 0], kind="stable")]

        def search(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            first = np.asarray(np.searchsorted(judged[:, 0], queries, "left"))
            last = np.asarray(np.searchsorted(judged[:, 0], queries, "right"))
            places = first[:, None] + np.arange(max(1, int((last - first).max())))
            there = places < last[:, None]
            return (np.where(there, judged[np.minimum(places, len(judged) - 1), 1], -1),
                    np.zeros(places.shape, np.float32))

        return self.by_search(search)

    def publish(self, encoder: TextEncoder, generation: Generation, generations: Generations, keep: int = 3,
                dev: DevRanking | None = None, file: VectorFile | None = None) -> str:
        """Publish the negatives that an encoder finds, and in the generation how; return its path.

        Every rank calls it. keep: see Generations.publish; file: where the passages' vectors go meanwhile.
        """
        began = time.perf_counter()
        queries = np.unique(self.collection.pairs[:, 0])
        if dev is not None:
            queries = np.union1d(queries, dev.queries)
        ranker = make_ranker(self.collection, encoder, queries, self.index, file)
        encoded = time.perf_counter()

        def search() -> str:
            negatives, generation.counts = self.by_search(lambda some: ranker.search(some, self.rules.rank_max),
                                                           ranker.scores)
            searched = time.perf_counter()
            generation.seconds = {"encoding": round(encoded - began, 2), "search": round(searched - encoded, 2)}
            if dev is not None:
                generation.metrics = dev.measure(ranker)
            return generations.publish(generation, negatives, keep)

        path: str = runtime.on_rank_0(search)
        return path


def bm25_search(collection: Collection, k: int) -> tuple[Search, Scores]:
    """Return keyword search over the collection's documents, and the scores of pairs."""
    about = collection.about
    index = Bm25(islice(collection.texts, about.documents), source=collection.directory)

    def search(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found, scores = index.search(collection.texts.some(about.documents + queries), k)
        return np.where(scores > 0, found, -1), scores

    def scores(pairs: np.ndarray) -> np.ndarray:
        return index.scores(collection.texts.some(about.documents + pairs[:, 0]), pairs[:, 1].tolist())

    return search, scores


class Refresh:
    """Called by the trainer before each step: see that the data deals the newest negatives.

    every: steps between generations, 0: never another than the first. warmup: where the first generation comes from:
    bm25, triples (what is judged not relevant), in_batch (no negatives but the batch's), or none: from the encoder as
    it starts.
    """

    def __init__(self, data: AnceTrainingSet, miner: Miner, generations: Generations, tokenizer: TextTokenizer,
                 every: int, warmup: str) -> None:
        self.data, self.miner, self.generations, self.tokenizer = data, miner, generations, tokenizer
        self.every, self.warmup = every, warmup
        self.now: Generation | None = None

    def __call__(self, trainer: Trainer) -> tuple[str, dict[str, float]]:
        """Take up what there is; return what to add to the log line, and figures for the log."""
        if self.now is None and trainer.saved < 0:  # a new run: what is there is of an earlier one
            runtime.on_rank_0(self.generations.clear)
        self.renew(trainer)
        assert self.now is not None
        age = trainer.step - self.now.step
        return (f", trainning_file: {self.generations.path(self.now.number)}, age: {age} steps", {"negatives_age": age})

    def renew(self, trainer: Trainer) -> None:
        """Take up another generation where there is one to be taken."""
        raise NotImplementedError

    def take(self, number: int, step: int) -> None:
        """Deal the negatives of a generation; step: the trainer's."""
        self.now = runtime.share(self.generations.read(number) if runtime.rank() == 0 else None)
        if self.now.collection != self.miner.collection.about.key:
            raise UserError(f"{self.generations.path(number)}: made from another collection or with another tokenizer; "
                            "--overwrite starts anew")
        self.data.take(number, self.generations.negatives(number))
        runtime.say(f"negatives of generation {number} ({self.now.source}, of step {self.now.step}, age "
                    f"{step - self.now.step} steps): {self.generations.path(number)}")

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
        number, rest = divmod(trainer.step, self.every) if self.every else (0, trainer.step)
        if self.now is not None and (rest or self.now.number == number):
            return
        found = runtime.on_rank_0(lambda: number in self.generations.numbers())
        if not found:
            if rest:
                raise UserError(f"--resume: {self.generations.path(number)} is missing, the negatives of step "
                                f"{trainer.step}; --init_from_ckpt starts a new run from the weights")
            if number or not self.first(trainer):
                self._make(trainer, number)
        self.take(number, trainer.step)

    def _make(self, trainer: Trainer, number: int) -> None:
        generation = Generation(number, trainer.step, "ann", self.miner.collection.about.key)
        # A run that goes on from its last checkpoint wants the generation of that step.
        keep = max(3, number - max(trainer.saved, 0) // self.every + 1) if self.every else 3
        self.miner.publish(dynamic(trainer.model, self.tokenizer), generation, self.generations, keep)


class AsyncRefresh(Refresh):
    """Another job, run_ann_data_gen.py, makes generations from this one's checkpoints; the newest is taken up.

    That job and this one share two directories and nothing else: each may end and start again at any moment.
    """

    POLL_SECONDS = 0.5

    def renew(self, trainer: Trainer) -> None:
        """Take up the newest generation; wait for the first one."""
        if self.now is None and not runtime.on_rank_0(self.generations.numbers):
            if trainer.step == 0 and self.first(trainer):
                pass
            else:
                trainer.save()
                runtime.say(f"waiting for negatives in {self.generations.directory}: start run_ann_data_gen.py "
                            f"--training_dir {trainer.schedule.save_dir}")
        while True:
            newest = runtime.on_rank_0(lambda: self._newest(trainer.step))
            if newest is not None:
                self.take(newest, trainer.step)
            if self.now is not None:
                return
            trainer.stop_if_told()
            time.sleep(self.POLL_SECONDS)

    def _newest(self, step: int) -> int | None:
        """Return the newest generation that is newer than the present one, None where there is none.

        One from weights of a later step is of a run that was here before, published while this one began.
        """
        numbers = self.generations.numbers()
        if not numbers or self.now is not None and numbers[-1] <= self.now.number:
            return None
        return numbers[-1] if self.generations.read(numbers[-1]).step <= step else None


def check_generations(directory: str) -> None:
    """See that the directory of the generations can be written; UserError where not."""
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise UserError(f"--ann_dir {directory}: cannot be made ({error.strerror})") from None
    if not os.access(directory, os.W_OK):
        raise UserError(f"--ann_dir {directory}: cannot be written")
