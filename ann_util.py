"""The vector index for scripts: build, open, save, search. What is behind it lives in semindex/search."""

from semindex.search.directory import TextIndex, check_directory, open_index
from semindex.search.exact import ExactIndex
from semindex.search.hnsw import HnswIndex
from semindex.search.index import EXACT_UP_TO, IndexSettings, VectorIndex, build_index, recall_of_index

__all__ = ["EXACT_UP_TO", "ExactIndex", "HnswIndex", "IndexSettings", "TextIndex", "VectorIndex", "build_index",
           "check_directory", "open_index", "recall_of_index"]
