"""From a search to the negatives of a collection's training pairs, and to a published generation."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from semindex import runtime
from semindex.collection.evaluation import RankingEvaluator
from semindex.collection.ranking import make_ranker
from semindex.collection.store import Collection
from semindex.encode.text_encoder import TextEncoder
from semindex.encode.vector_file import VectorFile
from semindex.errors import UserError
from semindex.search.index import IndexSettings
from semindex.search.keyword import KeywordIndex
from training.guide import Guide
from training.negatives.generations import Generation, Generations
from training.negatives.mining import Known, MiningRules, Scores, Search, mine, report


@dataclass
class Miner:
    """All that decides the negatives of a collection's training pairs, but for the search.

    connected: whether texts that pairs connect through others are positives of one another. guide: on rank 0, of this
    collection, see training.guide.of_collection.
    """

    collection: Collection
    rules: MiningRules
    index: IndexSettings = field(default_factory=IndexSettings)
    connected: bool = False
    guide: Guide | None = None

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
        groups, documents = np.asarray(self.collection.groups, np.int64), self.collection.about.documents
        rules = self.rules if scores else replace(self.rules, rank_min=0, margin=None, relative_margin=None)
        mined = mine(self.collection.pairs, search, self.known(), rules, scores, fill=True,
                     guide=self.guide.for_mining(groups, documents) if self.guide else None)
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
                dev: RankingEvaluator | None = None, file: Callable[[slice], VectorFile] | None = None) -> str:
        """Publish the negatives that an encoder finds, and in the generation how; return its path.

        Every rank calls it, and searches its share of the passages. keep: see Generations.publish; file: see
        ranking.make_ranker.
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

        path: str = ranker.on_rank_0(search)
        return path


def bm25_search(collection: Collection, k: int) -> tuple[Search, Scores]:
    """Return keyword search over the collection's documents, and the scores of pairs."""
    about = collection.about
    index = KeywordIndex.build(islice(collection.texts, about.documents), source=collection.directory)

    def search(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return index.search(collection.texts.some(about.documents + queries), k)

    def scores(pairs: np.ndarray) -> np.ndarray:
        return index.scores(collection.texts.some(about.documents + pairs[:, 0]), pairs[:, 1])

    return search, scores
