"""Recall@k of an encoder over a corpus, while it is trained and once it is exported."""

import os
import time
from collections.abc import Sequence

import numpy as np

from semindex import runtime
from semindex.encode.encoder import encode, encode_rows, share_of
from semindex.encode.text_encoder import TextEncoder
from semindex.files import appended
from semindex.measure.hits import RECALL_AT, hit_ranks, mrr_at, percent, recalls
from semindex.search.exact import ExactIndex
from semindex.search.index import IndexSettings
from semindex.search.recall_files import ranked
from semindex.search.shards import Shards
from semindex.text.corpus import Corpus
from semindex.text.results import write_recall_result
from semindex.text.tables import group_pairs


class RecallEvaluator:
    """Recall@k of a dev file over a corpus, for use during training. Every rank calls it and searches its share.

    result_dir: where given, the newest recall_result and a line of metrics an evaluation go there.
    """

    def __init__(self, pairs: Sequence[Sequence[str]], corpus: Corpus, recall_num: int, index: IndexSettings,
                 result_dir: str | None = None, result_file: str = "", metrics_file: str = "") -> None:
        self.positives = group_pairs(pairs)
        self.queries, self.corpus = list(self.positives), corpus
        self.recall_num, self.index = recall_num, index
        self.result_dir, self.result_file, self.metrics_file = result_dir, result_file, metrics_file
        if result_dir:
            runtime.on_rank_0(lambda: os.makedirs(result_dir, exist_ok=True))
        self.metrics = [f"recall@{k}" for k in RECALL_AT if k <= recall_num] + ["mrr@10"]
        self.main_metric = f"recall@{max(k for k in RECALL_AT if k <= min(10, recall_num))}"

    def __call__(self, encoder: TextEncoder) -> dict[str, float]:
        """Return {'recall@1': percent, ..., 'mrr@10': percent}; prints the recipe's lines."""
        runtime.say("evaluating")
        rows = share_of(len(self.corpus), *runtime.processes())
        own = encode_rows(encoder.side("passage"), self.corpus, rows, "encode corpus")
        queries = encode(encoder.side("query"), self.queries, "encode queries")
        texts = Shards(own, rows, len(self.corpus), self.index, len(self.queries))
        found: dict[str, float] = texts.on_rank_0(lambda: self._measure(texts, queries, encoder))
        return found

    def _measure(self, texts: Shards, queries: np.ndarray, encoder: TextEncoder) -> dict[str, float]:
        ids, scores = texts.search(queries, self.recall_num)
        found = list(ranked(self.queries, ids, encoder.scores(scores), self.corpus))
        hits = [hit_ranks(query, [text for text, _ in row], self.positives[query]) for query, row in found]
        result = recalls(hits, self.recall_num)
        for name, value in result.items():
            runtime.say(f"{name}={value}")
        if self.result_dir:
            write_recall_result(os.path.join(self.result_dir, self.result_file), found)
            with appended(os.path.join(self.result_dir, self.metrics_file)) as file:
                stamp = time.strftime("%Y%m%d-%H%M%S")
                file.write("\t".join([stamp, *(str(value) for value in result.values())]) + "\n")
        return result | {"mrr@10": percent(mrr_at(hits, 10))}


def recall_of_encoder(pairs: Sequence[Sequence[str]], corpus: Corpus, encoder: TextEncoder) -> dict[str, float]:
    """Return {'recall@1': percent, ...} of exact search."""
    positives = group_pairs(pairs)
    passages = encoder.side("passage")(corpus.slice(0, len(corpus)))
    ids, scores = ExactIndex.build(passages).search(encoder.side("query")(list(positives)), 50)
    found = ranked(list(positives), ids, scores, corpus)
    return recalls([hit_ranks(query, [text for text, _ in row], positives[query])
                            for query, row in found], 50)
