import json
import os

import numpy as np
import pytest

from ann_util import EXACT_UP_TO, ExactIndex, IndexSettings, TextIndex, build_index, recall_of_index
from semindex.errors import UserError
from semindex.text.corpus import Corpus

KINDS = ["exact", "hnsw", "int8", "hnsw_int8"]
EVERY = pytest.mark.parametrize("kind", KINDS)


def unit(rows, width=16, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@EVERY
def test_both_kinds_find_what_a_matrix_product_finds(kind):
    vectors, queries = unit(500), unit(40, seed=1)
    ids, scores = build_index(vectors, IndexSettings(kind)).search(queries, 10)
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    found = np.mean([np.isin(*rows).mean() for rows in zip(truth, ids, strict=True)])
    assert found >= (1 if kind in ("exact", "int8") else 0.97) and ids.dtype == np.int64  # a graph built by threads varies
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ vectors.T, ids, 1), atol=1e-6)
    assert (np.diff(scores, axis=1) <= 1e-7).all()


@pytest.mark.slow
def test_exact_search_goes_through_blocks(monkeypatch):
    vectors, queries = unit(70_000, 4), unit(300, 4, seed=1)
    ids, scores = ExactIndex.build(vectors).search(queries, 5)
    np.testing.assert_allclose(scores, -np.sort(-(queries @ vectors.T), axis=1)[:, :5], atol=1e-6)


def test_equal_scores_come_in_order_of_id():
    vectors = np.repeat(unit(1), 30, axis=0)
    ids, _ = ExactIndex.build(vectors).search(vectors[:2], 30)
    assert ids.tolist() == [list(range(30))] * 2


@EVERY
@pytest.mark.parametrize("count", [1, 2, 30])
def test_more_asked_for_than_there_is(kind, count):
    ids, scores = build_index(unit(count), IndexSettings(kind)).search(unit(3, seed=1), 50)
    assert ids.shape == scores.shape == (3, count)
    assert all(sorted(row) == list(range(count)) for row in ids.tolist())


def test_identical_vectors_are_all_found():
    vectors = np.repeat(unit(1), 2000, axis=0)
    ids, _ = build_index(vectors, IndexSettings("hnsw", m=4, ef=10, ef_construction=10)).search(vectors[:3], 500)
    assert all(len(set(row)) == 500 for row in ids.tolist())


def test_unreachable_texts_are_found_by_the_exact_fallback():
    index = build_index(unit(200), IndexSettings("hnsw"))
    for label in range(0, 200, 2):
        index.graph.mark_deleted(label)  # hnswlib then reaches 100 texts, the index counts 200
    with pytest.raises(RuntimeError, match="contiguous"):
        index.graph.knn_query(unit(1), k=150)
    for label in range(0, 200, 2):
        index.graph.unmark_deleted(label)
    failing = index.graph

    class Broken:
        """hnswlib's graph, whose parts do not reach one another."""

        def __getattr__(self, name):
            return getattr(failing, name)

        def knn_query(self, *_, **__):
            raise RuntimeError("Cannot return the results in a contiguous 2D array. Probably ef or M is too small")

    index.graph = Broken()
    queries = unit(5, seed=1)
    ids, scores = index.search(queries, 20)
    truth, best = ExactIndex.build(unit(200)).search(queries, 20)
    assert (ids == truth).all()
    np.testing.assert_allclose(scores, best, atol=1e-6)


def test_auto_is_exact_for_small_corpora_and_flags_are_honoured():
    assert build_index(unit(50), IndexSettings()).kind == "exact"
    assert build_index(np.zeros([EXACT_UP_TO + 1, 2], np.float32) + 1, IndexSettings(m=2, ef_construction=2)).kind == "hnsw"
    index = build_index(unit(50), IndexSettings("hnsw", m=7, ef=33, ef_construction=55))
    index.search(unit(1), 5)
    assert (index.graph.M, index.graph.ef_construction, index.graph.ef) == (7, 55, 33)


def test_capacity_grows_with_the_corpus():
    assert len(build_index(unit(100), IndexSettings("hnsw", capacity=10))) == 100


