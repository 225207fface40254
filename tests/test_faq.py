"""A FAQ: indexed, ranked, answered or refused; the formulas by hand."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from semindex.errors import UserError
from semindex.faq import confidence
from semindex.faq.answering import Answerer, as_json, lines_of
from semindex.faq.calibrating import calibrate, judged
from semindex.faq.directory import Faq
from semindex.faq.entries import Entry, questions_of
from semindex.faq.ranking import rank_entries, scores_of
from semindex.measure import faq as measure
from semindex.measure import report
from semindex.measure.significance import difference
from semindex.search.fusion import Fusion, Ranking
from semindex.search.index import IndexSettings
from semindex.search.keyword import KeywordSettings
from semindex.search.methods import Calibration, Method
from semindex.text.tables import read_labelled

SAMPLE = ROOT / "datasets" / "faq_zh"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_an_entry_gets_its_best_question_or_their_smooth_maximum():
    found = Ranking(np.array([[4, 0, 2, 1, -1], [3, -1, -1, -1, -1]]),
                    np.array([[0.9, 0.8, 0.8, 0.7, 0], [0.5, 0, 0, 0, 0]], np.float32))
    owners = np.array([0, 0, 1, 1, 2])
    plain = rank_entries(found, owners)
    assert plain.ids.tolist() == [[2, 0, 1], [1, -1, -1]] and plain.questions.tolist() == [[4, 0, 2], [3, -1, -1]]
    assert plain.scores[0] == pytest.approx([0.9, 0.8, 0.8])
    smooth = rank_entries(found, owners, 0.5)
    wanted = {2: 0.9, 0: 0.5 * np.log(np.exp(1.6) + np.exp(1.4)), 1: 0.8}
    assert smooth.ids.tolist() == [[0, 2, 1], [1, -1, -1]]
    assert smooth.scores[0] == pytest.approx([wanted[i] for i in (0, 2, 1)], rel=1e-6)
    mine, others = scores_of(plain, np.array([2, 0]))
    assert mine == pytest.approx([0.9, 0.5]) and others == pytest.approx([0.8, 0.5])


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.floats(0, 1))
def test_the_threshold_is_the_lowest_that_keeps_the_precision(pairs, precision):
    sure, right = np.array([p for p, _ in pairs]), np.array([r for _, r in pairs])
    found = confidence.threshold(confidence.curve(sure, right), precision, len(right))
    good = [t for t in sure if right[sure >= t].mean() >= precision
            and (precision == 1 or (sure >= t).sum() * (1 - precision) > 1 - 1e-9)]
    assert found == (min(good) if good else 1.0000001)


def test_the_regression_is_at_its_minimum():
    rng = np.random.default_rng(0)
    rows, right = rng.standard_normal([80, 3]), rng.random(80) < 0.4
    rows[:, 2] = 7.0  # tells nothing, and has no deviation
    found = confidence.fit(rows, right)

    def loss(weights, bias):
        scaled = (rows - np.array(found.mean)) / np.array(found.deviation)
        return np.logaddexp(0, -np.where(right, 1, -1) * (scaled @ weights + bias)).sum() + 0.5 * (weights ** 2).sum()

    best = loss(np.array(found.weights), found.bias)
    for _ in range(20):
        step = 0.01 * rng.standard_normal(4)
        assert loss(np.array(found.weights) + step[:3], found.bias + step[3]) >= best - 1e-6
    content = json.loads(json.dumps(found.as_json()))
    assert confidence.Confidence.from_json("x", content, 3) == found
    with pytest.raises(UserError, match="3 numbers above 1e-12"):  # probabilities would be no numbers
        confidence.Confidence.from_json("x", content | {"deviation": [1, 1e-320, 1]}, 3)
    with pytest.raises(UserError, match="6 numbers"):
        confidence.Confidence.from_json("x", content, 6)
    for wrong in (np.ones(80, bool), np.zeros(80, bool)):
        assert np.isfinite(confidence.fit(rows, wrong)(rows)).all()


class Letters:
    """An encoder without a network: counts of letters, as unit vectors."""

    def side(self, _):
        return self

    def __call__(self, texts):
        counts = np.array([[text.count(chr(97 + i)) for i in range(26)] for text in texts], np.float32) + 1e-3
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.fixture
def letters():
    entries = [Entry("aab", "about a", "", ["aaab", "abaaa"]), Entry("ccd", "about c", "", ["cccd"]), Entry("eef", "about e")]
    about = {"kind": "checkpoint", "path": "x", "fingerprint": "f", "engine": "dynamic"}
    return Faq.build(entries, Letters()(questions_of(entries)[0]), about, IndexSettings(), KeywordSettings())


def test_a_faq_is_saved_and_found_again(letters, tmp_path):
    directory = str(tmp_path / "faq")
    letters.save(directory)
    again = Faq.load(directory)
    assert again.entries == letters.entries and again.fingerprint == letters.fingerprint and again.encoder == letters.encoder
    for method in (Method("dense"), Method("keyword"), Method("hybrid", Fusion("rrf"))):
        one, two = (faq.search(["aab", "ddc"], Letters()(["aab", "ddc"]), method, 3) for faq in (letters, again))
        assert one.fused.ids.tolist() == two.fused.ids.tolist() and one.fused.ids[0, 0] == 0
    (tmp_path / "faq" / "entries.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="entries.jsonl"):
        Faq.load(directory)


def test_a_reply_answers_suggests_or_refuses(letters):
    low = confidence.Confidence((0,) * 6, (1,) * 6, (0, 20, 0, 0, 0, 0), -10, answer=0.9, suggest=0.2)
    calibration = Calibration(Method("dense"), "f", letters.fingerprint, {}, 0.0, low.as_json())
    answerer = Answerer(letters, Letters(), calibration)
    same, clear, unsure, lost = answerer(["AAB!", "aaaaaab", "aaacccd", "xyz"])
    assert (same.state, same.hits[0].entry, same.hits[0].question) == ("answer", 0, "aab")
    assert clear.state == "answer" and next(lines_of(clear, letters)) == "about a"
    assert lost.state == "none" and next(lines_of(lost, letters)).startswith("No answer")
    row = as_json(unsure, letters, explain=True)
    assert row["state"] == "none" or len(row["hits"]) == 3
    assert row["hits"][0]["sources"]["dense"]["rank"] == 1
    plain = Answerer(letters, Letters())(["aab"])[0]
    assert plain.state == "suggest" and plain.confidence is None and [*lines_of(plain, letters)][1] == "  1  aab"


def test_a_question_without_an_entry_is_never_found():
    hits, near = judged(np.array([[0, -1, -1], [2, 1, 0], [-1, -1, -1]]), np.array([-1, 0, -1]))
    assert hits.tolist() == [False] * 3 and near.tolist() == [False, True, False]


@pytest.mark.slow
def test_calibration_says_what_its_questions_cannot_tell(letters, capsys):
    questions = [f"{'aab' if n % 2 else 'ccd'}{'z' * (n > 1)}{n}" for n in range(2, 42)] + ["AAB!"]
    wanted = [n % 2 == 0 for n in range(2, 42)] + [0]
    calibrate(letters, letters.encoder["fingerprint"], letters.fingerprint, questions, Letters()(questions), list(map(int, wanted)), 0.95, 0.5, seed=0)
    told = capsys.readouterr().err
    assert "no question without an answer" in told and "1 question of 41 read as one of the FAQ's" in told


def test_calibration_chooses_thresholds_that_hold(letters):
    rng = np.random.default_rng(1)
    questions, wanted = [], []
    for number in range(120):
        entry = number % 4
        word = "".join(rng.choice(list(("aab", "ccd", "eef", "xyzw")[entry]), 5))
        questions.append(word + str(number))
        wanted.append(entry if entry < 3 else -1)
    found = calibrate(letters, letters.encoder["fingerprint"], letters.fingerprint, questions, Letters()(questions), wanted, 0.95, 0.5, seed=0)
    measured = found.calibration.measured
    assert measured["precision"] >= 0.95 and 0.5 < measured["coverage"] < 0.8
    assert (np.diff(found.curve.coverage) > 0).all()
    with pytest.raises(UserError, match="too few"):
        calibrate(letters, letters.encoder["fingerprint"], letters.fingerprint, questions[:8], Letters()(questions[:8]), wanted[:8], 0.95, 0.5, seed=0)


def test_a_recalls_methods_are_measured_as_recall_fuses_them():
    """The text that reads as the query stands first in a fusion, so it does while its gain is measured."""
    from models.calibrating import Values
    from semindex.text.corpus import Corpus
    from semindex.text.same_text import SameTexts

    corpus, query = Corpus.from_texts(["甲", "乙", "怎么退款？"]), "怎么退款"
    found = {name: Ranking(np.array([[0, 1, 2]]), np.array([[3.0, 2.0, 1.0]])) for name in ("dense", "keyword")}
    values = Values(corpus, {query: ["怎么退款？"]}, found, "mrr@10", SameTexts(corpus).find([query]))
    assert values(Method("hybrid")).tolist() == [1.0] and values(Method("dense")) == pytest.approx([1 / 3])


def test_metrics_of_replies_by_hand():
    replies = {"一": ("answer", [{"甲", "甲之一"}]), "二": ("answer", [{"乙"}, {"甲"}]), "三": ("suggest", [{"丙"}, {"甲"}]),
               "四": ("none", [{"甲"}]), "五": ("answer", [{"甲"}]), "六": ("none", [])}
    lost = measure.measure(replies, ["一", "六", "七"], ["甲之一", "", ""])  # by another of the entry's questions; no reply
    assert lost["answer@1"] == [1.0] and lost["refusal recall"] == [1.0, 0.0] and lost["refusal precision"] == [1.0]
    found = measure.measure(replies, ["一", "二", "三", "四", "五", "六"], ["甲", "甲", "甲", "甲", "", ""])
    assert {name: round(sum(row) / len(row), 4) for name, row in found.items()} == {
        "answer@1": 0.5, "mrr": 0.75, "precision": round(1 / 3, 4), "coverage": 0.5, "refusal precision": 0.5,
        "refusal recall": 0.5, "false answers": 0.5}


def test_labelled_questions_and_replies_are_checked(tmp_path):
    path = write(tmp_path / "q.tsv", "一\t甲\n二\t\n一\t乙\n")
    with pytest.raises(UserError, match=":3: '一' stands in line 1 too"):
        read_labelled(path, False)
    for text, message in (("{}\n", "no reply of ask.py"), ('{"question": "一", "state": "yes", "hits": []}\n', "state 'yes'")):
        with pytest.raises(UserError, match=message):
            list(measure.read_replies(write(tmp_path / "r.jsonl", text)))
    path = write(tmp_path / "q.tsv", "一\t甲\n")
    replies = write(tmp_path / "r.jsonl", '{"question": "二", "state": "none", "hits": []}\n')
    with pytest.raises(UserError, match="has no line for any query"):
        measure.of_replies(SimpleNamespace(questions_file=path, reply_file=[replies], skip_bad_lines=False))


def test_shares_of_what_the_replies_choose_are_not_paired(tmp_path, capsys):
    questions = write(tmp_path / "q.tsv", "一\t甲\n二\t甲\n三\t\n")
    paths = []
    for name, states in (("one", "answer none none"), ("two", "none answer none"), ("three", "none none suggest")):
        rows = [{"question": q, "state": s, "hits": [{"question": "甲"}]} for q, s in zip("一二三", states.split())]
        paths.append(write(tmp_path / name, "".join(json.dumps(row) + "\n" for row in rows)))
    values = measure.of_replies(SimpleNamespace(questions_file=questions, reply_file=paths, skip_bad_lines=False))
    report.compare(values, 0, measure.BY_STATE)
    parts = {part.splitlines()[0].split(",")[0]: part for part in re.split(r"\n(?! )", capsys.readouterr().out.strip())}
    assert " p=" in parts["coverage"] and " p=" in parts["answer@1"]
    assert " p=" not in parts["precision"] and "of no query" in parts["precision"]


def test_one_query_shows_no_difference():
    assert difference(np.array([1.0]), np.array([0.0])).p == 1.0
