"""The keyword index: BM25 as a formula and as bm25s computes it, entries that come and go, the directory it is in."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semindex.errors import UserError
from semindex.search.keyword import KeywordIndex, KeywordSettings
from semindex.search.postings import Postings

WORDS = ["卡", "丢", "了", "怎么", "还款", "信用卡", "额度", "不够", "app", "5g", "Visa", "3", "花呗", "借呗", "利息", "。", " "]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=8).map("".join), min_size=1, max_size=12)


def split(text):
    """Characters and pairs, as the first version of this index made them."""
    units = re.findall(r"[a-z0-9]+|\w", text.lower())
    return units + [a + b for a, b in zip(units, units[1:])]


def some_texts(count, seed, words=WORDS):
    """Texts of 1 to 12 words, the first words more often."""
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, len(words) + 1)
    sizes = rng.integers(1, 13, count)
    drawn = iter(rng.choice(words, sizes.sum(), p=chances / chances.sum()))
    return ["".join(next(drawn) for _ in range(size)) for size in sizes]


def by_formula(texts, query, k1=1.5, b=0.75):
    documents = [split(text) for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = np.zeros(len(documents))
    for term in dict.fromkeys(split(query)):
        df = sum(term in document for document in documents)
        for place, document in enumerate(documents):
            tf = document.count(term)
            norm = k1 * (1 - b + b * len(document) / mean)
            scores[place] += math.log(1 + (len(documents) - df + 0.5) / (df + 0.5)) * tf / (tf + norm) if tf else 0
    return scores


def fresh(entries, how=None):
    index = KeywordIndex(how)
    index.add(list(entries.values()), np.array(list(entries), np.int64))
    return index


def same(one, two, queries, k):
    """Whether two indexes answer alike, to the last bit."""
    for a, b in zip(one.search(queries, k), two.search(queries, k)):
        np.testing.assert_array_equal(a, b)
    assert one.fingerprint() == two.fingerprint() and len(one) == len(two)
    np.testing.assert_array_equal(one.ids, two.ids)


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS, st.sampled_from([(1.5, 0.75), (0.0, 0.5), (2.0, 0.0), (1.2, 1.0)]), st.integers(1, 15))
def test_scores_are_the_formulas(texts, queries, parameters, k):
    index = KeywordIndex(KeywordSettings("bigram", *parameters))
    index.add(texts)
    ids, scores = index.search(queries, k)
    assert ids.shape == scores.shape == (len(queries), min(k, len(texts)))
    for query, found, values in zip(queries, ids, scores):
        wanted = by_formula(texts, query, *parameters) if any(map(split, texts)) else np.zeros(len(texts))
        best = np.sort(wanted)[::-1][: len(values)]
        np.testing.assert_allclose(values, best, rtol=1e-6)
        there = found >= 0
        assert (there == (best > 0)).all() and (there[:-1] >= there[1:]).all()
        np.testing.assert_allclose(wanted[found[there]], values[there], rtol=1e-6)
        ties = values[:-1] == values[1:]
        assert (np.diff(found)[ties & there[1:]] > 0).all()
        np.testing.assert_allclose(index.scores([query] * len(texts), np.arange(len(texts))), wanted, rtol=1e-6)


def test_scores_are_those_of_bm25s():
    bm25s = pytest.importorskip("bm25s")
    texts, queries = some_texts(3000, 1), some_texts(200, 2)
    index = KeywordIndex.build(texts)
    numbers = {}
    documents = [[numbers.setdefault(term, len(numbers)) for term in split(text)] for text in texts]
    other = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    other.index((documents, numbers), show_progress=False)
    wanted = np.array([other.get_scores_from_ids([numbers[t] for t in dict.fromkeys(split(query)) if t in numbers])
                       if set(split(query)) & set(numbers) else np.zeros(len(texts)) for query in queries])
    ids, scores = index.search(queries, 100)
    np.testing.assert_allclose(scores, -np.sort(-wanted, axis=1)[:, :100], rtol=1e-6, atol=1e-6)
    found = np.where(ids >= 0, np.take_along_axis(wanted, np.maximum(ids, 0), 1), 0)
    np.testing.assert_allclose(found, scores, rtol=1e-6, atol=1e-6)


ACTS = st.lists(st.one_of(
    st.tuples(st.just("add"), TEXTS), st.tuples(st.just("remove"), st.integers(1, 20)),
    st.tuples(st.just("search"), st.none()), st.tuples(st.just("save"), st.none())), max_size=12)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(ACTS, st.randoms(use_true_random=False))
def test_any_additions_and_deletions_end_as_a_fresh_index(tmp_path_factory, acts, random):
    index, entries, next_id = KeywordIndex(), {}, 0
    for act, what in acts:
        if act == "add":
            ids = [next_id + 7 * place for place in range(len(what))]
            random.shuffle(ids)
            entries |= dict(zip(ids, what))
            next_id = max(ids) + random.choice([1, 3])
            index.add(what, np.array(ids))
        elif act == "remove" and entries:
            gone = random.sample(sorted(entries), min(what, len(entries)))
            index.remove(np.array(gone))
            for number in gone:
                del entries[number]
                if random.random() < 0.3:  # an id that was removed may come back with another text
                    entries[number] = "".join(random.choices(WORDS, k=3))
                    index.add([entries[number]], np.array([number]))
        elif act == "search":
            index.search(["怎么还款"], 3)
        elif act == "save":
            directory = tmp_path_factory.mktemp("keyword") / "index"
            index.save(directory)
            same(KeywordIndex.load(directory), index, ["信用卡额度"], 3)
            index = KeywordIndex.load(directory)
    same(index, fresh(entries), ["信用卡额度不够怎么还款", "app 5G", "", "没有"], 5)


@pytest.mark.slow
def test_ten_thousand_additions_and_deletions_leave_a_fresh_indexs_scores(tmp_path):
    """In random order, singly and in groups; with parts joined on the way, after a save, and after a load."""
    rng = np.random.default_rng(3)
    chars = [chr(0x4E00 + place) for place in range(800)] + WORDS
    texts, queries = some_texts(9000, 4, chars), some_texts(40, 5, chars)
    entries = dict(enumerate(texts[:4000]))
    index, waiting, changes = fresh(entries), list(range(4000, 9000)), 0
    while changes < 10_000:
        if waiting and (rng.random() < 0.5 or len(entries) < 100):
            some = [waiting.pop(rng.integers(len(waiting))) for _ in range(min(len(waiting), int(rng.integers(1, 40))))]
            index.add([texts[number] for number in some], np.array(some))
            entries |= {number: texts[number] for number in some}
        else:
            some = rng.choice(list(entries), int(rng.integers(1, 40)), replace=False).tolist()
            index.remove(np.array(some))
            for number in some:
                del entries[number]
            waiting += some
        changes += len(some)
    assert len(index.parts) > 1 and any(part.living < len(part.ids) for part in index.parts)
    other = fresh(dict(sorted(entries.items())))
    assert len(other.parts) == 1
    same(index, other, queries, 50)
    own = rng.choice(list(entries), len(queries))
    np.testing.assert_array_equal(index.scores(queries, own), other.scores(queries, own))
    index.save(tmp_path / "index")
    same(index, other, queries, 50)
    loaded = KeywordIndex.load(tmp_path / "index")
    same(loaded, other, queries, 50)
    loaded.remove(own[:3])
    other.remove(own[:3])
    same(loaded, other, queries, 50)


@pytest.mark.slow
def test_common_terms_are_left_out_and_nothing_is_lost(monkeypatch):
    """The k best are those of all sums, although most texts' sums are never completed."""
    texts, queries = some_texts(20_000, 6, [chr(0x4E00 + place) for place in range(300)]), some_texts(30, 7)
    queries += texts[:30]
    index = KeywordIndex.build(texts)
    monkeypatch.setattr("semindex.search.postings.FEW", 0)
    ids, scores = index.search(queries, 10)
    seen = []
    own = Postings.scores
    monkeypatch.setattr(Postings, "scores", lambda self, slots, *rest: seen.append(len(slots)) or own(self, slots, *rest))
    index.search(queries, 10)
    assert np.sum(seen) < 2000 * len(queries)
    monkeypatch.undo()
    for mine, theirs in zip((ids, scores), index.search(queries, 10)):  # with every term of every text
        np.testing.assert_array_equal(mine, theirs)
    every = np.arange(len(texts))
    for query, found, values in zip(queries, ids, scores):
        wanted = index.scores([query] * len(texts), every)
        order = np.lexsort((every, -wanted))[:10]
        np.testing.assert_array_equal(values, wanted[order])
        np.testing.assert_array_equal(found[values > 0], order[values > 0])


