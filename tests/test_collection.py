"""Collections in TREC's form: reading, tokenising once, passages of long documents."""

import hashlib
import json
import os
import resource
import sys
from argparse import Namespace

import numpy as np
import pytest
from letters import Letters, rows_of
from paddlenlp.transformers import ErnieTokenizer

import plot_negatives
import run_ann_data_gen
from models.loading import create, save
from semindex.collection import sources as sources_of
from semindex.collection import store as collections
from semindex.collection.passages import Splitter
from semindex.collection.ranking import check_candidates
from semindex.collection.store import Sources
from semindex.errors import UserError
from semindex.text import trec
from semindex.text.paddlenlp_tokenizer import PaddlenlpTokenizer
from semindex.text.prompts import Prompts

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


@pytest.mark.parametrize("line", ["q1 0 D2 1 1.5 me", "q1\t0\tD2\t1\t1.5\tme", "q1 Q0 D2 1 1.5 me",
                                  "q1\tQ0 D2 1\t1.5 me", "q1 ITER D2 1 -1e3 me"])
def test_candidates_of_a_run_with_any_second_column(tmp_path, line):
    """Once `0` for `Q0` made pairs of query and `0` of it, and the run was empty."""
    (tmp_path / "run").write_text(f"{line}\n{line.replace('D2', 'D1')}\n")
    assert trec.read_candidates(str(tmp_path / "run")) == {"q1": ["D2", "D1"]}


def test_candidates_of_two_kinds_are_refused(tmp_path):
    (tmp_path / "run").write_text("q1 0 D2 1 1.5 me\nq1 0 D1 2 me\nq1 0 D3 3 0.5 me\n")
    with pytest.raises(UserError, match="run:2: is no line of query Q0 document rank score name"):
        trec.read_candidates(str(tmp_path / "run"))
    assert trec.read_candidates(str(tmp_path / "run"), skip_bad_lines=True) == {"q1": ["D2", "D3"]}
    (tmp_path / "pairs").write_text("q1\tD2\t标题 3 有 0.5\t文\nq1\tD 3\n")
    with pytest.raises(UserError, match="pairs:2: is no line of query<TAB>document, or a TREC run"):
        trec.read_candidates(str(tmp_path / "pairs"))
    assert trec.read_candidates(str(tmp_path / "pairs"), skip_bad_lines=True) == {"q1": ["D2"]}


@pytest.mark.parametrize("name", ["D 1", "D\u30001", "D\xa01"])
def test_ids_with_white_space_are_refused_where_they_are_read(tmp_path, name):
    """A run sets its columns apart by white space: one written with such ids cannot be read."""
    (tmp_path / "f").write_text(f"D0\t甲 乙\n{name}\t丙\n", encoding="utf-8")
    for read in (trec.read_queries, lambda *flags: list(trec.read_documents(flags[0], "|", *flags[1:]))):
        with pytest.raises(UserError, match=f"f:2: the id '{name}' holds white space"):
            read(str(tmp_path / "f"))
        assert read(str(tmp_path / "f"), True) == [("D0", "甲 乙")]


