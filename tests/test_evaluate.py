"""evaluate.py where other implementations are wrong: rows B5 to B11 of the recipe's list of faults, and formats."""

import contextlib
import io
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT, fail, run, succeed

import evaluate as script
from semindex.errors import UserError
from semindex.measure import hits as metrics
from semindex.text import results
from semindex.text.tables import ReadReport


def files(tmp_path, pairs, results):
    (tmp_path / "pairs.csv").write_text("".join(f"{q}\t{p}\n" for q, p in pairs), encoding="utf-8")
    lines = [f"{query}\t{text}\t{1 - 0.001 * rank}\n" for query, texts in results for rank, text in enumerate(texts)]
    (tmp_path / "result.txt").write_text("".join(lines), encoding="utf-8")
    return ["evaluate.py", "--similar_text_pair", tmp_path / "pairs.csv", "--recall_result_file",
            tmp_path / "result.txt"]


def evaluate(tmp_path, pairs, results, *flags):
    """What the script prints, called within this process: a start costs more than all it does."""
    words = [str(word) for word in (*files(tmp_path, pairs, results), *flags)]
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", words)
        patch.chdir(tmp_path)  # where result.tsv goes if no flag says otherwise
        script.main()
    return printed.getvalue().splitlines()


def others(n, tag="x"):
    return [f"{tag}{i}" for i in range(n)]


def test_prints_to_the_character_and_appends_result_tsv(tmp_path):
    pairs = [(f"q{i}", f"p{i}") for i in range(8)]
    results = [(f"q{i}", [*others(i * 3), f"p{i}", *others(40, "y")]) for i in range(8)]
    # positives at ranks 1, 4, 7, 10, 13, 16, 19, 22
    want = ["recall@1=12.5", "recall@5=25.0", "recall@10=50.0", "recall@20=87.5", "recall@50=100.0"]
    assert evaluate(tmp_path, pairs, results) == want
    assert evaluate(tmp_path, pairs, results, "--recall_num", 10) == want[:3]
    lines = [line.split("\t") for line in (tmp_path / "result.tsv").read_text().splitlines()]
    assert lines[0][1:] == ["12.5", "25.0", "50.0", "87.5", "100.0"] and len(lines) == 2
    assert len(lines[0][0]) == len("20261121-120000")


def test_three_decimals(tmp_path):
    pairs = [(f"q{i}", f"p{i}") for i in range(3)]
    results = [("q0", ["p0"]), ("q1", ["x"]), ("q2", ["p2"])]
    assert evaluate(tmp_path, pairs, results)[0] == "recall@1=66.667"


def test_b6_the_last_query_counts(tmp_path):
    pairs = [(f"q{i}", f"p{i}") for i in range(64)]
    results = [(f"q{i}", [f"p{i}", *others(9)]) for i in range(64)]
    assert evaluate(tmp_path, pairs, results, "--recall_num", 10)[0] == "recall@1=100.0"
    results[-1] = ("q63", others(10))
    assert evaluate(tmp_path, pairs, results, "--recall_num", 10)[0] == "recall@1=98.438"


def test_b7_recall_is_never_above_100(tmp_path):
    command = files(tmp_path, [("q", "p")], [("q", ["p", "p", "p"])])
    assert "recalls 'p' twice" in fail(*command, cwd=tmp_path)
    done = run(*command, "--skip_bad_lines", cwd=tmp_path)
    assert "recall@5=100.0" in done.stdout and "2 malformed lines skipped" in done.stderr
    hits = [metrics.hit_ranks("q", ["x", "p", "p"], ["p"])]
    assert hits == [[2]] and metrics.recall_at(hits, 5) == [1.0]


@pytest.mark.slow
def test_b8_every_positive_of_a_query_counts(tmp_path):
    pairs = [("q", "a"), ("q", "b"), ("q", "c")]
    for first in "abc":
        assert evaluate(tmp_path, pairs, [("q", [first, *others(9)])])[0] == "recall@1=100.0"
    assert evaluate(tmp_path, pairs, [("q", ["x", "c", "a", *others(9)])], "--recall_of", "all")[:2] == [
        "recall@1=0.0", "recall@5=66.667"]


def test_b8_a_repeated_query_is_one_query(tmp_path):
    pairs = [("q", "a"), ("q", "b"), ("r", "c")]
    assert evaluate(tmp_path, pairs, [("q", ["a", "b"]), ("r", ["x", "y"])])[0] == "recall@1=50.0"


def test_b9_recall_num_does_not_shift_windows(tmp_path):
    pairs = [(f"q{i}", f"p{i}") for i in range(10)]
    results = [(f"q{i}", [*others(20), f"p{i}", *others(29, "y")]) for i in range(10)]
    assert evaluate(tmp_path, pairs, results)[-1] == "recall@50=100.0"
    assert evaluate(tmp_path, pairs, results, "--recall_num", 10)[-1] == "recall@10=0.0"
    assert evaluate(tmp_path, pairs, results, "--recall_num", 1000)[-1] == "recall@50=100.0"


