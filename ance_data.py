"""What ANCE trains on: a collection's pairs, negatives of the newest generation; and what a collection is made of."""

import argparse
import hashlib
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from collection import Collection, Sources
from data import Batch, Corpus, Neighbours, TrainingSet, group_pairs, read_corpus
from models.semantic_index import EncoderSettings
from options import UserError
from runtime import say
from trec import read_documents, read_qrels, read_queries

VOCABULARY_FROM = 200_000  # documents that an encoder from random weights takes its vocabulary from


class AnceTrainingSet(TrainingSet):
    """Pairs of a training query and a positive, each with some of its negatives.

    A batch has a column of queries, then those of the positives' passages, then those of each negative's; of a
    document with fewer passages than others the last one stands again, which changes no maximum. Batch.ids are the
    groups of equal texts. settings: what else a resumed run must have alike. options: as of TrainingSet.
    """

    def __init__(self, collection: Collection, batch_size: int, train_negatives: int, settings: str = "",
                 **options: Any) -> None:
        about = collection.about
        pairs = collection.pairs + [about.documents, 0]  # places in groups
        groups = np.asarray(collection.groups, np.int64)
        neighbours = Neighbours(groups[pairs], int(groups.max()) + 1)
        super().__init__(pairs, collection.tokens, neighbours, batch_size, **options)
        self.collection, self.train_negatives, self.settings = collection, train_negatives, settings
        self.group_of_row = np.concatenate([groups[collection.owner], groups[about.documents :]])
        self.negatives: np.ndarray | None = None
        self.number = -1

    def take(self, number: int, negatives: np.ndarray) -> None:
        """Deal the negatives of a generation from now on, int32 [pairs, negatives]; none for a width of 0."""
        if len(negatives) != len(self.rows):
            raise UserError(f"generation {number} has negatives of {len(negatives)} pairs, the training has "
                            f"{len(self.rows)}; was it made from other data? --overwrite starts anew")
        self.number, self.negatives = number, negatives if negatives.shape[1] else None

    @property
    def columns(self) -> int:
        """Columns of a batch."""
        width = 0 if self.negatives is None else min(self.train_negatives, self.negatives.shape[1])
        return 1 + (1 + width) * self.collection.about.chunks

    def batch(self, samples: np.ndarray) -> Batch:
        """Make the batch of some samples; their negatives follow from seed, generation and samples alone."""
        about, first = self.collection.about, self.collection.first_passage
        documents = self.rows[samples, 1:]
        if self.negatives is not None:
            negatives = self.negatives[samples]
            rng = np.random.default_rng([self.seed, self.number, *samples[:2].tolist()])
            chosen = np.argsort(rng.random(negatives.shape, np.float32), axis=1)[:, : self.train_negatives]
            documents = np.concatenate([documents, np.take_along_axis(negatives, chosen, 1)], 1)
        last = (first[documents + 1] - first[documents] - 1)[..., None]
        rows = first[documents][..., None] + np.minimum(np.arange(about.chunks), last)
        queries = self.rows[samples, :1] - about.documents + about.passages
        ids = np.ascontiguousarray(np.concatenate([queries, rows.reshape(len(samples), -1)], 1).T)
        batch = self._batch(ids)
        batch.ids = self.group_of_row[ids]
        return batch

    def fingerprint(self) -> str:
        """Return a SHA-256 over what is dealt, but for the negatives."""
        parts = (self.collection.about.key, self.train_negatives, self.settings)
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def _checksum(*paths: str | None) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        digest.update(b"|")
    return digest.hexdigest()


def numbered(args: argparse.Namespace, samples: list[list[str]]) -> tuple[Corpus, list[str], np.ndarray]:
    """Return the documents, the distinct queries and the pairs, int64 [pairs, 2] of query and document, each once.

    The documents are the corpus, and of the training texts those it lacks: without a corpus all of them.
    """
    texts: Iterable[str] = ()
    if args.corpus_file:
        texts, lines = read_corpus(args.corpus_file, args.skip_bad_lines)
        say(f"{args.corpus_file}: {len(texts)} texts{lines.notes()}")
    first = 1 if args.corpus_file else 0
    documents = Corpus.from_texts(itertools.chain(texts, (text for row in samples for text in row[first:])))
    positives = group_pairs(samples)
    places = {text: 0 for found in positives.values() for text in found}
    for place, text in enumerate(documents):
        if text in places:
            places[text] = place
    pairs = [(number, places[text]) for number, found in enumerate(positives.values()) for text in found]
    return documents, list(positives), np.array(pairs, np.int64)


