"""Recall of collections with ids into TREC runs: the same for keywords and for an encoder, and docs/ance.md's commands."""

from argparse import Namespace

import numpy as np
import pytest
from conftest import SUBJECTS, fail, succeed

from semindex import flags
from semindex.errors import UserError
from semindex.search.recall_files import pairs_of, read_inputs, write_results
from semindex.text.trec import read_run


@pytest.fixture
def collection(tmp_path):
    """Documents of four columns, one of them without a text, two that read alike; queries, two that read alike."""
    texts = [f"u{i}\t{subject}\t{subject}怎么办" for i, subject in enumerate(SUBJECTS)]
    rows = [f"D{i}\t{text}" for i, text in enumerate(texts)] + [f"E0\t{texts[0]}", "E1\t\t\t"]
    (tmp_path / "corpus.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    asked = [f"q{i}\t{subject}了" for i, subject in enumerate(SUBJECTS)] + [f"r0\t{SUBJECTS[0]}了"]
    (tmp_path / "queries.tsv").write_text("\n".join(asked) + "\n", encoding="utf-8")
    (tmp_path / "qrels").write_text("".join(f"q{i} 0 D{i} 1\n" for i in range(len(SUBJECTS))) + "r0 0 E0 1\n")
    return tmp_path


def arguments(directory, **change):
    return Namespace(**{"corpus_file": str(directory / "corpus.tsv"), "queries_file": str(directory / "queries.tsv"),
                        "trec_run_file": str(directory / "run"), "skip_bad_lines": False, "recall_num": 3} | change)


def test_ids_lead_from_the_files_to_the_run(collection, capsys):
    args = arguments(collection)
    inputs = read_inputs(args, "|")
    assert "13 queries" in (said := capsys.readouterr().out) and "13 documents, 1 without a text left out" in said
    assert inputs.corpus[1] == f"u1 | {SUBJECTS[1]} | {SUBJECTS[1]}怎么办" and len(inputs.corpus) == len(inputs.queries) == 12
    assert inputs.documents_of(0) == ["D0", "E0"] and inputs.documents_of(11) == ["D11"]
    found = pairs_of(np.array([[1, 0, 2]] * 12), np.array([[0.75, 0.5, 0.25]] * 12))
    write_results(args, inputs, found, "me")
    run = read_run(args.trec_run_file)
    assert len(run) == 13 and run["q0"] == run["r0"] == {"D1": 0.75, "D0": 0.5, "E0": 0.5}  # three documents, not more


def test_without_ids_queries_and_texts_have_their_place(tmp_path):
    (tmp_path / "corpus").write_text("甲\n乙\n甲\n丙\n", encoding="utf-8")
    (tmp_path / "pairs").write_text("问\t乙\n问\t丙\n答\t甲\n", encoding="utf-8")
    args = arguments(tmp_path, corpus_file=str(tmp_path / "corpus"), similar_text_pair_file=str(tmp_path / "pairs"),
                     queries_file=None, recall_result_dir=str(tmp_path), recall_result_file="result")
    write_results(args, read_inputs(args), [[(2, 1.0), (0, 0.5)], [(1, 1.0)]], "me")
    assert read_run(args.trec_run_file) == {"1": {"4": 1.0, "1": 0.5}, "2": {"2": 1.0}}
    assert (tmp_path / "result").read_text(encoding="utf-8") == "问\t丙\t1.0\n问\t甲\t0.5\n答\t乙\t1.0\n"


@pytest.mark.parametrize(("corpus", "message"), [
    ("D1\t甲\nD2\t乙\nD1\t丙\n", "the id D1 stands twice"), ("D1\t\n", "no document has a text"),
    ("D 1\t甲\n", "corpus.tsv:1: the id 'D 1' holds white space"), ("甲\n", "corpus.tsv:1: 1 column"),
])
def test_what_is_wrong_with_a_collection_is_named(collection, corpus, message):
    (collection / "corpus.tsv").write_text(corpus, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_inputs(arguments(collection))


def test_queries_are_asked_for_once():
    for given, message in (((None, None, None), "give either"), (("p", "q", "r"), "give either"),
                           ((None, "q", None), "--queries_file needs --trec_run_file")):
        names = dict(zip(("similar_text_pair_file", "queries_file", "trec_run_file"), given))
        with pytest.raises(UserError, match=message):
            flags.check_recall_inputs(Namespace(**names))


def test_a_run_of_keywords_is_evaluated(collection):
    """docs/ance.md evaluates and reranks a bm25.run, which no script wrote."""
    ids = ["--corpus_file", "corpus.tsv", "--queries_file", "queries.tsv"]
    succeed("keyword_recall.py", *ids, "--recall_num", 1000, "--trec_run_file", "bm25.run", cwd=collection)
    assert not (collection / "recall_result").exists()
    printed = succeed("evaluate.py", "--run_file", "bm25.run", "--qrels_file", "qrels", "--metrics", "recall@1000", "mrr@10",
                      cwd=collection)
    assert printed.splitlines()[0] == "recall@1000=100.0" and float(printed.splitlines()[1].split("=")[1]) > 80
    assert "give either" in fail("keyword_recall.py", *ids, "--similar_text_pair", "queries.tsv", cwd=collection)


@pytest.mark.slow
def test_an_encoder_recalls_by_ids_what_it_ranks(collection, checkpoint):
    """recall.py and rank_collection.py give the same documents the same scores; bm25.run is reranked."""
    ids = ["--device", "cpu", "--params_path", checkpoint, "--corpus_file", "corpus.tsv", "--queries_file", "queries.tsv"]
    said = succeed("recall.py", *ids, "--recall_num", 20, "--trec_run_file", "recalled", cwd=collection)
    assert "recalled: 169 lines" in said and not (collection / "recall_result").exists()
    succeed("keyword_recall.py", *ids[4:], "--trec_run_file", "bm25.run", cwd=collection)
    succeed("rank_collection.py", *ids, "--candidates_file", "bm25.run", "--run_file", "reranked", cwd=collection)
    recalled, reranked = read_run(str(collection / "recalled")), read_run(str(collection / "reranked"))
    assert reranked.keys() == recalled.keys() and all(len(row) == 13 for row in recalled.values())
    for query, row in reranked.items():
        for document, score in row.items():
            assert recalled[query][document] == pytest.approx(score, abs=1e-4)
