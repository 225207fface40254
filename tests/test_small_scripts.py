"""Splits, corpora and keyword recall by their scripts, and what every script refuses."""

import os
import stat

import pytest
from conftest import TRAIN, fail, succeed
from test_scripts import train

pytestmark = pytest.mark.slow


def bm25(toy, out, *flags):
    return ["keyword_recall.py", "--corpus_file", toy / "corpus.csv", "--similar_text_pair", toy / "dev.csv",
            "--recall_result_dir", out, "--recall_result_file", "bm25.txt", *flags]


@pytest.mark.parametrize("tokens", ["bigram", "word"])
def test_bm25_finds_the_words_it_is_asked_for(toy, tmp_path, tokens):
    succeed(*bm25(toy, tmp_path, "--tokens", tokens, "--recall_num", 3))
    out = succeed("evaluate.py", "--similar_text_pair", toy / "dev.csv", "--recall_result_file", tmp_path / "bm25.txt",
                  "--recall_num", 3, "--recall_of", "any", cwd=tmp_path)
    rows = [line.split("\t") for line in (tmp_path / "bm25.txt").read_text().splitlines()]
    assert "recall@1=" in out and all(float(row[2]) > 0 for row in rows)
    first = {row[0]: row[1] for row in reversed(rows)}
    assert first["卡丢了了找谁"] in ("卡丢了怎么办", "我的卡丢了该咋处理", "请问卡丢了要怎么弄")


def test_bm25_scores_are_the_formulas(toy, tmp_path):
    """Lucene's BM25, k1 1.5, b 0.75, by hand on three texts."""
    import math

    (tmp_path / "corpus.csv").write_text("ab cd\nab ab ef\ngh\n")
    (tmp_path / "pairs.csv").write_text("ab ef\tab cd\n")
    succeed("keyword_recall.py", "--corpus_file", tmp_path / "corpus.csv", "--similar_text_pair", tmp_path / "pairs.csv",
            "--recall_result_dir", tmp_path, "--recall_result_file", "r")
    terms = [["ab", "cd", "abcd"], ["ab", "ab", "ef", "abab", "abef"], ["gh"]]
    mean = sum(map(len, terms)) / 3

    def score(document):
        total = 0.0
        for term in ("ab", "ef", "abef"):
            df, tf = sum(term in d for d in terms), document.count(term)
            total += math.log(1 + (3 - df + 0.5) / (df + 0.5)) * tf / (tf + 1.5 * (0.25 + 0.75 * len(document) / mean))
        return total

    rows = [line.split("\t") for line in (tmp_path / "r").read_text().splitlines()]
    assert [row[1] for row in rows] == ["ab ab ef", "ab cd"]
    assert [float(row[2]) for row in rows] == pytest.approx([score(terms[1]), score(terms[0])], rel=1e-5)


def sentences(path):
    return {text for line in path.read_text().splitlines() for text in line.split("\t")}


@pytest.mark.parametrize("flags", [[], ["--hold_out", "topics"], ["--positives", 3]])
def test_split_of_groups_puts_each_sentence_on_one_side(tmp_path, flags):
    groups = [[f"题{i}问{j}" for j in range(8)] for i in range(40)]
    (tmp_path / "groups.tsv").write_text("".join("\t".join(group) + "\n" for group in groups))
    command = ["split_data.py", "--input_file", tmp_path / "groups.tsv", "--groups", "--dev", 0.2, "--test",
               0.3, *flags]
    succeed(*command, "--output_dir", tmp_path / "a")
    sides = [sentences(tmp_path / "a" / f"{name}.csv") for name in ("train", "dev", "test")]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert all(sides) and set.union(*sides) == {text for group in groups for text in group}
    for name in ("train", "dev", "test"):
        for line in (tmp_path / "a" / f"{name}.csv").read_text().splitlines():
            first, second = line.split("\t")
            assert first != second and first.split("问")[0] == second.split("问")[0]
    topics = [{text.split("问")[0] for text in side} for side in sides]
    assert bool(topics[0] & topics[2]) == ("topics" not in flags)
    succeed(*command, "--output_dir", tmp_path / "b")
    succeed(*command, "--output_dir", tmp_path / "c", "--seed", 7)
    test = [(tmp_path / name / "test.csv").read_text() for name in "abc"]
    assert test[0] == test[1] != test[2]