def test_terms_too_far_apart_for_one_product_are_added_in_several(monkeypatch):
    texts, queries = some_texts(300, 9), some_texts(20, 10)
    index = KeywordIndex.build(texts)
    one = index.search(queries, 20)
    monkeypatch.setattr("semindex.search.sums.LARGEST", 50)
    for mine, theirs in zip(one, index.search(queries, 20)):
        np.testing.assert_array_equal(mine, theirs)


def test_a_change_takes_no_part_of_the_whole():
    """An entry more among many makes a small part; the large one stays the object that it was."""
    index = KeywordIndex.build(some_texts(5000, 8))
    large = index.parts[0]
    for number in range(40):
        index.add([f"全新的问题{number}号"])
        assert index.search([f"全新的问题{number}号"], 1)[0][0, 0] == 5000 + number
    assert index.parts[0] is large and sum(len(part.ids) for part in index.parts[1:]) == 40 and len(index.parts) < 6


def test_equal_texts_are_found_by_id_wherever_they_stand():
    index = KeywordIndex()
    index.add(["利息怎么算", "别的"] * 50, np.arange(100) * 3)
    index.add(["利息怎么算"], np.array([4]))
    assert len(index.parts) == 2
    ids, scores = index.search(["利息怎么算"], 4)
    assert ids.tolist() == [[0, 4, 6, 12]] and len(set(scores[0].tolist())) == 1


