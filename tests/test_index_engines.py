"""Every engine of the vector index against a plain dictionary of vectors: additions, removals, saving and loading."""

import json
import os
import tempfile
from itertools import count

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from semindex.errors import UserError
from semindex.search.exact import ExactIndex
from semindex.search.hnsw import HnswIndex
from semindex.search.index import IndexSettings, build_index, engine

WIDTH = 8
EVERY = pytest.mark.parametrize("kind", ["exact", "hnsw", "int8", "hnsw_int8"])


def unit(rows, width=WIDTH, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def reloaded(index, directory):
    """The index after a save and a load, with what index.json hands from one to the other."""
    os.makedirs(directory)
    names = index.save(directory)
    assert sorted(os.listdir(directory)) == sorted(names)
    meta = {"dimension": index.dimension, "count": len(index), "parameters": index.parameters()}
    return type(index).load(directory, json.loads(json.dumps(meta)))


class Engines(RuleBasedStateMachine):
    """The same operations on every engine and on a dictionary, which says what they must hold and find."""

    def settings_of(self):
        # A narrow graph: parts that do not reach one another are what k must be met in spite of.
        return {kind: IndexSettings(kind, m=2, ef=1, ef_construction=2, threads=1) if "hnsw" in kind else IndexSettings(kind)
                for kind in ("exact", "hnsw", "int8", "hnsw_int8")}

    @initialize(built=st.booleans(), rows=st.integers(0, 12), seed=st.integers(0, 99))
    def start(self, built, rows, seed):
        self.held, self.gone, self.seeds, self.saves = {}, set(), count(1000 * seed), count()
        self.folder = tempfile.TemporaryDirectory()
        vectors = unit(rows, seed=next(self.seeds))
        make = self.settings_of()
        if built:
            self.engines = {kind: engine(kind).build(vectors, some) for kind, some in make.items()}
            self.held.update(enumerate(vectors))
        else:
            self.engines = {kind: engine(kind)(WIDTH, some) for kind, some in make.items()}

    def put(self, vectors, ids):
        for index in self.engines.values():
            given = index.add(vectors, ids)
            wanted = ids if ids is not None else [max(self.held, default=-1) + 1 + i for i in range(len(vectors))]
            assert given.dtype == np.int64 and given.tolist() == list(wanted)
        self.held.update(zip(given.tolist(), vectors))
        self.gone -= set(given.tolist())

    @rule(rows=st.integers(0, 40))
    def add(self, rows):
        self.put(unit(rows, seed=next(self.seeds)), None)

    @rule(ids=st.sets(st.integers(0, 200), max_size=8), last=st.booleans())
    def add_with_ids(self, ids, last):
        ids = sorted(ids - set(self.held), reverse=last)
        self.put(unit(len(ids), seed=next(self.seeds)), ids)

    @rule(draw=st.data())
    def add_again_what_was_removed(self, draw):
        if self.gone:
            ids = sorted(draw.draw(st.sets(st.sampled_from(sorted(self.gone)), min_size=1)))
            self.put(unit(len(ids), seed=next(self.seeds)), ids)

    @rule(draw=st.data(), twice=st.booleans())
    def remove(self, draw, twice):
        if self.held:
            ids = sorted(draw.draw(st.sets(st.sampled_from(sorted(self.held)), min_size=1)))
            for index in self.engines.values():
                index.remove(ids * 2 if twice else ids)
            for number in ids:
                del self.held[number]
            self.gone.update(ids)

    @rule()
    def remove_all(self):
        for index in self.engines.values():
            index.remove(list(self.held))
        self.gone.update(self.held)
        self.held.clear()

    @rule()
    def save_and_load(self):
        for kind, index in self.engines.items():
            self.engines[kind] = reloaded(index, os.path.join(self.folder.name, str(next(self.saves))))

    @rule(ids=st.lists(st.integers(0, 250), min_size=1, max_size=3))
    def what_is_refused_changes_nothing(self, ids):
        for index in self.engines.values():
            if not set(ids) <= set(self.held):
                with pytest.raises(UserError, match="is not in the index"):
                    index.remove(ids)
            if set(ids) & set(self.held) and len(set(ids)) == len(ids):
                with pytest.raises(UserError, match="is in the index already"):
                    index.add(unit(len(ids)), ids)

    @invariant()
    def all_hold_what_the_dictionary_holds(self):
        if not hasattr(self, "held"):
            return
        ids = sorted(self.held)
        for index in self.engines.values():
            assert index.ids.tolist() == ids and index.ids.dtype == np.int64 and len(index) == len(ids)
            found = index.vectors_of(np.array(ids[::-1], np.int64))
            assert found.shape == (len(ids), WIDTH) and found.dtype == np.float32
            if ids:
                np.testing.assert_array_equal(found, [self.held[number] for number in ids[::-1]])

    @rule(k=st.integers(0, 60), queries=st.integers(0, 3))
    def search(self, k, queries):
        asked = unit(queries, seed=next(self.seeds))
        for kind, index in self.engines.items():
            found, scores = index.search(asked, k)
            assert found.shape == scores.shape == (queries, min(k, len(self.held)))
            assert found.dtype == np.int64 and scores.dtype == np.float32
            for query, row, values in zip(asked, found.tolist(), scores):
                assert len(set(row)) == len(row) and set(row) <= set(self.held)  # nothing removed, nothing twice
                if not row:
                    continue
                np.testing.assert_allclose(values, [query @ self.held[number] for number in row], atol=1e-5)
                assert (np.diff(values) <= 0).all()
                if kind == "exact":
                    best = np.sort([query @ vector for vector in self.held.values()])[::-1][: len(row)]
                    np.testing.assert_allclose(values, best, atol=1e-5)

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestEngines = pytest.mark.slow(Engines.TestCase)
TestEngines.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@EVERY
def test_an_engine_finds_the_nearest_after_many_changes(kind):
    """hnsw is approximate: at a fair size and with its defaults it still finds nearly all that exact search does."""
    rng, index, held = np.random.default_rng(0), engine(kind)(16, IndexSettings(kind, threads=1)), {}
    for turn in range(20):
        vectors = unit(60, 16, seed=turn)
        held.update(zip(index.add(vectors).tolist(), vectors))
        for number in rng.choice(sorted(held), 25, replace=False).tolist():
            index.remove([number])
            if turn % 2:
                held[number] = unit(1, 16, seed=1000 + number)[0]
                index.add(held[number][None], [number])
            else:
                del held[number]
    names, vectors, queries = np.array(list(held)), np.stack(list(held.values())), unit(40, 16, seed=99)
    truth = names[np.argsort(-(queries @ vectors.T), axis=1)[:, :10]]
    found, _ = index.search(queries, 10)
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, truth)]) > 0.97


