"""Of equal scores the smallest ids are found, and which engine is chosen."""

import numpy as np
import pytest
from test_index_engines import unit

from semindex import flags
from semindex.cli import Parser
from semindex.errors import UserError
from semindex.search import index as index_module
from semindex.search import selection
from semindex.search.directory import TextIndex
from semindex.search.exact import ExactIndex
from semindex.search.index import ENGINES, IndexSettings, VectorIndex, build_index, choose, engine
from semindex.search.selection import Best, best_of
from semindex.text.corpus import Corpus


def one_hot(places):
    return np.eye(4, dtype=np.float32)[places]


def test_of_equal_scores_the_smallest_ids_are_found():
    """What the index once gave for 1,000 equal vectors and k = 5: 663, 665, 667, 668, 669."""
    ids, scores = ExactIndex.build(one_hot([0] * 1000)).search(one_hot([0, 0, 1]), 5)
    assert ids.tolist() == [[0, 1, 2, 3, 4]] * 3 and scores.tolist() == [[1] * 5, [1] * 5, [0] * 5]


@pytest.mark.parametrize("k", [1, 2, 5, 299, 300, 301, 600, 999, 1000])
def test_ties_at_every_place_of_the_list(k):
    rng = np.random.default_rng(k)
    places = rng.permutation(np.repeat([0, 1, 2], [300, 300, 400]))
    ids = rng.permutation(5000)[:1000]
    queries = np.array([[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]], np.float32)
    found, scores = ExactIndex.build(one_hot(places), ids=ids).search(queries, k)
    for query, row, values in zip(queries, found.tolist(), scores.tolist()):
        truth = sorted(zip((-query[places]).tolist(), ids.tolist()))[:k]
        assert row == [number for _, number in truth] and values == [-value for value, _ in truth]


@pytest.mark.parametrize("k", [1, 3, 60])
@pytest.mark.parametrize("order", ["random", "worst first", "best first", "few values"])
def test_the_best_of_blocks_are_the_best_of_all(k, order):
    """Against a sort of all: blocks narrower than k and wider, scores that all pass the bound and that none does."""
    rng = np.random.default_rng(k)
    scores = rng.integers(-3, 3, [5, 9000]).astype(np.float32) if order == "few values" else \
        rng.normal(size=[5, 9000]).astype(np.float32)
    if "first" in order:
        scores = np.sort(scores)[:, :: 1 if order == "worst first" else -1]
    ids, best, start = rng.permutation(100_000)[:9000], Best(5, k), 0
    for width in (1, 50, 1949, 3000, 4000):
        best.offer(np.ascontiguousarray(scores[:, start : start + width]), ids[start : start + width])
        start += width
    for row, found, values in zip(scores, *best.result()):
        truth = np.lexsort((ids, -row))[:k]
        assert found.tolist() == ids[truth].tolist() and values.tolist() == row[truth].tolist()


def test_a_query_that_is_no_number_spoils_no_other():
    index, queries = ExactIndex.build(unit(3000)), unit(3, seed=1)
    wanted = index.search(queries, 20)[0]
    queries[1] = np.nan
    found = index.search(queries, 20)[0]
    assert found.shape == (3, 20) and found[[0, 2]].tolist() == wanted[[0, 2]].tolist()


def test_ties_across_blocks_and_after_removals(monkeypatch):
    monkeypatch.setattr(selection, "CELLS", 65_536)
    total = 65_536 + 500
    index = ExactIndex.build(one_hot(np.ones(total, int)))
    index.remove(np.arange(0, 400))  # the last rows take the places of the first ones
    assert index.search(one_hot([1]), 600)[0][0].tolist() == list(range(400, 1000))
    places = np.zeros(total, int)
    places[[65_535, 65_536, 65_543]] = 1
    found, scores = ExactIndex.build(one_hot(places)).search(one_hot([1]), 5)
    assert found[0].tolist() == [65_535, 65_536, 65_543, 0, 1] and scores[0].tolist() == [1, 1, 1, 0, 0]


def test_many_rows_of_ties_cost_no_sort_of_them_all(monkeypatch):
    """All scores equal in all rows: the work stays that of a selection, whose sorts are no longer than k."""
    sorted_lengths = []
    lexsort = np.lexsort
    monkeypatch.setattr(np, "lexsort", lambda keys: sorted_lengths.append(np.shape(keys[0])[-1]) or lexsort(keys))
    ids, scores = best_of(np.zeros([64, 20_000], np.float32), np.arange(20_000)[::-1], 10)
    assert ids.tolist() == [list(range(10))] * 64 and sorted_lengths == [10]


class Backwards(ExactIndex):
    """An engine of this test's own: exact search that forgets its best text."""

    kind = "backwards"

    def _search(self, queries, k):
        ids, scores = super()._search(queries, min(k + 1, len(self)))
        return ids[:, -k:], scores[:, -k:]


def test_an_engine_joins_by_its_name(monkeypatch, tmp_path):
    monkeypatch.setitem(ENGINES, "backwards", f"{__name__}:Backwards")
    parser = Parser("test")
    flags.add_index(parser)
    assert parser.parse_args(["--index_type", "backwards"]).index_type == "backwards"
    index = build_index(unit(30), IndexSettings("backwards"))
    assert isinstance(index, Backwards) and isinstance(index, VectorIndex)
    wanted, _ = ExactIndex.build(unit(30)).search(unit(2, seed=1), 6)
    assert index.search(unit(2, seed=1), 5)[0].tolist() == wanted[:, 1:].tolist()
    texts = Corpus.from_texts([f"t{i}" for i in range(30)])
    TextIndex(index, texts).save(str(tmp_path / "index"))
    again = TextIndex.load(str(tmp_path / "index"))
    assert isinstance(again.index, Backwards)
    assert again.index.search(unit(2, seed=1), 5)[0].tolist() == wanted[:, 1:].tolist()


def test_which_engine_is_chosen(monkeypatch):
    monkeypatch.setattr(index_module, "EXACT_UP_TO", 10)
    monkeypatch.setattr(index_module, "EXACT_UP_TO_QUERIES", 5)
    auto = IndexSettings()
    assert [choose(auto, n) for n in (10, 11)] == ["exact", "hnsw"]
    assert [choose(auto, 99, queries) for queries in (5, 6, None)] == ["exact", "hnsw", "hnsw"]
    assert [choose(auto, n, anew=True) for n in (10, 11, 200_000, 200_001)] == ["exact", "int8", "int8", "hnsw"]
    assert choose(IndexSettings(ef=9), 11, anew=True) == "hnsw"
    assert choose(IndexSettings("exact"), 99) == "exact" and choose(IndexSettings(ef=9), 1) == "hnsw"
    with pytest.raises(UserError, match="index type foo: unknown; known are exact, hnsw, int8, hnsw_int8, milvus"):
        engine("foo")