def test_split_of_pairs_keeps_connected_pairs_together(tmp_path):
    pairs = [(f"a{i}", f"b{i}") for i in range(100)] + [("b0", "c0"), ("c0", "b1"), ("x", "x"), ("a5", "b5")]
    (tmp_path / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    out = succeed("split_data.py", "--input_file", tmp_path / "pairs.tsv", "--output_dir", tmp_path / "s")
    assert "sentences on two sides: 0" in out and "1 line of one text with itself left out" in out
    sides = [sentences(tmp_path / "s" / f"{name}.csv") for name in ("train", "dev", "test")]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 201
    assert sum({"a0", "b0", "c0", "b1", "a1"} <= side for side in sides) == 1
    assert [len((tmp_path / "s" / f"{name}.csv").read_text().splitlines()) for name in ("dev", "test")] == [10, 10]


def test_a_sentence_in_two_groups_is_an_error(tmp_path):
    (tmp_path / "g.tsv").write_text("a\tb\tc\nd\te\ta\n")
    command = ["split_data.py", "--input_file", tmp_path / "g.tsv", "--output_dir", tmp_path / "s"]
    assert "'a' stands in two groups" in fail(*command, "--groups")
    assert "g.tsv:1: 3 columns; expected text<TAB>text, or groups with --groups" in fail(*command)
    (tmp_path / "g.tsv").write_text("a\tb\n")
    assert "dev.csv would be empty" in fail(*command) and not (tmp_path / "s").exists()


def test_corpus_holds_training_sentences_and_second_columns_once(tmp_path):
    (tmp_path / "train.csv").write_text("a\tb\nb\tc\n")
    (tmp_path / "dev.csv").write_text("q\td\nr\ta\n")
    (tmp_path / "test.csv").write_text("s\te\n")
    command = ["generate_recall.py", "--train_set_file", tmp_path / "train.csv", "--similar_text_pair",
               tmp_path / "dev.csv", tmp_path / "test.csv", "--output_file", tmp_path / "new" / "corpus.csv"]
    succeed(*command)
    assert (tmp_path / "new" / "corpus.csv").read_text().split() == list("abcde")
    succeed(*command, "--shuffle", "--seed", 1)
    assert sorted((tmp_path / "new" / "corpus.csv").read_text().split()) == list("abcde")


@pytest.mark.parametrize(("content", "message"), [
    (None, "no such file"), ("", "is empty"), ("一句话\n", ":1: 1 column"), ("a\tb\nc\td\te\n", ":2: 3 columns"),
    (b"a\tb\n\xff\xfe\tc\n", ":2: invalid UTF-8"), ("a\tb\t1\nc\td\t0\n", "look like labels"), ("a\tb\n", "give no batch"),
])
def test_bad_training_files(toy, tmp_path, content, message):
    path = tmp_path / "train.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    error = fail(*TRAIN, "--train_set_file", path, "--save_dir", tmp_path / "out")
    assert message in error and (str(path) in error or "batch" in error)


def test_a_directory_for_a_file(toy, tmp_path):
    assert "is a directory" in fail(*TRAIN, "--train_set_file", toy, "--save_dir", tmp_path / "out")


@pytest.mark.parametrize(("flags", "message"), [
    (["--batch_size", "0"], "whole number from 1 up"),
    (["--learning_rate", "nan"], "a number above 0"),
    (["--warmup_proportion", "1.5"], "a number from 0 to 1"),
    (["--no_such_flag"], "unrecognized arguments: --no_such_flag"),
    (["--device", "gpu"], "CPU build"),
    (["--device", "abacus"], "--device abacus"),
    (["--evaluate"], "--evaluate needs --dev_set_file"),
    (["--model_name_or_path", "no-such-model"], "not a local directory"),
    (["--model_name_or_path", "./no-such-dir"], "no such directory"),
    (["--init_from_ckpt", "nowhere/model_state.pdparams"], "no such checkpoint"),
    (["--early_stopping", "3"], "--early_stopping needs --dev_set_file"),
    (["--resume", "--overwrite"], "not allowed with argument"),
    (["--margin", "nan"], "a finite number"),
    (["--pooling", "pooler", "--pooling_layer", "0"], "the pooler reads the last layer"),
])
def test_bad_flags(toy, tmp_path, flags, message):
    assert message in fail(*train(toy, tmp_path, *flags), timeout=60)


def test_a_missing_flag():
    assert "--train_set_file" in fail(*TRAIN)


def test_unwritable_save_dir(toy, tmp_path):
    (tmp_path / "out").write_text("a file stands where the directory should be")
    assert "is a file" in fail(*train(toy, tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_save_dir_without_permission(toy, tmp_path):
    (tmp_path / "locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    assert "cannot be written" in fail(*train(toy, tmp_path, "--save_dir", tmp_path / "locked" / "out"))
