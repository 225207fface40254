"""The FAQ's scripts as a user runs them: the tutorial, and what recall, ask and calibrate say of wrong input."""

import json
import os
import re
import shlex

import pytest
from conftest import ROOT, SUBJECTS, fail, run, succeed

pytestmark = pytest.mark.slow
FRAMES = ["{}怎么办", "我的{}该咋处理", "{}了找谁", "请问{}要怎么弄", "{}，急", "想问{}的事"]


def commands(path):
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(" ".join(line.split()))[1:] for line in re.findall(r"^ {4}(python \S.*)$", text, re.M)]


def test_the_tutorial_runs(tmp_path):
    """Replaced is only what costs minutes: 1 of the 12 layers, 2 of the 60 steps."""
    os.symlink(ROOT / "datasets", tmp_path / "datasets")
    replies = tmp_path / "output" / "faq" / "replies.jsonl"
    for words in commands(ROOT / "docs" / "faq.md"):
        words = [{"60": "2"}.get(word, word) if before == "--max_steps" else word for before, word in zip(["", *words], words)]
        words += ["--layers", "1"] if words[0] == "import_weights.py" else []
        done = run(*words, "--device", "cpu", cwd=tmp_path) if "--device" in run(words[0], "--help").stdout else \
            run(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        if words[0] == "ask.py" and not (tmp_path / "output" / "faq" / "faq.calibration.json").exists():
            assert "not calibrated" in done.stderr and done.stdout.startswith("Did you mean\n  1  ")
        if words[0] == "evaluate.py":
            shown = {line.split("=")[0] for line in done.stdout.splitlines()}  # without answers there is no precision
            assert {"answer@1", "mrr", "coverage", "refusal recall", "false answers"} <= shown
    rows = [json.loads(line) for line in replies.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len((tmp_path / "output" / "faq" / "data" / "test.tsv").read_text(encoding="utf-8").splitlines()) == 590
    assert {row["state"] for row in rows} <= {"answer", "suggest", "none"} and all(row["hits"] for row in rows)
    about = json.loads((tmp_path / "output" / "faq" / "faq.calibration.json").read_text(encoding="utf-8"))
    assert about["measured"]["questions"] == 590 and about["measured"]["with an answer"] == 520
    assert (tmp_path / "output" / "faq" / "precision.png").read_bytes()[:4] == b"\x89PNG"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A small encoder, corpus and pairs, a FAQ and its questions."""
    folder = tmp_path_factory.mktemp("faq")
    groups = [[frame.format(subject) for frame in FRAMES] for subject in SUBJECTS]

    def write(name, lines):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    write("train.csv", [f"{g[0]}\t{g[1]}" for g in groups])
    write("corpus.csv", [text for g in groups for text in g[:3]])
    write("dev.csv", [f"{g[3]}\t{g[0]}" for g in groups])
    write("faq.tsv", [f"{g[0]}\t答案{i}\t服务\t{g[1]}" for i, g in enumerate(groups)])
    write("questions.tsv", [*(f"{text}\t{g[0]}" for g in groups for text in g[2:5]), "明天下雨吗\t", "讲个笑话\t"])
    succeed("train_batch_neg.py", "--device", "cpu", "--model_name_or_path", "scratch-1x32", "--output_emb_size", "16",
            "--train_set_file", "train.csv", "--max_steps", "20", "--learning_rate", "1e-3", "--save_dir", "run", cwd=folder)
    succeed("build_faq.py", "--device", "cpu", "--faq_file", "faq.tsv", "--params_path", "run/latest", "--output_dir", "faq",
            cwd=folder)
    return folder


RECALL = ["recall.py", "--device", "cpu", "--corpus_file", "corpus.csv"]
ASKED = [*RECALL, "--similar_text_pair", "dev.csv", "--recall_result_dir", "out", "--recall_num", "6"]


def rows(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def test_recall_by_keyword_is_keyword_recall(place):
    succeed(*ASKED, "--method", "keyword", "--recall_result_file", "keyword", cwd=place)
    succeed("keyword_recall.py", *ASKED[3:], "--recall_result_file", "bm25", cwd=place)
    assert rows(place / "out" / "keyword") == rows(place / "out" / "bm25")


def test_a_hybrid_recall_explains_itself(place):
    text = succeed(*ASKED, "--params_path", "run/latest", "--method", "hybrid", "--recall_result_file", "hybrid", "--explain",
                   cwd=place)
    for method in ("dense", "keyword"):
        succeed(*ASKED, "--method", method, "--recall_result_file", method, "--recall_num", "100",
                *(["--params_path", "run/latest"] if method == "dense" else []), cwd=place)
    ranks = {(method, query, other): rank for method in ("dense", "keyword")
             for query in {row[0] for row in rows(place / "out" / method)}
             for rank, (_, other, _) in enumerate((r for r in rows(place / "out" / method) if r[0] == query), 1)}
    fused = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 6:
            query, found, score, source, rank, _ = fields
            assert ranks[source, query, found] == int(rank)
            fused.setdefault((query, found), [float(score), 0.0])[1] += 1 / (60 + int(rank))
    assert len(fused) == len(rows(place / "out" / "hybrid")) == 6 * len(SUBJECTS)
    for score, total in fused.values():
        assert score == pytest.approx(total, abs=2e-6)
    typed = succeed(*RECALL, "--params_path", "run/latest", "--method", "hybrid", "--query", f"{SUBJECTS[0]} 怎么办？",
                    "--explain", cwd=place)
    assert re.search(rf"^ +1  0\.\d+  {SUBJECTS[0]}怎么办   dense \d+ \(0\.\d+\), keyword \d+ \(\d+\.\d+\)$", typed, re.M)


@pytest.mark.parametrize(("flags", "message"), [
    (["--method", "hybrid"], "--params_path is missing: --method hybrid needs an encoder"),
    (["--method", "keyword", "--fusion", "rrf"], "--fusion is of --method hybrid"),
    (["--method", "keyword", "--index_dir", "x"], "--index_dir: is of the vector index"),
    (["--method", "hybrid", "--fusion_weights", "0", "0"], "one of them must be above 0"),
    (["--method", "hybrid", "--fusion", "minmax", "--rrf_k", "3"], "--rrf_k is of --fusion rrf"),
    (["--calibration", "faq.tsv"], "faq.tsv"),
    (["--calibration", "nothing.json"], "nothing.json"),
    ([], "--params_path is missing"),
])
def test_methods_that_cannot_be_are_refused(place, flags, message):
    assert message in fail(*ASKED, *flags, cwd=place)


def test_a_wrong_keyword_index_is_told_before_the_corpus_is_encoded(place):
    flags = ["--params_path", "run/latest", "--keyword_dir", "words"]
    succeed(*ASKED, "--method", "keyword", "--keyword_dir", "words", "--tokens", "word", cwd=place)
    assert "was built with other --tokens" in fail(*ASKED, *flags, "--method", "hybrid", "--index_dir", "new", cwd=place)
    assert "was built with other --tokens" in fail(
        "calibrate.py", "--device", "cpu", *flags, "--corpus_file", "corpus.csv", "--similar_text_pair", "dev.csv",
        "--output_file", "not.json", "--index_dir", "new", cwd=place)
    assert not (place / "new").exists() and not (place / "not.json").exists()


def test_a_calibration_serves_the_encoder_it_was_made_with(place):
    flags = ["--params_path", "run/latest", "--corpus_file", "corpus.csv", "--similar_text_pair", "dev.csv"]
    text = succeed("calibrate.py", "--device", "cpu", *flags, "--output_file", "choice.json", cwd=place)
    chosen = json.loads((place / "choice.json").read_text(encoding="utf-8"))["method"]
    assert f"choice.json: method {chosen}" in text and re.search(r"^hybrid against (dense|keyword): ", text, re.M)
    succeed(*ASKED, "--params_path", "run/latest", "--calibration", "choice.json", "--recall_result_file", "one", cwd=place)
    succeed(*ASKED, *([] if chosen == "keyword" else ["--params_path", "run/latest"]), "--method", chosen,
            "--recall_result_file", "two", cwd=place)
    if chosen != "hybrid":
        assert rows(place / "out" / "one") == rows(place / "out" / "two")
    assert "both say" in fail(*ASKED, "--params_path", "run/latest", "--calibration", "choice.json", "--method", "dense", cwd=place)
    about = json.loads((place / "choice.json").read_text(encoding="utf-8"))
    (place / "words.json").write_text(json.dumps(about | {"method": "keyword", "measured": {
        "keyword search": {"tokens": "word", "k1": 1.5, "b": 0.75}}}), encoding="utf-8")
    assert "was made with --tokens word --k1 1.5 --b 0.75" in fail(*ASKED, "--calibration", "words.json", cwd=place)
    (place / "other.json").write_text(json.dumps(about | {"encoder": "another", "method": "dense"}), encoding="utf-8")
    assert "made with another encoder" in fail(*ASKED, "--params_path", "run/latest", "--calibration", "other.json", cwd=place)


def test_a_faq_is_asked_in_every_way(place):
    asking = ["ask.py", "--device", "cpu", "--faq_dir", "faq"]
    text = succeed("calibrate.py", "--device", "cpu", "--faq_dir", "faq", "--questions_file", "questions.tsv", "--precision", "0.8",
                   cwd=place)
    assert "faq.calibration.json: method " in text
    same = f"{SUBJECTS[3]}怎么办？"
    assert succeed(*asking, same, cwd=place).startswith("答案3\n  question: ")
    two = succeed(*asking, same, "讲个笑话", "--explain", cwd=place)
    assert two.startswith(f"{same}\n答案3\n") and "\n讲个笑话\n" in two
    piped = run(*asking, cwd=place)  # standard input is closed or empty
    assert piped.returncode in (0, 2)
    succeed(*asking, "--questions_file", "questions.tsv", "--output_file", "replies.jsonl", "--top", "5", cwd=place)
    replies = [json.loads(line) for line in (place / "replies.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(replies) == 3 * len(SUBJECTS) + 2 and all(len(reply["hits"]) <= 5 for reply in replies)
    succeed("export_model.py", "--params_path", "run/latest", "--output_path", "export", cwd=place)
    assert "is another encoder than the FAQ was built with" in fail(*asking, "--model_dir", "export", same, cwd=place)
    succeed("build_faq.py", "--device", "cpu", "--faq_file", "faq.tsv", "--model_dir", "export", "--output_dir", "served", cwd=place)
    assert succeed("ask.py", "--device", "cpu", "--faq_dir", "served", same, cwd=place).splitlines()[0] == "Did you mean"
    succeed("build_faq.py", "--device", "cpu", "--faq_file", "faq.tsv", "--params_path", "run/latest", "--output_dir", "faq",
            "--tokens", "word", cwd=place)
    stale = run(*asking, same, cwd=place)
    assert stale.returncode == 0 and "was made with another FAQ" in stale.stderr
