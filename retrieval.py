"""Queries to ranked texts: the step that recall.py and the evaluation during training share."""

import os
import time
from collections.abc import Iterator, Sequence

import numpy as np

import metrics
import runtime
from ann_util import IndexSettings, TextIndex, build_index
from data import Corpus, group_pairs
from encoder import check_finite, encode
from models.semantic_index import SemanticIndex
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

    def __init__(self, pairs: Sequence[Sequence[str]], corpus: Corpus, tokenizer: TextTokenizer, batch_size: int,
                 recall_num: int, index: IndexSettings, result_dir: str | None = None,
                 result_file: str = "", metrics_file: str = "") -> None:
        self.positives = group_pairs(pairs)
        self.queries, self.corpus, self.tokenizer = list(self.positives), corpus, tokenizer
        self.batch_size, self.recall_num, self.index = batch_size, recall_num, index
        self.result_dir, self.result_file, self.metrics_file = result_dir, result_file, metrics_file

    def __call__(self, model: SemanticIndex) -> dict[str, float]:
        """Return {'recall@1': percent, ..., 'mrr@10': percent}; prints the recipe's lines."""
        runtime.say("evaluating")
        texts = encode(model, self.tokenizer, self.corpus, self.batch_size, "encode corpus")
        queries = encode(model, self.tokenizer, self.queries, self.batch_size, "encode queries")
        return runtime.on_rank_0(lambda: self._measure(texts, queries))

    def _measure(self, texts: np.ndarray, queries: np.ndarray) -> dict[str, float]:
        check_finite(texts, "the model")
        found = list(ranked(self.queries, *build_index(texts, self.index).search(queries, self.recall_num), self.corpus))
        hits = metrics.first_hits({query: [text for text, _ in row] for query, row in found}, self.positives)
        result = metrics.recalls(hits, self.recall_num)
        for name, value in result.items():
            runtime.say(f"{name}={value}")
        if self.result_dir:
            os.makedirs(self.result_dir, exist_ok=True)
            metrics.write_recall_result(os.path.join(self.result_dir, self.result_file), found)
            with open(os.path.join(self.result_dir, self.metrics_file), "a", encoding="utf-8") as file:
                stamp = time.strftime("%Y%m%d-%H%M%S")
                file.write("\t".join([stamp, *(str(value) for value in result.values())]) + "\n")
        return result | {"mrr@10": round(100 * metrics.mrr_at(hits, 10), 3)}


def open_index(directory: str | None, corpus: Corpus, encode_corpus, settings: IndexSettings, encoder: str,  # noqa: ANN001
               source: str, rebuild: bool = False) -> TextIndex | None:
    """Reuse the index directory where it fits encoder and corpus; else encode, build and save. None off rank 0.

    encode_corpus: called by every rank where there is something to encode. Raises UserError where the directory
    holds the index of another encoder or corpus and rebuild is false.
    """
    from ann_util import read_meta
    from options import UserError

    def reusable() -> TextIndex | None:
        if not directory or not os.path.exists(directory):
            return None
        if not os.path.isdir(directory) or (os.listdir(directory) and
                                            not os.path.isfile(os.path.join(directory, "index.json"))):
            raise UserError(f"--index_dir {directory}: is there, but is no index; name another directory")
        if rebuild or not os.listdir(directory):
            return None
        meta = read_meta(directory)
        for what, ours, theirs in (("encoder", encoder, meta["encoder"]),
                                   ("corpus", corpus.fingerprint, meta["corpus"])):
            if ours != theirs:
                raise UserError(f"--index_dir {directory}: was built with another {what}; "
                                "pass --rebuild_index to replace it, or name another directory")
        if settings.kind not in ("auto", meta["kind"]):
            raise UserError(f"--index_type {settings.kind}: the index in {directory} is {meta['kind']}; "
                            "pass --rebuild_index to replace it")
        built = meta["parameters"]
        for flag, given, has in (("hnsw_m", settings.m, built.get("m")),
                                 ("hnsw_ef_construction", settings.ef_construction, built.get("ef_construction"))):
            if meta["kind"] == "hnsw" and given not in (None, has):
                raise UserError(f"--{flag} {given}: the index in {directory} was built with {has}; "
                                "pass --rebuild_index to replace it")
        return TextIndex.load(directory, settings)

    found = [None]

    def look() -> bool:
        found[0] = reusable()
        return found[0] is not None

    if runtime.on_rank_0(look):
        runtime.say(f"index of {directory} reused")
        return found[0]
    vectors = encode_corpus()

    def make() -> bool:
        check_finite(vectors, source)
        runtime.say("start build index..........")
        began = time.perf_counter()
        index = TextIndex(build_index(vectors, settings), corpus, encoder, source)
        if index.index.kind == "exact" and settings.kind == "auto":
            runtime.say("exact search: the corpus is small; --index_type hnsw insists on a graph")
        runtime.say(f"Total index number:{len(index.index)} ({time.perf_counter() - began:.1f} s)")
        if directory:
            index.save(directory)
            runtime.say(f"index saved in {directory}")
        found[0] = index
        return True

    runtime.on_rank_0(make)
    return found[0]
