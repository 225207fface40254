"""Fusion of rankings: the formulas by hand, and what holds for any rankings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semindex.search.fusion import KINDS, Fusion, Ranking, fuse
from semindex.text.same_text import SameTexts, plain


def ranking(*rows):
    """A ranking of rows of (id, score)."""
    width = max(map(len, rows))
    full = [[*row, *[(-1, 0.0)] * (width - len(row))] for row in rows]
    return Ranking(np.array([[i for i, _ in row] for row in full]), np.array([[s for _, s in row] for row in full], np.float32))


def test_reciprocal_ranks_by_hand():
    dense, keyword = ranking([(4, 0.9), (7, 0.8), (2, 0.5)]), ranking([(7, 11.0), (9, 3.0)])
    found = fuse([dense, keyword], Fusion("rrf", 60, (1, 2)), 10)
    assert found.ids.tolist() == [[7, 9, 4, 2]]
    assert found.scores[0] == pytest.approx([1 / 62 + 2 / 61, 2 / 62, 1 / 61, 1 / 63])
    assert found.ranks[0].tolist() == [[2, 1], [0, 2], [1, 0], [3, 0]]
    assert found.parts[0][0] == pytest.approx([0.8, 11.0])
    assert np.isnan(found.parts[0][1][0])


def test_weighted_sums_by_hand():
    dense, keyword = ranking([(4, 0.9), (7, 0.8), (2, 0.5)]), ranking([(7, 11.0), (9, 3.0)])
    found = fuse([dense, keyword], Fusion("minmax", weights=(1, 0.5)), 3)
    assert found.ids.tolist() == [[7, 4, 2]]  # 2 and 9 both have 0: by id
    assert found.scores[0] == pytest.approx([0.75 + 0.5, 1.0, 0.0], abs=1e-6)
    found = fuse([dense, keyword], Fusion("zscore", weights=(1, 0.5)), 2)
    deviation = np.std([0.9, 0.8, 0.5])
    assert found.ids.tolist() == [[4, 7]] if 0.4 / deviation > 0.3 / deviation + 1 else [[7, 4]]
    assert found.scores[0] == pytest.approx(sorted([0.4 / deviation, 0.3 / deviation + 0.5 * 2], reverse=True), rel=1e-5)


def test_equal_scores_are_each_the_best_and_nothing_found_adds_nothing():
    for kind in KINDS:
        found = fuse([ranking([(1, 0.5), (3, 0.5)]), ranking([])], Fusion(kind), 5)
        assert found.ids.tolist() == [[1, 3]]
    assert fuse([ranking([]), ranking([])], Fusion(), 5).ids.tolist() == [[-1]]


@pytest.mark.parametrize("kind", ["rrf", "minmax", "zscore"])
def test_a_source_of_weight_0_brings_no_text_in_but_explains(kind):
    dense = Ranking(np.array([[7, 3, 9], [5, 3, 4]]), np.array([[0.9, 0.8, 0.1], [0.5, 0.4, 0.3]]))
    words = Ranking(np.array([[3, 8], [-1, -1]]), np.array([[4.0, 1.0], [0.0, 0.0]]))
    found = fuse([dense, words], Fusion(kind, 60, (0.0, 1.0)), 3)
    assert found.ids.tolist() == [[3, 8], [-1, -1]]
    assert found.ranks[0].tolist() == [[2, 1], [0, 2]]
    kept = fuse([dense, words], Fusion(kind, 60, (0.0, 1.0)), 3, np.array([-1, 4]))
    assert kept.ids.tolist() == [[3, 8], [4, -1]]  # what reads as the query does is never lost
    assert fuse([dense, words], Fusion(kind, 60, (1.0, 0.0)), 3).ids.tolist() == dense.ids.tolist()


def test_what_is_no_fusion_is_refused():
    for wrong in ({"kind": "sum"}, {"weights": (0, 0)}, {"weights": (1, -1)}, {"k": -1}):
        with pytest.raises(ValueError, match="no fusion"):
            Fusion(**wrong)
    with pytest.raises(ValueError, match="2 weights for 1"):
        fuse([ranking([(1, 1.0)])], Fusion(), 1)


def rankings(queries):
    row = st.lists(st.integers(0, 30), max_size=12, unique=True)
    scores = st.lists(st.floats(-1, 40, width=32), min_size=12, max_size=12)
    one = st.tuples(row, scores).map(lambda pair: list(zip(pair[0], sorted(pair[1], reverse=True))))
    return st.lists(one, min_size=queries, max_size=queries).map(lambda rows: ranking(*rows))


fusions = st.builds(Fusion, st.sampled_from(KINDS), st.sampled_from([0, 1, 60]),
                    st.tuples(st.floats(0, 5), st.floats(0.01, 5)))


@pytest.mark.slow
@given(rankings(3), rankings(3), fusions, st.integers(1, 30), st.lists(st.integers(-1, 40), min_size=3, max_size=3))
def test_an_exact_match_is_never_lost(one, two, fusion, k, exact):
    found = fuse([one, two], fusion, k, np.array(exact))
    assert (np.diff(found.scores, axis=1)[found.ids[:, 1:] >= 0] <= 1e-12).all()
    for row, match in enumerate(exact):
        if match >= 0:
            assert found.ids[row, 0] == match
        there = found.ids[row][found.ids[row] >= 0].tolist()
        every = {text for source, weight in zip((one, two), fusion.weights) if weight for text in source.ids[row].tolist()}
        every = (every | {match}) - {-1}
        assert len(set(there)) == len(there) == min(k, len(every))
        for place, text in enumerate(there):
            for source, (own, rank) in enumerate(zip((one, two), found.ranks[row, place])):
                listed = own.ids[row].tolist()
                assert rank == (listed.index(text) + 1 if text in listed else 0)
                if rank:
                    assert found.parts[row, place, source] == own.scores[row, rank - 1]


@pytest.mark.slow
@given(rankings(2), fusions)
def test_a_ranking_fused_with_itself_keeps_its_order(one, fusion):
    found = fuse([one, one], fusion, 12)
    for row in range(2):
        own = [(text, score) for text, score in zip(one.ids[row], one.scores[row]) if text >= 0]
        if fusion.kind == "rrf":
            assert found.ids[row][: len(own)].tolist() == [text for text, _ in own]
        else:  # equal scores go by id, and sums of nearly equal ones may round to equal
            kept = dict(own)
            scores = np.array([kept[text] for text in found.ids[row][: len(own)]])
            assert (np.diff(scores) <= 1e-5 * (1 + np.abs(scores).max(initial=0))).all()


def test_texts_that_read_the_same():
    assert plain(["怎么 办？", "ＡＢＣ-12!", "…", ""]) == ["怎么办", "abc12", "", ""]
    texts = SameTexts(["卡丢了怎么办?", "ETC 怎么办理", "？？", "卡丢了怎么办"], block=2)
    assert texts.find(["卡丢了，怎么办", "etc怎么办理？", "卡", "!!", ""]).tolist() == [0, 1, -1, -1, -1]
    assert SameTexts([]).find(["卡"]).tolist() == [-1]
    assert SameTexts(["卡"]).find([]).tolist() == []


def test_what_is_closest_is_taken_and_signs_with_a_meaning_are_no_punctuation():
    assert len(set(plain(["C怎么装", "C++怎么装", "C#怎么装", "ｃ＃ 怎么装？"]))) == 3
    assert len(set(plain(["कल", "काल"]))) == 2  # vowel signs are marks, no letters
    assert plain(["好吗～", "怎么办😭❤️！"]) == ["好吗", "怎么办"]
    texts = SameTexts(["满1.5折吗", "满15折吗", "满15 折吗"])
    assert texts.find(["满1.5 折吗？", "满15折吗", "满１５折吗", "满15 折吗", "满1，5折吗"]).tolist() == [0, 1, 1, 2, 0]
