"""A collection's documents ranked for its queries: full search or given candidates, by an encoder."""

from collections.abc import Sequence

import numpy as np

import runtime
import trec_metrics
from ann_util import Index, IndexSettings, build_index
from collection import Collection
from deploy.python.serving.text_encoder import TextEncoder
from encoder import dynamic, encode
from mining import documents_of
from models.semantic_index import SemanticIndex
from text_tokenizer import TextTokenizer
from vector_file import VectorFile


class Ranker:
    """Queries and passages of a collection as vectors, and an index over the passages. For rank 0.

    queries: int64 [n], ascending, the queries that have vectors.
    """

    def __init__(self, collection: Collection, passages: np.ndarray, queries: np.ndarray, vectors: np.ndarray,
                 settings: IndexSettings) -> None:
        self.collection, self.passages, self.queries, self.vectors = collection, passages, queries, vectors
        self.settings = settings
        self._index: Index | None = None

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (documents int64, scores float32), both [queries, k], best first; -1 and -inf behind the last one."""
        if self._index is None:
            self._index = build_index(self.passages, self.settings, len(self.queries))
        vectors, chunks = self.vectors[np.searchsorted(self.queries, queries)], self.collection.about.chunks
        found, scores = self._index.search(vectors, k * chunks)
        if len(self.collection.owner) == self.collection.about.documents:  # a passage each: they are the documents
            return found, scores
        return documents_of(found, scores, self.collection.owner, k)

    def scores(self, pairs: np.ndarray) -> np.ndarray:
        """Return the score of each pair of query and document, float32 [pairs]: that of its best passage."""
        first = self.collection.first_passage
        query = self.vectors[np.searchsorted(self.queries, pairs[:, 0])]
        best = np.full(len(pairs), -np.inf, np.float32)
        for chunk in range(self.collection.about.chunks):
            row = first[pairs[:, 1]] + chunk
            there = np.flatnonzero(row < first[pairs[:, 1] + 1])
            dots = np.einsum("ij,ij->i", query[there], self.passages[row[there]])
            best[there] = np.maximum(best[there], dots)
        return best

    def run(self, queries: np.ndarray, depth: int,
            candidates: dict[str, list[str]] | None = None) -> dict[str, dict[str, float]]:
        """Return {query id: {document id: score}}, the `depth` best of each query.

        candidates: where given, documents to rank for each query id, instead of all; those without a text or unknown
        to the collection are passed over.
        """
        names = self.collection.query_ids.some(queries)
        if candidates is None:
            found, scores = self.search(queries, depth)
        else:
            found, scores = self._rerank(queries, [candidates.get(name, []) for name in names], depth)
        distinct, places = np.unique(found, return_inverse=True)
        documents = self.collection.document_ids.some(np.maximum(distinct, 0))
        places = places.reshape(found.shape)
        return {name: {documents[place]: float(score) for place, score in zip(row, values) if score > -np.inf}
                for name, row, values in zip(names, places.tolist(), scores.tolist())}

    def _rerank(self, queries: np.ndarray, candidates: Sequence[Sequence[str]],
                depth: int) -> tuple[np.ndarray, np.ndarray]:
        wanted = {name for names in candidates for name in names}
        numbers = {name: number for number, name in enumerate(self.collection.document_ids) if name in wanted}
        found = np.full([len(queries), depth], -1, np.int64)
        scores = np.full([len(queries), depth], -np.inf, np.float32)
        for row, (query, names) in enumerate(zip(queries.tolist(), candidates)):
            documents = np.array([numbers[name] for name in names if name in numbers], np.int64)
            if not len(documents):
                continue
            values = self.scores(np.stack([np.full(len(documents), query), documents], 1))
            order = np.lexsort((documents, -values))[:depth]
            found[row, : len(order)], scores[row, : len(order)] = documents[order], values[order]
        return found, scores


def make_ranker(collection: Collection, encoder: TextEncoder, queries: np.ndarray, settings: IndexSettings,
                file: VectorFile | None = None) -> Ranker:
    """Encode passages and queries. Every rank calls it; only rank 0's can be asked. file: see encoder.encode."""
    passages = encode(encoder, collection.passages, "encode passages", file)
    vectors = encode(encoder, collection.query_tokens(queries), "encode queries")
    return Ranker(collection, passages, queries, vectors, settings)


class DevRanking:
    """MRR, NDCG and recall of a collection's queries that are not for training. Every rank calls it."""

    metrics, main_metric = ["mrr@10", "ndcg@10", "recall@50", "recall@1000"], "mrr@10"

    def __init__(self, collection: Collection, tokenizer: TextTokenizer, settings: IndexSettings) -> None:
        self.collection, self.tokenizer, self.settings = collection, tokenizer, settings
        judged = collection.judged(training=False)
        self.queries = np.unique(judged[:, 0])
        self.qrels = qrels_of(collection, judged)

    def __call__(self, model: SemanticIndex) -> dict[str, float]:
        """Return {'mrr@10': percent, ...} and print them."""
        runtime.say("evaluating")
        ranker = make_ranker(self.collection, dynamic(model, self.tokenizer), self.queries, self.settings)
        return runtime.on_rank_0(lambda: self.measure(ranker))

    def measure(self, ranker: Ranker) -> dict[str, float]:
        """Return the metrics of a ranker that has these queries."""
        run = ranker.run(self.queries, min(1000, self.collection.about.documents))
        found = trec_metrics.means(trec_metrics.per_query(run, self.qrels, self.metrics))
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