def test_one_thread_builds_the_same_graph(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        assert build_index(unit(800), IndexSettings("hnsw", threads=1)).save(str(tmp_path / name)) == ["index.bin"]
    assert (tmp_path / "a" / "index.bin").read_bytes() == (tmp_path / "b" / "index.bin").read_bytes()


def test_recall_of_index():
    vectors = unit(300)
    index = build_index(vectors, IndexSettings("hnsw"))
    assert recall_of_index(index, unit(20, seed=1), 10) > 0.95
    np.testing.assert_array_equal(index.exact().rows, vectors)
    assert recall_of_index(index.exact(), unit(20, seed=1), 10) == 1
    poor = build_index(unit(3000), IndexSettings("hnsw", m=4, ef=10, ef_construction=10))  # thin, yet no graph in pieces
    assert recall_of_index(poor, unit(20, seed=1), 10) < 0.9


@EVERY
def test_queries_of_another_width_are_refused(kind):
    with pytest.raises(UserError, match="width 16"):
        build_index(unit(50), IndexSettings(kind)).search(unit(2, 8), 3)


TEXTS = ["丙", "甲", "乙", "甲", "丙", "丁"]


@pytest.fixture(params=KINDS)
def saved(request, tmp_path):
    corpus = Corpus.from_texts(TEXTS)
    directory = str(tmp_path / "index")
    TextIndex(build_index(unit(len(corpus)), IndexSettings(request.param)), corpus, "encoder", "corpus.csv").save(directory)
    return directory


def test_a_saved_index_comes_back_with_its_texts(saved):
    index = TextIndex.load(saved)
    assert index.corpus.slice(0, 4) == ["丙", "甲", "乙", "丁"]
    assert [np.flatnonzero(index.corpus.inverse == i).tolist() for i in range(4)] == [[0, 4], [1, 3], [2], [5]]
    ids, scores = index.index.search(unit(4), 2)
    assert ids[:, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-6)
    assert index.encoder == "encoder" and index.source == "corpus.csv"


def test_saving_again_replaces_the_old_index(saved):
    corpus = Corpus.from_texts(["x", "y"])
    TextIndex(build_index(unit(2), IndexSettings()), corpus).save(saved)
    assert len(TextIndex.load(saved).corpus) == 2
    assert os.listdir(os.path.dirname(saved)) == ["index"]


def test_any_altered_byte_is_noticed_before_the_library_reads(saved):
    for name in sorted(os.listdir(saved)):
        path = os.path.join(saved, name)
        with open(path, "rb") as file:
            content = file.read()
        for changed in (content[:-1], content + b"\0", bytes([content[0] ^ 1]) + content[1:], b""):
            with open(path, "wb") as file:
                file.write(changed)
            with pytest.raises(UserError, match="changed since|seal|damaged"):
                TextIndex.load(saved)
        os.unlink(path)
        with pytest.raises(UserError, match="missing"):
            TextIndex.load(saved)
        with open(path, "wb") as file:
            file.write(content)
    assert TextIndex.load(saved)


@pytest.mark.parametrize("change", [
    lambda meta: meta.pop("count"), lambda meta: meta.update(kind="flat"), lambda meta: meta.update(format=99),
    lambda meta: meta.update(space="l2"), lambda meta: meta.update(count=3),
    lambda meta: meta.update(dimension=8), lambda meta: meta.pop("encoder"),
])
def test_altered_metadata_is_refused(saved, change):
    path = os.path.join(saved, "index.json")
    with open(path) as file:
        meta = json.load(file)
    change(meta)
    with open(path, "w") as file:
        json.dump(meta, file)
    with pytest.raises(UserError):
        TextIndex.load(saved)


def test_no_index_and_no_json(tmp_path, saved):
    with pytest.raises(UserError, match="no index"):
        TextIndex.load(str(tmp_path))
    with open(os.path.join(saved, "index.json"), "w") as file:
        file.write('{"format": 1')
    with pytest.raises(UserError, match="index.json: changed since"):
        TextIndex.load(saved)


def test_a_directory_that_is_no_index_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    index = TextIndex(build_index(unit(3), IndexSettings()), Corpus.from_texts(["a", "b", "c"]))
    with pytest.raises(UserError, match="is there, but is no index"):
        index.save(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_saving_through_a_link_and_over_an_older_index(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for texts in (["a", "b", "c"], ["d", "e"]):
        TextIndex(build_index(unit(len(texts)), IndexSettings()), Corpus.from_texts(texts)).save(str(tmp_path / "link"))
        assert TextIndex.load(str(tmp_path / "link")).corpus.slice(0, 9) == texts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