def test_ids_that_cannot_be_added_or_removed():
    index = KeywordIndex()
    assert index.add(["甲", "乙"]).tolist() == [0, 1]
    assert index.add(["丙"], [9]).tolist() == [9] and index.add(["丁"]).tolist() == [10]
    for ids, wrong in (([9], "the id 9 is in the index already"), ([11, 11], "stands twice"), ([-1], "negative"),
                       ([1.5], "whole numbers"), ([20, 21], "need as many ids")):
        with pytest.raises(UserError, match=wrong):
            index.add(["戊"] * (1 if len(ids) > 1 and ids[0] == 20 else len(ids)), np.array(ids))
    with pytest.raises(UserError, match="the id 3 is not in the index"):
        index.remove([0, 3])
    assert index.ids.tolist() == [0, 1, 9, 10]
    index.remove([10, 0])
    assert index.add(["己"]).tolist() == [10] and len(index) == 3
    with pytest.raises(UserError, match="the id 0 is not in the index"):
        index.scores(["甲"], np.array([0]))


def test_an_index_without_terms_or_entries(tmp_path):
    index = KeywordIndex()
    assert index.search(["卡"], 5)[0].shape == (1, 0)
    index.save(tmp_path / "none")
    assert len(KeywordIndex.load(tmp_path / "none")) == 0
    index.add(["。。", ""])
    ids, scores = index.search(["卡", "。"], 5)
    assert ids.tolist() == [[-1, -1]] * 2 and not scores.any()
    assert index.scores(["卡"], np.array([1])).tolist() == [0]
    index.save(tmp_path / "no_terms")
    again = KeywordIndex.load(tmp_path / "no_terms")
    again.add(["卡"])
    assert again.search(["卡"], 5)[0].tolist() == [[2, -1, -1]]
    with pytest.raises(UserError, match="holds neither letters nor digits"):
        KeywordIndex.build(["。", "?"])
