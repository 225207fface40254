"""What a collection is made of: pairs and a corpus, or files in TREC's form."""

import argparse
import hashlib
import itertools
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from semindex.collection.store import Material, Sources
from semindex.errors import UserError
from semindex.files import digest
from semindex.runtime import say
from semindex.text.corpus import Corpus, read_corpus
from semindex.text.counted import counted
from semindex.text.tables import group_pairs
from semindex.text.trec import read_documents, read_qrels, read_queries

VOCABULARY_FROM = 200_000  # documents that an encoder from random weights takes its vocabulary from


def _checksum(*files: tuple[str | None, Iterable[Iterable[Any]]]) -> str:
    """Return a SHA-256 over files, given with the rows that were read from each.

    Of standard input and pipes, which can be read once, the rows count; of files their bytes, and no row is looked at.
    """
    joined = hashlib.sha256()
    for path, rows in files:
        if path and os.path.isfile(path):
            joined.update(digest(path).digest())
        elif path:
            for row in rows:
                joined.update("\t".join(map(str, row)).encode() + b"\n")
        joined.update(b"|")
    return joined.hexdigest()


def numbered(args: argparse.Namespace, samples: list[list[str]]) -> tuple[Corpus, list[str], np.ndarray]:
    """Return the documents, the distinct queries and the pairs, int64 [pairs, 2] of query and document, each once.

    The documents are the corpus, and of the training texts those it lacks: without a corpus all of them.
    """
    texts: Iterable[str] = ()
    if args.corpus_file:
        texts, lines = read_corpus(args.corpus_file, args.skip_bad_lines)
        say(f"{args.corpus_file}: {counted(len(texts), 'text')}{lines.notes()}")
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


def of_pairs(args: argparse.Namespace, samples: list[list[str]]) -> Material:
    """Return what a collection of pairs or triples is made of.

    Documents and queries have their place, from 1, as id.
    """
    documents, queries, pairs = numbered(args, samples)
    return Material(lambda _: ((str(place), text) for place, text in enumerate(documents, 1)),
                    [(str(number), query) for number, query in enumerate(queries, 1)], len(queries),
                    [*((str(query), str(document), 1) for query, document in (pairs + 1).tolist()),
                     *negatives_of(samples, documents, queries, pairs)],
                    _checksum((args.train_set_file, samples), (args.corpus_file, ([text] for text in documents)))
                    + str(args.skip_bad_lines))


def of_trec(args: argparse.Namespace) -> Material:
    """Return what a collection in TREC's form is made of."""
    skip = args.skip_bad_lines
    asked: list[tuple[str, str]] = []
    judgements: list[tuple[str, str, int]] = []
    training = 0
    if args.corpus_file == "-" or not (os.path.isfile(args.corpus_file) or os.path.isdir(args.corpus_file)
                                       or not os.path.exists(args.corpus_file)):
        raise UserError(f"--corpus_file {args.corpus_file}: a collection is read several times, so it must be a file")
    files: list[tuple[str | None, Iterable[Iterable[Any]]]] = [(args.corpus_file, ())]
    for queries_file, qrels_file in ((args.queries_file, args.qrels_file),
                                     (args.dev_queries_file, args.dev_qrels_file)):
        if not queries_file:
            files += [(None, ()), (None, ())]
            continue
        queries, qrels = read_queries(queries_file, skip), read_qrels(qrels_file, skip) if qrels_file else {}
        files += [(queries_file, queries),
                  (qrels_file, ((query, *judged) for query, row in qrels.items() for judged in row.items()))]
        both = {name for name, _ in asked} & {name for name, _ in queries}
        if both:
            raise UserError(f"{queries_file}: the id {min(both)} is one of {args.queries_file} too; ids must differ")
        asked += queries
        known = {name for name, _ in queries}
        kept = [(query, document, grade) for query, row in qrels.items() if query in known
                for document, grade in row.items()]
        say(f"{queries_file}: {counted(len(queries), 'query', 'queries')}, {counted(len(kept), 'judgement')}")
        judgements += kept
        training = training or len(queries)
    return Material(lambda separator: read_documents(args.corpus_file, separator, skip), asked,
                    training if args.queries_file else 0, judgements, _checksum(*files) + str(skip))


def tokenised_as(material: Material, args: argparse.Namespace, settings: Any) -> Sources:
    """Return the sources: lengths by the flags, else the checkpoint's, whose settings know them from then on."""
    settings.max_chunks = args.max_chunks or settings.max_chunks
    settings.max_query_length = args.max_query_length or settings.max_query_length or min(64, settings.max_seq_length)
    lengths = settings.max_seq_length, settings.max_query_length
    return Sources(**vars(material), lengths=lengths, chunks=settings.max_chunks, prompts=settings.prompts)


def vocabulary_texts(material: Material) -> Iterable[str]:
    """Yield the texts that an encoder from random weights takes its vocabulary from."""
    for _, text in itertools.chain(material.queries, itertools.islice(material.documents(" "), VOCABULARY_FROM)):
        yield text