def test_an_id_that_comes_back_costs_no_new_graph(monkeypatch):
    index = HnswIndex.build(unit(200))
    monkeypatch.setattr(HnswIndex, "_rebuild", lambda self: pytest.fail("the whole graph was built anew"))
    for number in range(60):
        index.remove([number])
        index.add(unit(1, seed=number + 7), [number])
    assert len(index) == 200
    assert (index.search(unit(1, seed=7 + 59), 1)[0] == 59).all()


def test_a_graph_of_mostly_removed_nodes_is_built_anew():
    index = HnswIndex.build(unit(300))
    index.remove(np.arange(0, 300, 2))
    assert index.graph.get_current_count() == 300
    index.remove([1])
    assert index.graph.get_current_count() == len(index) == 149
    assert set(index.search(unit(1), 149)[0][0].tolist()) == set(range(3, 300, 2))


def test_the_builders_own_vectors_are_left_alone():
    vectors, ids = unit(20), np.arange(20) * 2
    before = vectors.copy()
    index = ExactIndex.build(vectors, ids=ids)
    assert index.rows is vectors  # not copied before something changes
    index.remove([0, 6])
    index.add(unit(3, seed=1), [1, 3, 5])
    np.testing.assert_array_equal(vectors, before)
    assert ids.tolist() == list(range(0, 40, 2))


