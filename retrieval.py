"""Queries to ranked texts: the step that recall.py and the evaluation during training share."""

import os
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

import metrics
import runtime
from ann_util import (
    EXACT_UP_TO,
    EXACT_UP_TO_QUERIES,
    ExactIndex,
    IndexSettings,
    TextIndex,
    build_index,
    check_directory,
    read_meta,
)
from data import Corpus, group_pairs
from encoder import dynamic, encode
from models.semantic_index import SemanticIndex
from options import UserError
from text_tokenizer import TextTokenizer


def ranked(queries: Sequence[str], ids: np.ndarray, scores: np.ndarray,
           corpus: Corpus) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Yield (query, [(text, cosine), ...]), best first."""
    for query, row, values in zip(queries, ids.tolist(), scores.tolist()):
        yield query, [(corpus[i], value) for i, value in zip(row, values)]


class DevRecall:
    """Recall@k of a dev file over a corpus, for use during training. Every rank calls it; rank 0 searches.

    result_dir: where given, the newest recall_result and a line of metrics an evaluation go there.
    """

    def __init__(self, pairs: Sequence[Sequence[str]], corpus: Corpus, tokenizer: TextTokenizer,
                 recall_num: int, index: IndexSettings, result_dir: str | None = None,
                 result_file: str = "", metrics_file: str = "") -> None:
        self.positives = group_pairs(pairs)
        self.queries, self.corpus, self.tokenizer = list(self.positives), corpus, tokenizer
        self.recall_num, self.index = recall_num, index
        self.result_dir, self.result_file, self.metrics_file = result_dir, result_file, metrics_file
        if result_dir:
            runtime.on_rank_0(lambda: os.makedirs(result_dir, exist_ok=True))
        self.metrics = [f"recall@{k}" for k in metrics.RECALL_AT if k <= recall_num] + ["mrr@10"]
        self.main_metric = f"recall@{max(k for k in metrics.RECALL_AT if k <= min(10, recall_num))}"

    def __call__(self, model: SemanticIndex) -> dict[str, float]:
        """Return {'recall@1': percent, ..., 'mrr@10': percent}; prints the recipe's lines."""
        runtime.say("evaluating")
        encoder = dynamic(model, self.tokenizer)
        texts = encode(encoder, self.corpus, "encode corpus")
        queries = encode(encoder, self.queries, "encode queries")
        return runtime.on_rank_0(lambda: self._measure(texts, queries))

    def _measure(self, texts: np.ndarray, queries: np.ndarray) -> dict[str, float]:
        ids, scores = build_index(texts, self.index, len(self.queries)).search(queries, self.recall_num)
        found = list(ranked(self.queries, ids, scores, self.corpus))
        hits = [metrics.hit_ranks(query, [text for text, _ in row], self.positives[query]) for query, row in found]
        result = metrics.recalls(hits, self.recall_num)
        for name, value in result.items():
            runtime.say(f"{name}={value}")
        if self.result_dir:
            metrics.write_recall_result(os.path.join(self.result_dir, self.result_file), found)
            with open(os.path.join(self.result_dir, self.metrics_file), "a", encoding="utf-8") as file:
                stamp = time.strftime("%Y%m%d-%H%M%S")
                file.write("\t".join([stamp, *(str(value) for value in result.values())]) + "\n")
        return result | {"mrr@10": metrics.percent(metrics.mrr_at(hits, 10))}


def recall_of_vectors(pairs: Sequence[Sequence[str]], corpus: Corpus,
                      vectors_of: Callable[[Sequence[str]], np.ndarray]) -> dict[str, float]:
    """Return {'recall@1': percent, ...} of exact search. vectors_of: from texts to unit vectors, float32."""
    positives = group_pairs(pairs)
    ids, scores = ExactIndex(vectors_of(corpus.slice(0, len(corpus)))).search(vectors_of(list(positives)), 50)
    found = ranked(list(positives), ids, scores, corpus)
    return metrics.recalls([metrics.hit_ranks(query, [text for text, _ in row], positives[query])
                            for query, row in found], 50)


def reusable_index(directory: str, encoder: str, corpus: str, settings: IndexSettings) -> TextIndex | None:
    """Load the index of a directory, None where there is none yet.

    encoder, corpus: fingerprints of what is to be searched. Raises UserError where the directory holds something
    else: the index of another encoder, corpus, kind or build.
    """
    if not check_directory(directory):
        return None
    meta = read_meta(directory)
    advice = "pass --rebuild_index to replace it, or name another directory"
    for what, ours in (("encoder", encoder), ("corpus", corpus)):
        if ours != meta[what]:
            raise UserError(f"--index_dir {directory}: was built with another {what}; {advice}")
    built: dict[str, str | int] = {"index_type": meta["kind"]}
    given: dict[str, str | int | None] = {"index_type": None if settings.kind == "auto" else settings.kind}
    if meta["kind"] == "hnsw":
        built |= {f"hnsw_{name}": value for name, value in meta["parameters"].items()}
        given |= {"hnsw_m": settings.m, "hnsw_ef_construction": settings.ef_construction}
    for flag, value in given.items():
        if value not in (None, built[flag]):
            raise UserError(f"--{flag} {value}: the index in {directory} was built with {built[flag]}; {advice}")
    return TextIndex.load(directory, settings)


def open_index(directory: str | None, corpus: Corpus, encode_corpus: Callable[[], np.ndarray],
               settings: IndexSettings, encoder: str, source: str, queries: int,
               rebuild: bool = False) -> TextIndex | None:
    """Reuse the index of a directory where it fits; else encode, build and, given a directory, save. None off rank 0.

    encode_corpus: called by every rank where there is something to encode. encoder: the checkpoint's fingerprint.
    queries: how many will be asked.
    Raises UserError as reusable_index does, unless rebuild is true.
    """
    index: TextIndex | None = None

    def reuse() -> bool:
        nonlocal index
        if directory and not rebuild:
            index = reusable_index(directory, encoder, corpus.fingerprint, settings)
        return index is not None

    if runtime.on_rank_0(reuse):
        runtime.say(f"index of {directory} reused")
        return index
    vectors = encode_corpus()

    def build() -> None:
        nonlocal index
        runtime.say("start build index..........")
        began = time.perf_counter()
        index = TextIndex(build_index(vectors, settings, None if directory else queries),
                          corpus, encoder, source)
        runtime.say(f"Total index number:{len(index.index)} ({index.index.kind}, {time.perf_counter() - began:.1f} s)")
        if index.index.kind == "exact" and settings.kind == "auto":
            runtime.say(f"exact search, as for every corpus of up to {EXACT_UP_TO} texts"
                        + ("" if directory else f" and for up to {EXACT_UP_TO_QUERIES} queries of an index that is not "
                           "kept") + "; --index_type hnsw insists")
        if directory:
            index.save(directory)
            runtime.say(f"index saved in {directory}")

    runtime.on_rank_0(build)
    return index
