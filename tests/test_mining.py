import numpy as np
import pytest

from semindex.collection.ranking import documents_of
from semindex.errors import UserError
from training.negatives.mining import Known, MiningRules, mine, report

RANKED = np.array([[0, 1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1, 0]])
SCORES = np.array([np.linspace(0.9, 0.2, 8), np.linspace(-0.2, -0.9, 8)], np.float32)
PAIRS = np.array([[0, 1], [1, 6], [0, 3]])
DIFFERENT = np.arange(10)  # 8 documents, 2 queries, all texts different


def search(queries):
    return RANKED[queries], SCORES[queries]


def score_of(pairs):
    place = np.argmax(RANKED[pairs[:, 0]] == pairs[:, 1:], axis=1)
    return SCORES[pairs[:, 0], place]


def mined(groups=DIFFERENT, fill=False, make=Known, **rules):
    return mine(PAIRS, search, make(PAIRS, groups, 8), MiningRules(**{"negatives": 3, "sampling": "top"} | rules),
                score_of, fill)


def test_every_known_positive_is_left_out():
    found = mined()
    assert found.documents.tolist() == [[0, 2, 4], [7, 5, 4], [0, 2, 4]]
    assert found.counts["known positives"] == 5 and found.counts["negatives"] == 9
    assert found.counts["ranked"] == 3 * 8  # of each pair
    np.testing.assert_allclose(found.scores[0], [0.9, 0.7, 0.5], atol=1e-6)


def test_texts_equal_to_a_positive_or_the_query_are_left_out():
    groups = DIFFERENT.copy()
    groups[4], groups[0] = groups[3], groups[8]  # document 4 is document 3 again, document 0 is query 0's text
    found = mined(groups)
    assert found.documents[0].tolist() == [2, 5, 6] and found.documents[1].tolist() == [7, 5, 4]
    assert found.counts["equal texts"] == 2 * 2  # of both pairs of the query


def test_texts_that_pairs_connect_are_left_out_where_wanted():
    groups = DIFFERENT.copy()
    groups[9] = groups[3]  # query 1 is document 3, a positive of query 0: what answers query 1 answers query 0
    assert 6 in mined(groups, negatives=7).documents[0]
    assert 6 not in mined(groups, negatives=7, make=Known.connected).documents[0]


def test_ranks():
    assert mined(rank_min=3, rank_max=6).documents.tolist() == [[4, 5, -1], [4, 3, 2], [4, 5, -1]]
    assert mined(rank_min=3, rank_max=6).counts["pairs with fewer"] == 2


@pytest.mark.parametrize("rules, allowed", [
    ({"margin": 0.35}, [[5, 6, 7], [2, 1, 0], [7]]),
    ({"relative_margin": 0.45}, [[5, 6, 7], [4, 3, 2, 1, 0], [6, 7]]),
    ({"margin": 0.35, "relative_margin": 0.45}, [[5, 6, 7], [2, 1, 0], [7]]),
])
def test_margins_hold_for_negative_scores_too(rules, allowed):
    """Scores of positives are 0.8, -0.3, 0.6; 0.45 of them below: a product with 0.55 would lie above -0.3."""
    found = mined(negatives=8, **rules)
    assert [row[row >= 0].tolist() for row in found.documents] == allowed
    limits = [[0.8 - 0.35, -0.3 - 0.35, 0.6 - 0.35], [0.44, -0.435, 0.33]]
    for row, scores in enumerate(found.scores):
        if "margin" in rules:
            assert np.nanmax(scores) <= limits[0][row] + 1e-6
        if "relative_margin" in rules:
            assert np.nanmax(scores) <= limits[1][row] + 1e-6


def test_what_is_dropped_is_told():
    rows = []
    mine(PAIRS, search, Known(PAIRS, DIFFERENT, 8), MiningRules(3, margin=0.35), score_of,
         dropped=lambda reason, pairs, documents, scores: rows.extend(
             (reason, *row) for row in zip(pairs.tolist(), documents.tolist())))
    assert ("within the margin", 0, 2) in rows and ("within the margin", 0, 1) not in rows and len(rows) == 12
    text = report(mined(margin=0.35).counts)
    assert "12 within the margin" in text and "5 known positives" in text


def test_random_ones_are_of_the_allowed_and_follow_from_the_seed():
    first, again, other = (mined(sampling="random", negatives=2, seed=seed).documents for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    seen = {int(x) for seed in range(50) for x in mined(sampling="random", negatives=2, seed=seed).documents[0]}
    assert seen == {0, 2, 4, 5, 6, 7}


def test_where_too_few_are_found_some_are_drawn():
    found = mined(rank_max=2, fill=True)
    assert (found.documents >= 0).all() and found.counts["filled at random"] == 6
    assert not {1, 3} & set(found.documents[[0, 2]].reshape(-1).tolist())
    assert all(len(set(row)) == 3 for row in found.documents.tolist())
    with pytest.raises(UserError, match="no negative is left"):
        mined(rank_max=2, margin=5.0)
    with pytest.raises(UserError, match="the collection is too small"):
        mine(np.array([[0, 0], [0, 1]]), lambda q: (np.zeros([1, 1], np.int64), np.zeros([1, 1], np.float32)),
             Known(np.array([[0, 0], [0, 1]]), np.arange(3), 2), MiningRules(1), fill=True)


def test_documents_of_passages_against_a_loop():
    rng = np.random.default_rng(0)
    owner = np.sort(rng.integers(0, 12, 40))
    passages = np.array([rng.permutation(40)[:30] for _ in range(20)])
    scores = -np.sort(-rng.random([20, 30]).astype(np.float32), axis=1)
    documents, values = documents_of(passages, scores, owner, 8)
    for row in range(20):
        best = {}
        for passage, score in zip(passages[row], scores[row]):
            best.setdefault(int(owner[passage]), score)
        expected = list(best.items())[:8]
        assert documents[row, : len(expected)].tolist() == [document for document, _ in expected]
        np.testing.assert_array_equal(values[row, : len(expected)], [score for _, score in expected])
        assert (documents[row, len(expected) :] == -1).all()
