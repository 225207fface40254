"""How well an encoder ranks a collection's documents."""

import numpy as np

from semindex import runtime
from semindex.collection.ranking import Ranker, make_ranker
from semindex.collection.store import Collection
from semindex.encode.text_encoder import TextEncoder
from semindex.measure import trec
from semindex.search.index import IndexSettings


class RankingEvaluator:
    """MRR, NDCG and recall of a collection's queries that are not for training. Every rank calls it."""

    metrics, main_metric = ["mrr@10", "ndcg@10", "recall@50", "recall@1000"], "mrr@10"

    def __init__(self, collection: Collection, settings: IndexSettings) -> None:
        self.collection, self.settings = collection, settings
        judged = collection.judged(training=False)
        self.queries = np.unique(judged[:, 0])
        self.qrels = qrels_of(collection, judged)

    def __call__(self, encoder: TextEncoder) -> dict[str, float]:
        """Return {'mrr@10': percent, ...} and print them."""
        runtime.say("evaluating")
        ranker = make_ranker(self.collection, encoder, self.queries, self.settings)
        found: dict[str, float] = ranker.on_rank_0(lambda: self.measure(ranker))
        return found

    def measure(self, ranker: Ranker) -> dict[str, float]:
        """Return the metrics of a ranker that has these queries."""
        run = ranker.run(self.queries, min(1000, self.collection.about.documents))
        found = trec.means(trec.per_query(run, self.qrels, self.metrics))
        result = {name: round(100 * value, 3) for name, value in found.items()}
        for name, value in result.items():
            runtime.say(f"{name}={value}")
        return result


def qrels_of(collection: Collection, judged: np.ndarray) -> dict[str, dict[str, int]]:
    """Return judgements, int64 [n, 3], as {query id: {document id: grade}}."""
    qrels: dict[str, dict[str, int]] = {}
    for query, document, grade in judged.tolist():
        qrels.setdefault(collection.query_ids[query], {})[collection.document_ids[document]] = grade
    return qrels