def test_b9_short_lists_shift_nothing(tmp_path):
    pairs = [(f"q{i}", f"p{i}") for i in range(4)]
    results = [("q0", ["x"]), ("q1", ["x", "p1"]), ("q2", ["p2", *others(30)]), ("q3", [*others(7), "p3"])]
    assert evaluate(tmp_path, pairs, results)[:3] == ["recall@1=25.0", "recall@5=50.0", "recall@10=75.0"]


@pytest.mark.parametrize("place", [0, 4, 9])
def test_b10_a_query_that_recalls_itself_neither_counts_nor_merges(tmp_path, place):
    pairs = [(f"q{i}", f"p{i}") for i in range(3)]
    row = others(8)
    results = []
    for i in range(3):
        texts = [*row, f"p{i}"]
        texts.insert(place, f"q{i}")
        results.append((f"q{i}", texts))
    # without itself the positive is ninth
    assert evaluate(tmp_path, pairs, results, "--recall_num", 10) == ["recall@1=0.0", "recall@5=0.0", "recall@10=100.0"]
    assert [metrics.hit_ranks(query, texts, [f"p{query[1:]}"]) for query, texts in results] == [[9]] * 3


def test_b10_a_query_that_is_its_own_positive_counts(tmp_path):
    assert evaluate(tmp_path, [("q", "q")], [("q", ["q", "x"])])[0] == "recall@1=100.0"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "line", "message"), [
    ("pairs.csv", "a\tb\tc\td", "pairs.csv:3: 4 columns"),
    ("pairs.csv", "only one", "pairs.csv:3: 1 column"),
    ("result.txt", "q0\ttext with\ttab\t0.5", "result.txt:5: 4 columns"),
    ("result.txt", "q0\ttext", "result.txt:5: 2 columns"),
    ("result.txt", "q9\ttext\tbest", "result.txt:5: 'best' is not a cosine"),
    ("result.txt", "q9\ttext\tnan", "result.txt:5: 'nan' is not a cosine"),
    ("result.txt", "q0\tz\t0.1", "result.txt:5: lines of the query 'q0' stand apart"),
    ("result.txt", "q1\tz\t0.9999", "result.txt:5: the cosine rises"),
    ("result.txt", "q1\tb\t0.1", "result.txt:5: the query 'q1' recalls 'b' twice"),
])
def test_b11_a_bad_line_is_named(tmp_path, name, line, message):
    command = files(tmp_path, [("q0", "a"), ("q1", "b")], [("q0", ["a", "x"]), ("q1", ["x", "b"])])
    with open(tmp_path / name, "a") as file:
        file.write(line + "\n")
    assert message in fail(*command, cwd=tmp_path)
    done = run(*command, "--skip_bad_lines", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.splitlines()[1] == "recall@5=100.0"


def test_shuffled_lines_are_refused(tmp_path):
    command = files(tmp_path, [("q0", "a"), ("q1", "b")], [("q0", ["a", "x"]), ("q1", ["x", "b"])])
    lines = (tmp_path / "result.txt").read_text().splitlines(keepends=True)
    (tmp_path / "result.txt").write_text("".join([lines[2], lines[0], lines[3], lines[1]]))
    assert "was shuffled or joined" in fail(*command, cwd=tmp_path)


def test_unknown_and_missing_queries(tmp_path):
    done = run(*files(tmp_path, [("q0", "a"), ("q1", "b")], [("q0", ["a"]), ("zz", ["a"])]), cwd=tmp_path)
    assert done.stdout.splitlines()[0] == "recall@1=50.0"
    assert "no line for 1 of 2 queries" in done.stderr and "1 query is not in" in done.stderr
    assert "was it written for others" in fail(*files(tmp_path, [("q0", "a")], [("zz", ["a"])]), cwd=tmp_path)


@pytest.mark.parametrize("flag", ["--similar_text_pair", "--similar_text_pair_file", "--similar_pair_file"])
def test_every_spelling_of_the_pair_file(tmp_path, flag):
    command = files(tmp_path, [("q", "a")], [("q", ["a"])])
    assert succeed("evaluate.py", flag, *command[2:], cwd=tmp_path)
    fail("evaluate.py", "--similar_text", *command[2:], cwd=tmp_path)  # no guessing of prefixes


@pytest.mark.slow
def test_formats(tmp_path):
    pairs = [("q", "a"), ("r", "b")]
    results = [("q", ["a"]), ("r", ["x", "b"])]
    assert evaluate(tmp_path, pairs, results, "--format", "short") == ["100.0\t100.0"]
    assert json.loads(evaluate(tmp_path, pairs, results, "--format", "json", "--mrr")[0]) == {
        "recall@1": 50.0, "recall@5": 100.0, "recall@10": 100.0, "recall@20": 100.0, "recall@50": 100.0,
        "mrr@50": 75.0}
    (tmp_path / "second.txt").write_text("q\ta\t1\nr\tb\t1\n")
    table = evaluate(tmp_path, pairs, results, tmp_path / "second.txt")
    assert table[0].split()[:2] == ["recall@1", "recall@5"]
    assert table[1].split()[:2] == ["result.txt", "50.00"] and table[2].split()[:2] == ["second.txt", "100.00"]


def test_labelled_pairs_count_where_they_match(tmp_path):
    command = files(tmp_path, [("q", "a"), ("q", "b"), ("r", "c")], [("q", ["b", "a"]), ("r", ["c"])])
    (tmp_path / "pairs.csv").write_text("q\ta\t1\nq\tb\t0\nr\tc\t0\n")
    done = run(*command, cwd=tmp_path)
    assert done.stdout.splitlines()[:2] == ["recall@1=0.0", "recall@5=100.0"] and "2 label-0 lines" in done.stderr
    (tmp_path / "pairs.csv").write_text("q\ta\t0\n")
    assert "no pair has a label above 0" in fail(*command, cwd=tmp_path)


def test_kinds_of_files_are_measured_one_after_the_other(tmp_path):
    (tmp_path / "labelled.csv").write_text("a\tb\t1\nc\td\t0\n")
    (tmp_path / "scores").write_text("0.9\n0.1\n")
    pairs = ["--labelled_file", tmp_path / "labelled.csv", "--score_file", tmp_path / "scores"]
    lines = evaluate(tmp_path, [("q", "a")], [("q", ["a", *others(49)])], *pairs)
    assert lines[0] == "recall@1=100.0" and any(line.startswith("average_precision=100.0") for line in lines[5:])


def test_a_list_shorter_than_recall_num_is_said(tmp_path):
    done = run(*files(tmp_path, [("q", "a")], [("q", ["b", "a"])]), cwd=tmp_path)
    assert "the longest list holds 2 texts" in done.stderr and "recall@50=100.0" in done.stdout


def test_unwritable_result_tsv_is_a_warning(tmp_path):
    done = run(*files(tmp_path, [("q", "a")], [("q", ["a"])]), "--result_tsv", tmp_path / "no" / "r.tsv", cwd=tmp_path)
    assert done.returncode == 0 and "warning: --result_tsv" in done.stderr


SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if "cli.run(main)" in path.read_text())


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_imports_no_framework(script):
    check = (f"import sys, runpy; sys.argv = [{str(ROOT / script)!r}, '--help']\n"
             f"try: runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
             "except SystemExit as end: assert end.code == 0\n"
             "heavy = {'paddle', 'paddlenlp', 'numpy', 'hnswlib'} & set(sys.modules)\n"
             "assert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:") and "(default: " not in done.stdout  # what is usual stands in [...]
    dropout = {"train_simcse.py": "[0.1]", "train_distill.py": "[0.0]"}
    if script in dropout:
        assert dropout[script] in done.stdout.rpartition("--dropout DROPOUT")[2].partition("--head_dropout")[0]