def negatives_of(samples: list[list[str]], documents: Corpus, queries: list[str],
                 pairs: np.ndarray) -> list[tuple[str, str, int]]:
    """Return the third column of triples as judgements of grade 0, but for texts that are positives of the query."""
    if len(samples[0]) < 3:
        return []
    wanted = {row[2] for row in samples}
    places = {text: place for place, text in enumerate(documents) if text in wanted}
    numbers = {query: number for number, query in enumerate(queries)}
    positives = set(map(tuple, pairs.tolist()))
    found = dict.fromkeys((numbers[row[0]], places[row[2]]) for row in samples)
    return [(str(query + 1), str(document + 1), 0) for query, document in found if (query, document) not in positives]


def of_pairs(args: argparse.Namespace, samples: list[list[str]]) -> Sources:
    """Return the sources of pairs or triples, to be given their lengths by `settle`.

    Documents and queries have their place, from 1, as id.
    """
    documents, queries, pairs = numbered(args, samples)
    return Sources(lambda _: ((str(place), text) for place, text in enumerate(documents, 1)),
                   [(str(number), query) for number, query in enumerate(queries, 1)], len(queries),
                   [*((str(query), str(document), 1) for query, document in (pairs + 1).tolist()),
                    *negatives_of(samples, documents, queries, pairs)],
                   (0, 0), 0,
                   _checksum(args.train_set_file, args.corpus_file) + str(args.skip_bad_lines))


def of_trec(args: argparse.Namespace) -> Sources:
    """Return the sources of a collection in TREC's form, to be given their lengths by `settle`."""
    skip = args.skip_bad_lines
    asked: list[tuple[str, str]] = []
    judgements: list[tuple[str, str, int]] = []
    training = 0
    for queries_file, qrels_file in ((args.queries_file, args.qrels_file),
                                     (args.dev_queries_file, args.dev_qrels_file)):
        if not queries_file:
            continue
        queries, qrels = read_queries(queries_file, skip), read_qrels(qrels_file, skip) if qrels_file else {}
        both = {name for name, _ in asked} & {name for name, _ in queries}
        if both:
            raise UserError(f"{queries_file}: the id {min(both)} is one of {args.queries_file} too; ids must differ")
        asked += queries
        known = {name for name, _ in queries}
        kept = [(query, document, grade) for query, row in qrels.items() if query in known
                for document, grade in row.items()]
        say(f"{queries_file}: {len(queries)} queries, {len(kept)} judgements")
        judgements += kept
        training = training or len(queries)
    return Sources(lambda separator: read_documents(args.corpus_file, separator, skip), asked,
                   training if args.queries_file else 0, judgements, (0, 0), 0,
                   _checksum(args.corpus_file, args.queries_file, args.qrels_file, args.dev_queries_file,
                             args.dev_qrels_file) + str(skip))


def settle(sources: Sources, args: argparse.Namespace, settings: EncoderSettings) -> None:
    """Give the sources their lengths: the flags', else the checkpoint's; both know them from then on."""
    settings.max_chunks = args.max_chunks or settings.max_chunks
    settings.max_query_length = args.max_query_length or settings.max_query_length or min(64, settings.max_seq_length)
    sources.lengths, sources.chunks = (settings.max_seq_length, settings.max_query_length), settings.max_chunks


def vocabulary_texts(sources: Sources) -> Iterable[str]:
    """Yield the texts that an encoder from random weights takes its vocabulary from."""
    for _, text in itertools.chain(sources.queries, itertools.islice(sources.documents(" "), VOCABULARY_FROM)):
        yield text
