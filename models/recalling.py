"""What recall.py puts together: a dense source, a keyword source, and how they are fused."""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from models import loading
from models.encoders import fast_encoder
from semindex import runtime
from semindex.encode.encoder import encode, report_cut, vector_file
from semindex.encode.parts import Parts, key_of
from semindex.encode.text_encoder import TextEncoder
from semindex.search.directory import TextIndex, check_directory, open_index
from semindex.search.fusion import Fused, Ranking
from semindex.search.index import IndexSettings, KeywordSearch, recall_of_index
from semindex.search.kept_keyword import check_keyword, open_keyword
from semindex.search.methods import Method
from semindex.text.corpus import Corpus
from semindex.text.counted import counted
from semindex.text.same_text import SameTexts


class DenseSource:
    """A checkpoint, and the vector index of a corpus; every process has one, the index is on rank 0."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        if args.index_dir:
            runtime.on_rank_0(lambda: check_directory(args.index_dir))
        self.model, self.tokenizer = loading.load(args.params_path, vars(args))
        runtime.say(f"Loaded parameters from {args.params_path}")
        self.encoder: TextEncoder | None = None
        self.index: TextIndex | None = None
        self._by_text = False
        self.vectors = np.empty([0, 0], np.float32)  # of the queries asked last

    @property
    def separator(self) -> str:
        """What the parts of a document are joined by."""
        return self.tokenizer.separator

    def open(self, corpus: Corpus, queries: int, full_text: bool = False) -> None:
        """Open or build the index of a corpus. queries: how many will be asked; full_text: by keyword too."""
        args = self.args
        fingerprint = loading.fingerprint(args.params_path, self.model, self.tokenizer)
        if args.engine == "int8":
            fingerprint += " int8"  # its vectors are not those of the other engines
        parts = self._parts(corpus, fingerprint.removesuffix(" int8"))
        file = vector_file(args.index_dir, self.model, corpus, f"{fingerprint} {corpus.fingerprint}") \
            if args.index_dir and parts is None else None

        def encode_corpus() -> Any:
            self._choose_engine(queries if parts else len(corpus) + queries)
            assert self.encoder is not None
            if parts is not None:
                # Read where the index is built: rank 0's box is the one that must have them.
                return parts.vectors(args.trust_files) if runtime.rank() == 0 else self.vectors
            return encode(self.encoder.side("passage"), corpus, "encode corpus", file)

        self.index = open_index(args.index_dir, corpus, encode_corpus, IndexSettings.from_flags(args), fingerprint,
                                args.corpus_file, queries, args.rebuild_index, args.trust_files, file,
                                self.model.dimension, full_text)
        self._by_text = full_text
        if self.encoder is None:  # the index is used again: only the queries are to be encoded, which may pay for none
            self._choose_engine(queries)

    def _parts(self, corpus: Corpus, fingerprint: str) -> Parts | None:
        """Return the corpus' vectors that encode_corpus.py made, None where none are named."""
        if not self.args.vectors_dir:
            return None
        prompt = self.tokenizer.prompted(self.model.settings.prompts.of("passage")).prompt
        parts = Parts(self.args.vectors_dir, len(corpus), self.model.dimension,
                      key_of(fingerprint, self.args.engine, prompt, corpus))
        runtime.on_rank_0(lambda: parts.check(self.args.trust_files))
        return parts

    def _choose_engine(self, texts: int) -> None:
        self.encoder, _ = fast_encoder(self.model, self.tokenizer, self.args.engine, texts, self.args.batch_size)

    def search(self, queries: Sequence[str], k: int, title: str = "encode queries") -> Ranking | None:
        """Return what is nearest to each query, None off rank 0."""
        assert self.encoder is not None
        self.vectors = encode(self.encoder.side("query"), queries, title) if title else \
            self.encoder.side("query")(queries)
        if self.index is None:
            return None
        ids, scores = self.index.index.search(self.vectors, k)
        return Ranking(ids, self.encoder.scores(scores))

    def full_text(self) -> KeywordSearch | None:
        """Return the keyword search of what holds the vectors, where it has one and was opened for it."""
        if self.index is None or not self._by_text or self.index.index.keyword is None:
            return None
        runtime.say("keyword search by the BM25 of Milvus; --milvus_full_text never takes this project's")
        return self.index.index.keyword

    def report(self, k: int) -> None:
        """Say which share of exact search's texts the index finds, for the queries asked last. For rank 0."""
        assert self.index is not None
        some = self.vectors[:1000]
        runtime.say(f"index recall@{k} against exact search, {counted(len(some), 'query', 'queries')}: "
                    f"{recall_of_index(self.index.index, some, k):.4f}")


class Recaller:
    """The sources of a method over a corpus. Callable from queries to the texts recalled."""

    def __init__(self, args: argparse.Namespace, method: Method, dense: DenseSource | None, corpus: Corpus,
                 queries: int) -> None:
        self.method, self.dense = method, dense
        self.keyword: KeywordSearch | None = None
        self.same: SameTexts | None = None
        if "keyword" in method.sources:  # what is wrong with it is told before the corpus is encoded
            runtime.on_rank_0(lambda: check_keyword(args, corpus))
        if dense:
            # A calibration was made with our own keyword search.
            dense.open(corpus, queries, method.name == "hybrid" and not args.calibration)
        if runtime.rank() == 0 and "keyword" in method.sources:
            own = dense.full_text() if dense else None
            self.keyword = own or open_keyword(args, corpus)
        if runtime.rank() == 0 and method.name == "hybrid":
            self.same = SameTexts(corpus)

    def __call__(self, queries: Sequence[str], k: int, title: str = "") -> Fused | None:
        """Return the k best texts of each query, None off rank 0. title: of the progress, '' for one process alone."""
        depth, found = self.method.depth_for(k), dict[str, Ranking]()
        if self.dense:
            nearest = self.dense.search(queries, depth, title)
            report_cut(self.dense.tokenizer)
            if nearest is not None:
                found["dense"] = nearest
        if runtime.rank():
            return None
        if self.keyword:
            found["keyword"] = Ranking(*self.keyword.search(queries, depth))
        return self.method.fuse(found, k, self.same.find(queries) if self.same else None)