@pytest.mark.parametrize("grade", ["9223372036854775808", "-9223372036854775809", "100000000", "9" * 5000, "٣", "1_0", "1.0"])
def test_grades_out_of_bounds_are_named(tmp_path, grade):
    (tmp_path / "qrels").write_text(f"q1 0 D1 -1\nq1 0 D2 {grade}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"qrels:2: the grade '.*' is no whole number from -1000000 to 1000000"):
        trec.read_qrels(str(tmp_path / "qrels"))
    assert trec.read_qrels(str(tmp_path / "qrels"), skip_bad_lines=True) == {"q1": {"D1": -1}}


def test_candidates_that_cannot_be_ranked_are_named(capsys):
    """None known made an empty run with status 0, some unknown went without a word."""
    found = sources()
    with pytest.raises(UserError, match="top: none of its 2 queries is one of the collection's 3 .the first: q8"):
        check_candidates(found, {"q8": ["D1"], "q9": ["D2"]}, "top")
    with pytest.raises(UserError, match="top: none of its 2 documents is in the collection with a text .the first: D3"):
        check_candidates(found, {"q1": ["D9"], "q2": ["D3"], "d1": []}, "top")  # D3 has no text
    assert capsys.readouterr().err.splitlines()[1:] == []
    check_candidates(found, {"q1": ["D1", "D9"], "q2": ["D2", "D3"], "q9": ["D8"]}, "top")
    assert [line.removeprefix("warning: ") for line in capsys.readouterr().err.splitlines()] == [
        "top: 1 of its 3 queries are not in the collection, 1 of the collection's 3 have no candidates and get no line",
        "top: 2 of 4 documents are not in the collection or have no text and are passed over (the first: D3)"]
    check_candidates(found, {name: ["D1"] for name in ("q1", "q2", "d1")}, "top")
    assert capsys.readouterr().err == ""


def test_long_texts_are_cut_into_passages():
    splitter = Splitter(Letters(), "", 4, 2)
    parts, counts = splitter.split(splitter.tokenizer(["abcde", "", "f"]))
    assert counts.tolist() == [2, 0, 1]  # the fifth token of the first text is beyond two passages of two
    assert rows_of(parts) == [[1, *map(ord, "ab"), 2], [1, *map(ord, "cd"), 2], [1, ord("f"), 2]]


def test_every_passage_begins_with_the_prompt():
    splitter = Splitter(Letters(), "p:", 6, 2)
    parts, counts = splitter.split(splitter.tokenizer(["abcde", "", "f"]))
    assert counts.tolist() == [2, 0, 1]
    assert rows_of(parts) == [[1, *map(ord, "p:ab"), 2], [1, *map(ord, "p:cd"), 2], [1, *map(ord, "p:f"), 2]]
    with pytest.raises(UserError, match="--max_seq_length 4: the passage's prompt and the special tokens alone take 4"):
        Splitter(Letters(), "p:", 4, 2)


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


def test_the_key_follows_from_files_as_ever_and_from_samples_where_there_is_no_file(tmp_path):
    """--train_set_file - was read for its samples and then hashed as a file of that name."""
    def origin(path, samples, corpus=None):
        args = Namespace(train_set_file=str(path), corpus_file=corpus and str(corpus), skip_bad_lines=False)
        return sources_of.of_pairs(args, samples).origin

    pairs = [["问一", "答一"], ["问二", "答二"]]
    file = tmp_path / "train.csv"
    file.write_text("".join("\t".join(pair) + "\n" for pair in pairs), encoding="utf-8")
    said = hashlib.sha256(file.read_bytes()).digest()
    assert origin(file, pairs) == hashlib.sha256(said + b"||").hexdigest() + "False"
    corpus = tmp_path / "corpus.csv"
    corpus.write_text("答一\n答三\n", encoding="utf-8")
    both = said + b"|" + hashlib.sha256(corpus.read_bytes()).digest() + b"|"
    assert origin(file, pairs, corpus) == hashlib.sha256(both).hexdigest() + "False"
    os.mkfifo(tmp_path / "pipe")
    found = {origin(path, some) for path in ("-", tmp_path / "pipe") for some in (pairs, [["问一", "答二"], pairs[1]])}
    assert len(found) == 2 and origin("-", pairs) in found


def test_a_collection_of_files_as_ever_and_none_from_standard_input(tmp_path):
    texts = {"corpus": "D1\t文章\n", "queries": "q1\t问\n", "qrels": "q1\tD1\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    args = Namespace(corpus_file=str(tmp_path / "corpus"), queries_file=str(tmp_path / "queries"), dev_queries_file=None,
                     qrels_file=str(tmp_path / "qrels"), dev_qrels_file=None, skip_bad_lines=False)
    said = b"".join(hashlib.sha256(text.encode()).digest() + b"|" for text in texts.values()) + b"||"
    assert sources_of.of_trec(args).origin == hashlib.sha256(said).hexdigest() + "False"
    args.corpus_file = "-"
    with pytest.raises(UserError, match="--corpus_file -: a collection is read several times"):
        sources_of.of_trec(args)


def test_a_collection_of_another_tokenizer_is_refused(tmp_path, tokenizer, capsys):
    """The encoder read tokens beyond its vocabulary: whatever stood in memory there."""
    path = str(tmp_path / "c")
    collections.build(path, sources(), tokenizer)
    tokenizer.save(str(tmp_path / "saved"))
    again = PaddlenlpTokenizer(ErnieTokenizer.from_pretrained(str(tmp_path / "saved")), 8)
    collections.load(path).check_tokenizer(again, Prompts(), "here")
    other = create("scratch-1x32", {"max_seq_length": 16}, ["别的字"])[1]
    with pytest.raises(UserError, match="c: tokenised with another tokenizer than that of checkpoints/best; give"):
        collections.load(path).check_tokenizer(other, Prompts(), "checkpoints/best")
    with pytest.raises(UserError, match=r"c: tokenised with the prompts \[\], here has \['q: ', ''\]; give"):
        collections.load(path).check_tokenizer(again, Prompts("q: "), "here")
    assert capsys.readouterr().err == ""
    about = json.loads((tmp_path / "c" / collections.MARKER).read_text())
    (tmp_path / "c" / collections.MARKER).write_text(json.dumps({k: v for k, v in about.items() if k != "vocabulary"}))
    (tmp_path / "c" / "manifest.json").unlink()
    collections.load(path).check_tokenizer(other, Prompts(), "here")  # of an earlier version
    assert "does not say with which tokenizer it was made" in capsys.readouterr().err
    assert not collections.build(path, sources(), tokenizer)


@pytest.mark.slow
def test_the_scripts_check_the_tokenizer(tmp_path, tokenizer, monkeypatch):
    collections.build(str(tmp_path / "c"), sources(), tokenizer)
    model, other = create("scratch-1x32", {"max_seq_length": 16}, ["别的字"])
    (tmp_path / "other").mkdir()
    save(model, other, str(tmp_path / "other"))
    for script, *flags in ((run_ann_data_gen, "--init_model_dir", "--ann_dir", "ann"),
                           (run_ann_data_gen, "--init_model_dir", "--inference", "--output_dir", "out"),
                           (plot_negatives, "--params_path", "--output_dir", "out")):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["x", "--device", "cpu", "--data_dir", "c", flags[0], "other", *flags[1:]])
        with pytest.raises(UserError, match="c: tokenised with another tokenizer than that of other"):
            script.main()
    assert sorted(os.listdir(tmp_path)) == ["ann", "c", "other"] and os.listdir(tmp_path / "ann") == []


def test_what_was_tokenised_anew_is_told(tmp_path, tokenizer, capsys):
    told = []
    for change in ({}, {}, {"origin": "there"}):
        collections.prepare(str(tmp_path / "c"), sources(**change), tokenizer)
        told.append(capsys.readouterr().out.strip().rsplit("queries, ", 1)[1])
    assert told == ["tokenised", "tokenised before", "tokenised anew, since the data, the lengths or the tokenizer changed"]


def test_a_full_disk_is_named(tmp_path, tokenizer):
    """A write has no name to give: the error was `No space left on device` alone."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        with pytest.raises(OSError) as error:
            collections.build(str(tmp_path / "c"), sources(), tokenizer)
        assert error.value.filename == str(tmp_path / "c")  # cli.run prints it
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []
