"""Collections in TREC's form: reading, tokenising once, passages of long documents."""

import json
import os

import numpy as np
import pytest

from models.loading import create
from semindex.collection import store as collections
from semindex.collection.store import Sources, split_long
from semindex.errors import UserError
from semindex.text import trec
from semindex.text.ragged import Ragged

DOCUMENTS = [("D1", "怎么退款" * 10), ("D2", "短"), ("D3", ""), ("D4", "怎么退款" * 10), ("D5", "很长的文章" * 40)]
QUERIES = [("q1", "退款"), ("q2", "短"), ("d1", "文章")]
JUDGED = [("q1", "D1", 2), ("q1", "D2", 0), ("q2", "D3", 1), ("d1", "D5", 1)]


@pytest.fixture(scope="module")
def tokenizer():
    return create("scratch-1x32", {"max_seq_length": 16}, [text for _, text in DOCUMENTS])[1]


def sources(**change):
    return Sources(**{"documents": lambda separator: iter(DOCUMENTS), "queries": QUERIES, "training": 2, "judgements": JUDGED,
                      "lengths": (16, 8), "chunks": 1, "origin": "here"} | change)


def test_documents_of_two_columns_and_of_four(tmp_path):
    (tmp_path / "two").write_text("1\ta b\n2\t\n", encoding="utf-8")
    assert list(trec.read_documents(str(tmp_path / "two"), "|")) == [("1", "a b"), ("2", "")]
    (tmp_path / "four").write_text("D1\thttp://x\t题\t正文\nD2\thttp://y\t\t正文\n", encoding="utf-8")
    assert list(trec.read_documents(str(tmp_path / "four"), "|")) == [
        ("D1", "http://x | 题 | 正文"), ("D2", "http://y | 正文")]
    (tmp_path / "bad").write_text("D1\ta\tb\n", encoding="utf-8")
    with pytest.raises(UserError, match="bad:1: 3 columns"):
        list(trec.read_documents(str(tmp_path / "bad"), "|"))


def test_judgements_of_two_columns_and_of_four(tmp_path):
    (tmp_path / "qrels").write_text("q1 0 D1 3\nq1\t0\tD2\t0\nq2 D3\n", encoding="utf-8")
    assert trec.read_qrels(str(tmp_path / "qrels")) == {"q1": {"D1": 3, "D2": 0}, "q2": {"D3": 1}}
    (tmp_path / "bad").write_text("q1 0 D1 high\n", encoding="utf-8")
    with pytest.raises(UserError, match="bad:1: the grade 'high' is no whole number"):
        trec.read_qrels(str(tmp_path / "bad"))
    with pytest.raises(UserError, match="bad:1: 3 columns"):
        (tmp_path / "bad").write_text("q1 0 D1\n", encoding="utf-8")
        trec.read_qrels(str(tmp_path / "bad"))


def test_runs_and_candidates(tmp_path):
    path = str(tmp_path / "run")
    assert trec.write_run(path, [("q1", [("D2", 1.5), ("D1", 0.25)])], "me") == 2
    assert (tmp_path / "run").read_text() == "q1 Q0 D2 1 1.5 me\nq1 Q0 D1 2 0.25 me\n"
    assert trec.read_run(path) == {"q1": {"D2": 1.5, "D1": 0.25}}
    assert trec.read_candidates(path) == {"q1": ["D2", "D1"]}
    (tmp_path / "top").write_text("q1\tD7\t问题\t文章 有 空格\nq1\tD8\n", encoding="utf-8")
    assert trec.read_candidates(str(tmp_path / "top")) == {"q1": ["D7", "D8"]}
    (tmp_path / "twice").write_text("q1 Q0 D1 1 2 x\nq1 Q0 D1 2 1 x\n", encoding="utf-8")
    with pytest.raises(UserError, match="twice:2: the query q1 ranks D1 twice"):
        trec.read_run(str(tmp_path / "twice"))


