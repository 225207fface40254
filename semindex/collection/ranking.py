"""A collection's documents ranked for its queries: full search or given candidates, by an encoder."""

from collections.abc import Callable, Sequence

import numpy as np

from semindex.collection.store import Collection, Material
from semindex.encode.encoder import encode, encode_rows, share_of
from semindex.encode.text_encoder import TextEncoder
from semindex.encode.vector_file import VectorFile
from semindex.errors import UserError
from semindex.runtime import processes, warn
from semindex.search.index import IndexSettings
from semindex.search.shards import Shards
from semindex.text.counted import counted


def documents_of(passages: np.ndarray, scores: np.ndarray, owner: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn ranked passages into ranked documents, each at its best passage (MaxP, Dai and Callan 2019).

    passages: int64 [queries, n], best first; owner: the document of each passage. Returns (documents, scores), both
    [queries, k], -1 and -inf behind the last one.
    """
    documents = owner[passages].astype(np.int64)
    places = np.argsort(documents, axis=1, kind="stable")
    ranked = np.take_along_axis(documents, places, 1)
    again = np.zeros(documents.shape, bool)
    np.put_along_axis(again, places[:, 1:], ranked[:, 1:] == ranked[:, :-1], 1)
    keep = np.argsort(again, axis=1, kind="stable")[:, :k]
    gone = np.take_along_axis(again, keep, 1)
    return (np.where(gone, -1, np.take_along_axis(documents, keep, 1)),
            np.where(gone, -np.inf, np.take_along_axis(scores, keep, 1)).astype(np.float32))


class Ranker:
    """Queries and passages of a collection as vectors. Every rank has its share of the passages and searches it.

    queries: int64 [n], ascending, the queries that have vectors; vectors: theirs, on rank 0, which alone may ask, and
    only within `on_rank_0`.
    """

    def __init__(self, collection: Collection, passages: Shards, queries: np.ndarray, vectors: np.ndarray) -> None:
        self.collection, self.passages, self.queries, self.vectors = collection, passages, queries, vectors
        self.on_rank_0 = passages.on_rank_0

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (documents int64, scores float32), both [queries, k], best first; -1 and -inf behind the last one."""
        vectors, chunks = self.vectors[np.searchsorted(self.queries, queries)], self.collection.about.chunks
        found, scores = self.passages.search(vectors, k * chunks)
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
            best[there] = np.maximum(best[there], self.passages.products(query[there], row[there]))
        return best

    def run(self, queries: np.ndarray, depth: int,
            candidates: dict[str, list[str]] | None = None) -> dict[str, dict[str, float]]:
        """Return {query id: {document id: score}}, the `depth` best of each query.

        candidates: where given, documents to rank for each query id, instead of all; those without a text or unknown
        to the collection are passed over, see check_candidates.
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


def check_candidates(material: Material, candidates: dict[str, list[str]], path: str) -> None:
    """Warn of candidates that cannot be ranked; UserError where none can: they are of another collection.

    It reads the documents once, before hours go into encoding them. path: of the candidates, for the messages.
    """
    queries = {name for name, _ in material.queries}
    asked = [query for query in candidates if query in queries]
    if not asked:
        raise UserError(f"{path}: none of its {counted(len(candidates), 'query', 'queries')} is one of "
                        f"the collection's {len(queries)} (the first: {next(iter(candidates))}); was it "
                        "written for others?")
    lacking = len(queries) - len(asked)
    if len(asked) < len(candidates) or lacking:
        warn(f"{path}: {len(candidates) - len(asked)} of its {len(candidates)} queries are not in the collection, "
             f"{lacking} of the collection's {len(queries)} have no candidates and get no line")
    wanted = {name for query in asked for name in candidates[query]}
    known = {name for name, text in material.documents(" ") if text and name in wanted}
    if not known:
        raise UserError(f"{path}: none of its {counted(len(wanted), 'document')} is in the collection with a text (the "
                        f"first: {min(wanted)}); was it written for others?")
    if len(known) < len(wanted):
        warn(f"{path}: {len(wanted) - len(known)} of {len(wanted)} documents are not in the collection or have no text "
             f"and are passed over (the first: {min(wanted - known)})")


def make_ranker(collection: Collection, encoder: TextEncoder, queries: np.ndarray, settings: IndexSettings,
                file: Callable[[slice], VectorFile] | None = None) -> Ranker:
    """Encode passages and queries. Every rank calls it; only rank 0's can be asked, see Ranker.

    file: from this rank's rows to where their vectors go, see encoder.encode_rows.
    """
    count = collection.about.passages
    rows = share_of(count, *processes())
    vectors = encode_rows(encoder, collection.passages, rows, "encode passages", file(rows) if file else None)
    asked = encode(encoder, collection.query_tokens(queries), "encode queries")
    return Ranker(collection, Shards(vectors, rows, count, settings, len(queries)), queries, asked)
