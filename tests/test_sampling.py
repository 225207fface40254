"""Negatives drawn at random: from the whole corpus, or from a query's cluster."""

import numpy as np
import pytest
from conftest import fail, succeed
from hypothesis import given
from hypothesis import strategies as st

from training.negatives.mining import Known, MiningRules, mine
from training.negatives.sampling import Clusters, anywhere, cluster_count, first_only, in_cluster

CENTRES = np.eye(12, dtype=np.float32)[:6]


def near(centres, spread=0.15, seed=1):
    found = CENTRES[centres] + spread * np.random.default_rng(seed).standard_normal([len(centres), 12])
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


OF = np.arange(300) % 6
VECTORS, QUERIES = near(OF), near(np.arange(12) % 6, seed=2)
PAIRS = np.array([[query, query + 6 * turn] for query in range(12) for turn in (1, 2)])  # of the query's own centre


def exact(block, k=50):
    order = np.argsort(-QUERIES[block] @ VECTORS.T, axis=1)[:, :k]
    return order, np.take_along_axis(QUERIES[block] @ VECTORS.T, order, 1)


def mined(search, negatives=4):
    groups = np.arange(312)
    groups[299] = groups[PAIRS[0, 1]]  # a document whose text is a positive's
    return mine(PAIRS, search, Known(PAIRS, groups, 300), MiningRules(negatives, rank_max=50, sampling="top"), fill=True).documents


@pytest.mark.slow
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=5).filter(lambda rows: len(set(map(len, rows))) == 1))
def test_of_what_was_drawn_again_the_first_is_left(rows):
    for row, found in zip(rows, first_only(np.array(rows)).tolist()):
        assert found == [value if value not in row[:place] else -1 for place, value in enumerate(row)]


@pytest.mark.parametrize("around", [None, np.full(3000, 20), np.arange(3000) % 1000])
def test_global_draws_are_different_documents_and_follow_the_seed(around):
    block = np.arange(100, 3000)
    found, scores = anywhere(1000, 30, 7, around)(block)
    assert found.shape == scores.shape == (2900, 30) and found.max() < 1000
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in found) and (found[:, :-1] < 0).sum() <= (found[:, 1:] < 0).sum()
    np.testing.assert_array_equal(anywhere(1000, 30, 7, around)(block)[0], found)
    assert (anywhere(1000, 30, 8, around)(block)[0] != found).any()


def test_uniform_is_uniform_and_normal_lies_round_the_querys_place():
    found = anywhere(600, 1, 0)(np.arange(60_000))[0]
    counts = np.bincount(found[:, 0], minlength=600)
    assert 3 < counts.std() ** 2 / counts.mean() * 6 < 9  # of a Poisson distribution variance and mean are equal
    found = anywhere(600, 1, 0, np.full(60_000, 300))(np.arange(60_000))[0][:, 0]
    assert abs(found.mean() - 300) < 3 and found.std() == pytest.approx(100, rel=0.03)
    clipped = anywhere(600, 1, 0, np.zeros(1000, np.int64))(np.arange(1000))[0]
    assert 0.4 < (clipped == 0).mean() < 0.6 and clipped.min() == 0
    assert sorted(anywhere(5, 9, 0)(np.arange(1))[0][0]) == [0, 1, 2, 3, 4]  # a small corpus is dealt whole


@pytest.mark.slow
def test_clusters_are_found_and_given_again_by_the_seed():
    clusters = Clusters(VECTORS, 6, 0)
    assert len(np.unique(clusters.of[:6])) == 6 and (clusters.of == clusters.of[OF]).all()
    np.testing.assert_array_equal(Clusters(VECTORS, 6, 0).centres, clusters.centres)
    np.testing.assert_array_equal(clusters.nearest(QUERIES), clusters.of[np.arange(12) % 6])
    assert len(Clusters(VECTORS[:3], 9, 0).centres) == 3 and cluster_count(124_239) == 249 and cluster_count(1) == 1
    same = Clusters(np.repeat(VECTORS[:1], 20, 0), 4, 0)  # clusters that stay empty do no harm
    assert np.isfinite(same.centres).all() and len(np.unique(same.of)) == 1


def test_local_negatives_are_nearer_than_global_ones_and_no_positives():
    found = {"global": mined(anywhere(300, 50, 0)), "local": mined(in_cluster(VECTORS, QUERIES, 6, 50, 0, exact))}
    means = {}
    for name, documents in found.items():
        assert documents.min() >= 0 and all(len(set(row)) == 4 for row in documents.tolist())
        for (query, _), row in zip(PAIRS.tolist(), documents.tolist()):
            assert not {document for asked, document in PAIRS.tolist() if asked == query} & set(row)
        assert 299 not in documents[PAIRS[:, 0] == 0]
        means[name] = np.einsum("ij,ikj->ik", QUERIES[PAIRS[:, 0]], VECTORS[documents]).mean()
    assert (OF[found["local"]] == PAIRS[:, :1] % 6).all()
    assert means["local"] > means["global"] + 0.3


def test_a_tiny_cluster_is_filled_with_the_nearest_others():
    vectors = np.concatenate([near([0] * 3), near([1] * 40, seed=4)])
    query = near([0], seed=5)

    def search(block):
        order = np.argsort(-query[block] @ vectors.T, axis=1)
        return order, np.take_along_axis(query[block] @ vectors.T, order, 1)

    found, scores = in_cluster(vectors, query, 2, 8, 0, search)(np.arange(1))
    assert set(found[0, :3]) == {0, 1, 2}
    assert found[0, 3:].tolist() == [place for place in search(np.arange(1))[0][0] if place > 2][:5]
    np.testing.assert_allclose(scores[0], (vectors @ query[0])[found[0]], atol=1e-6)
    few, _ = in_cluster(vectors[:5], query, 1, 8, 0, lambda block: (np.array([[4, 3, 2, 1, 0, -1]]), None))(np.arange(1))
    assert sorted(few[0].tolist()) == [-1, -1, -1, 0, 1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--by", "global"), ("--by", "global", "--distribution", "normal"), ("--by", "local", "--n_clusters", 3)])
def test_the_script_draws_and_never_a_positive(checkpoint, toy, tmp_path, flags):
    out = succeed("mine_negatives.py", "--device", "cpu", *(("--params_path", checkpoint) if "local" in flags else ()), "--train_set_file",
                  toy / "train.csv", "--corpus_file", toy / "corpus.csv", "--output_file", tmp_path / "o.csv", "--negatives", 3, *flags)
    rows = [line.split("\t") for line in (tmp_path / "o.csv").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 24 * 3 and f"{flags[1]}: 24 pairs" in out
    positives = {tuple(line.split("\t")) for line in (toy / "train.csv").read_text(encoding="utf-8").splitlines()}
    assert all((query, negative) not in positives and query != negative for query, _, negative in rows)


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "message"), [
    (["--by", "local"], "--by local needs --params_path"), (["--by", "global", "--margin", "0.1"], "--margin: --by global draws at random"),
    (["--by", "bm25", "--distribution", "normal"], "--distribution goes with --by global"),
    (["--by", "global", "--n_clusters", "3"], "--n_clusters goes with --by local"),
    (["--by", "global", "--rank_min", "3"], "--rank_min: --by global"),
])
def test_flags_that_do_not_belong_together(toy, tmp_path, flags, message):
    assert message in fail("mine_negatives.py", "--train_set_file", toy / "train.csv", "--output_file", tmp_path / "o.csv", *flags)