def test_evaluate_imports_no_framework(tmp_path):
    command = files(tmp_path, [("q", "a")], [("q", ["a"])])
    check = (f"import sys, runpy; sys.argv = {[str(word) for word in command]!r}; sys.path.insert(0, {str(ROOT)!r})\n"
             f"try: runpy.run_path({str(ROOT / 'evaluate.py')!r}, run_name='__main__')\n"
             "except SystemExit as end: assert end.code == 0\n"
             "assert not {'paddle', 'paddlenlp'} & set(sys.modules)")
    assert subprocess.run([sys.executable, "-c", check], cwd=tmp_path).returncode == 0


def test_a_large_file_is_read_as_a_small_one(tmp_path):
    """Several blocks, queries across their borders; a flaw behind the first block neither loses nor repeats one."""
    path = tmp_path / "result"
    rows = [(f"问题{i}", [(f"第{j}个答案" * 3, 1 - j / 100) for j in range(20)]) for i in range(3000)]
    results.write_recall_result(str(path), rows)
    assert os.path.getsize(path) > 2 * 2**20
    expected = [(query, [text for text, _ in found]) for query, found in rows]
    assert list(results.read_recall_result(str(path))) == expected
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[50_000] = "问题\t坏的"
    path.write_text("\n".join(lines), encoding="utf-8")
    count = ReadReport(str(path))
    assert [query for query, _ in results.read_recall_result(str(path), True, count)] == [query for query, _ in rows]
    assert count.bad == 1
    with pytest.raises(UserError, match="result:50001: 2 columns"):
        list(results.read_recall_result(str(path)))


def test_rankings_are_alike_but_for_rounding():
    def row(*scores, names="abcd"):
        return list(zip(names, scores))

    def alike(one, two):
        return metrics.ranked_alike(one, two, 1e-3)

    assert alike(row(0.9, 0.5, 0.4), row(0.9002, 0.5, 0.4)) and alike([], [])
    assert alike(row(0.9, 0.5, 0.5), row(0.9, 0.5, 0.5, names="acb"))  # equal ones in any order
    assert alike(row(0.9, 0.5), row(0.9, 0.5, names="ac"))  # of equal ones at the end any
    assert not alike(row(0.9, 0.5, 0.4), row(0.9, 0.5, 0.4, names="dbc"))  # another is first
    assert not alike(row(0.9, 0.8, 0.4), row(0.9, 0.8, 0.4, names="bac"))  # two have changed places
    assert not alike(row(0.9, 0.5), row(0.9, 0.51)) and not alike(row(0.9, 0.5), row(0.9))