def test_long_texts_are_cut_into_passages():
    tokens = Ragged(np.array([1, 10, 11, 12, 13, 14, 2, 1, 2, 1, 20, 2], np.int32), np.array([0, 7, 9, 12]))
    parts, counts = split_long(tokens, 4, 2)
    assert counts.tolist() == [2, 0, 1]  # the fifth token of the first text is beyond two passages of two
    assert [parts.flat[a:b].tolist() for a, b in zip(parts.starts, parts.starts[1:])] == [
        [1, 10, 11, 2], [1, 12, 13, 2], [1, 20, 2]]


def test_a_collection_holds_what_the_tokenizer_gives(tmp_path, tokenizer):
    path = str(tmp_path / "c")
    assert collections.build(path, sources(), tokenizer)
    found = collections.load(path)
    assert found.about.documents == 5 and found.about.passages == 4 and found.owner.tolist() == [0, 1, 3, 4]
    ids = tokenizer([text for _, text in DOCUMENTS if text])
    np.testing.assert_array_equal(found.passages.flat, ids.flat)
    np.testing.assert_array_equal(found.query_tokens(np.array([2, 0])).flat, tokenizer(["文章", "退款"]).flat)
    assert found.pairs.tolist() == [[0, 0]]  # grade 0 is no positive, D3 is empty, d1 is not for training
    assert list(found.document_ids) == [name for name, _ in DOCUMENTS] and found.query_ids[2] == "d1"
    assert found.groups[0] == found.groups[3] and found.groups[1] == found.groups[5 + 1]


def test_the_parts_of_a_document_are_set_apart_by_the_tokenizers_separator(tmp_path, tokenizer):
    path = str(tmp_path / "c")
    rows = [("D1", "怎么", "退款")]
    collections.build(path, sources(
        documents=lambda separator: ((name, f" {separator} ".join(parts)) for name, *parts in rows),
        judgements=[("q1", "D1", 1)]), tokenizer)
    one, two = tokenizer(["怎么", "退款"]).flat[1:3], tokenizer(["退款"]).flat[1:]
    cls, sep = tokenizer([""]).flat
    assert collections.load(path).passages.flat.tolist() == [cls, *one, sep, *two]


def test_passages_of_a_long_document(tmp_path, tokenizer):
    collections.build(str(tmp_path / "c"), sources(chunks=3), tokenizer)
    found = collections.load(str(tmp_path / "c"))
    assert np.diff(found.first_passage).tolist() == [3, 1, 0, 3, 3]
    assert found.passages.lengths.max() == 16 and found.passages.lengths.min() > 2  # nothing is padding alone


def test_it_is_tokenised_again_only_where_something_changed(tmp_path, tokenizer):
    path = str(tmp_path / "c")
    assert collections.build(path, sources(), tokenizer)
    assert not collections.build(path, sources(), tokenizer)
    for change in ({"origin": "there"}, {"lengths": (12, 8)}, {"lengths": (16, 6)}, {"chunks": 2}, {"training": 1}):
        assert collections.build(path, sources(**change), tokenizer), change
        assert collections.build(path, sources(), tokenizer)
    os.unlink(os.path.join(path, collections.MARKER))  # as a kill would leave it: no marker, no collection
    with pytest.raises(UserError, match="missing"):
        collections.load(path)
    assert collections.build(path, sources(), tokenizer)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("x")
    with pytest.raises(UserError, match="is there, but is no collection"):
        collections.build(str(tmp_path / "mine"), sources(), tokenizer)


def test_faults_are_named(tmp_path, tokenizer, capsys):
    path = str(tmp_path / "c")
    with pytest.raises(UserError, match="two documents of the collection have the same id"):
        collections.build(path, sources(documents=lambda separator: iter([*DOCUMENTS, ("D1", "x")])), tokenizer)
    with pytest.raises(UserError, match="do the files belong together"):
        collections.build(path, sources(judgements=[("q1", "nowhere", 1)]), tokenizer)
    collections.build(path, sources(judgements=[*JUDGED, ("q9", "D1", 1)]), tokenizer)
    assert "1 of 5 judgements name a query or a document that the collection lacks" in capsys.readouterr().err
    assert not [name for name in os.listdir(tmp_path) if "partial" in name]
    with open(os.path.join(path, collections.MARKER), "w") as file:
        json.dump({"key": 1}, file)
    with pytest.raises(UserError, match="changed since"):
        collections.load(path)