@EVERY
def test_a_loaded_index_takes_more_than_it_was_saved_with(kind, tmp_path):
    index = reloaded(build_index(unit(5), IndexSettings(kind)), str(tmp_path / "a"))
    index.add(unit(500, seed=1))
    index.remove(range(3))
    index = reloaded(index, str(tmp_path / "b"))
    assert index.ids.tolist() == list(range(3, 505))
    found, _ = index.search(unit(500, seed=1)[:20], 1)
    assert found[:, 0].tolist() == list(range(5, 25))
    assert index.add(unit(1)).tolist() == [505]


@EVERY
@pytest.mark.parametrize(("vectors", "ids", "message"), [
    (unit(2), [1, 1], "the id 1 stands twice"),
    (unit(2), [7, 3], "the id 3 is in the index already; remove it first"),
    (unit(2), [-1, 9], "the id -1 is negative"),
    (unit(2), [9], r"2 vectors need as many ids, not \[1\]"),
    (unit(2), [[8, 9]], r"2 vectors need as many ids, not \[1, 2\]"),
    (unit(2), [8.0, 9.5], "ids of type float64: ids are whole numbers"),
    (unit(1), ["8"], "ids of type .U1: ids are whole numbers"),
    (unit(1), np.array([2**63], np.uint64), "ids of type uint64: ids are whole numbers"),
    (unit(2, 4), None, r"vectors of shape \[2, 4\] for an index of width 8"),
    (unit(2)[0], None, r"vectors of shape \[8\] for an index of width 8"),
    (np.full([1, WIDTH], np.nan, np.float32), None, "a vector is not finite"),
    (np.full([1, WIDTH], np.inf, np.float32), [20], "a vector is not finite"),
])
def test_what_cannot_be_added_is_named_and_nothing_changes(kind, vectors, ids, message):
    index = build_index(unit(5), IndexSettings(kind))
    with pytest.raises(UserError, match=message):
        index.add(vectors, ids)
    assert index.ids.tolist() == list(range(5))
    assert index.search(unit(1), 9)[0].shape == (1, 5)


@EVERY
def test_what_cannot_be_removed_is_named_and_nothing_changes(kind):
    index = build_index(unit(5), IndexSettings(kind))
    for ids, message in (([1, 5], "the id 5 is not in the index"), ([-1], "the id -1"), ([0.5], "type float64")):
        with pytest.raises(UserError, match=message):
            index.remove(ids)
    index.remove([])
    assert index.ids.tolist() == list(range(5))
    index.remove([3])
    with pytest.raises(UserError, match="the id 3 is not in the index"):
        index.remove([2, 3])
    assert index.ids.tolist() == [0, 1, 2, 4]


@EVERY
def test_the_same_is_asked_of_what_an_index_is_built_from(kind):
    for vectors, ids, message in ((unit(2), [4, 4], "stands twice"), (unit(2), [1], "as many ids"),
                                  (np.full([2, 4], np.nan, np.float32), None, "not finite")):
        with pytest.raises(UserError, match=message):
            engine(kind).build(vectors, ids=ids)
    assert engine(kind).build(unit(3), ids=[9, 2, 5]).ids.tolist() == [2, 5, 9]
    assert engine(kind).build(unit(3), ids=[9, 2, 5]).search(unit(3), 1)[0].tolist() == [[9], [2], [5]]


@EVERY
def test_an_empty_index_finds_nothing_and_comes_back(kind, tmp_path):
    index = reloaded(engine(kind)(WIDTH), str(tmp_path / "a"))
    assert index.search(unit(2), 5)[0].shape == (2, 0) and index.vectors_of(index.ids).shape == (0, WIDTH)
    assert index.add(unit(2)).tolist() == [0, 1]


@EVERY
@pytest.mark.parametrize("ids", [np.arange(3.0), np.arange(6).reshape(2, 3), np.arange(4)])
def test_ids_that_do_not_fit_their_vectors_are_refused(kind, ids, tmp_path):
    index = engine(kind).build(unit(3), ids=[4, 5, 6])
    index.save(str(tmp_path))
    np.save(tmp_path / "ids.npy", ids)
    with pytest.raises(UserError, match="build the index again"):
        type(index).load(str(tmp_path), {"dimension": WIDTH, "count": 3, "parameters": index.parameters()})


# One-hot vectors: their products are 0 and 1 on any processor, whatever the order of the sum.
