"""The scripts with --index_type milvus: they find what exact search finds; wrong addresses are one line."""

import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, TRAIN, fail, run, succeed

pytestmark = pytest.mark.slow


def recall(checkpoint, toy, name, *flags):
    return ["recall.py", "--device", "cpu", "--params_path", checkpoint, "--corpus_file", toy / "corpus.csv",
            "--similar_text_pair", toy / "dev.csv", "--recall_num", 5, "--recall_result_dir", "out",
            "--recall_result_file", name, *flags]


LITE = ("--index_type", "milvus", "--milvus_uri", "lite.db")


def alike(folder, one, two):
    """Compare two result files: the same texts, cosines to 1e-5."""
    rows = [[line.split("\t") for line in (folder / "out" / name).read_text().splitlines()] for name in (one, two)]
    assert [row[:2] for row in rows[0]] == [row[:2] for row in rows[1]]
    assert all(abs(float(a[2]) - float(b[2])) < 1e-5 for a, b in zip(*rows))


def test_recall_finds_what_exact_search_finds(checkpoint, toy, tmp_path):
    succeed(*recall(checkpoint, toy, "exact", "--index_type", "exact"), cwd=tmp_path)
    said = succeed(*recall(checkpoint, toy, "once", *LITE), cwd=tmp_path)
    assert "_tmp_" in said  # without --index_dir nothing is kept
    alike(tmp_path, "exact", "once")
    kept = recall(checkpoint, toy, "kept", *LITE, "--index_dir", "index", "--milvus_collection", "toy")
    assert "36 new" in succeed(*kept, cwd=tmp_path)
    alike(tmp_path, "exact", "kept")
    assert "reused" in succeed(*kept, cwd=tmp_path)
    alike(tmp_path, "exact", "kept")
    assert "36 kept" in succeed(*kept, "--rebuild_index", cwd=tmp_path)  # encoded anew, and nothing was sent
    assert "was built with milvus" in fail(*kept, "--index_type", "hnsw", cwd=tmp_path)
    os.rename(tmp_path / "lite.db", tmp_path / "gone.db")
    assert "is not there any more; build the index again with --rebuild_index" in fail(*kept, cwd=tmp_path)


def test_hybrid_by_milvus_and_by_ours(checkpoint, toy, tmp_path):
    said = succeed(*recall(checkpoint, toy, "theirs", *LITE, "--method", "hybrid"), cwd=tmp_path)
    assert "keyword search by the BM25 of Milvus" in said
    rows = (tmp_path / "out" / "theirs").read_text().splitlines()
    assert len(rows) == 12 * 5
    ours = succeed(*recall(checkpoint, toy, "ours", *LITE, "--method", "hybrid", "--milvus_full_text", "never"), cwd=tmp_path)
    assert "BM25 of Milvus" not in ours
    succeed(*recall(checkpoint, toy, "exact", "--method", "hybrid"), cwd=tmp_path)
    alike(tmp_path, "exact", "ours")


def test_mining_and_ance_find_the_same_negatives(checkpoint, toy, tmp_path):
    mine = ["mine_negatives.py", "--device", "cpu", "--params_path", checkpoint, "--train_set_file", toy / "train.csv",
            "--corpus_file", toy / "corpus.csv", "--negatives", 3, "--rank_max", 20, "--output_file"]
    for name, flags in (("exact", ()), ("milvus", LITE)):
        succeed(*mine, f"{name}.csv", *flags, cwd=tmp_path)
        succeed("train_ance.py", *TRAIN[1:], "--train_set_file", toy / "train.csv", "--corpus_file", toy / "corpus.csv",
                "--init_from_ckpt", checkpoint, "--refresh_steps", 2, "--max_steps", 4, "--topk_training", 10,
                "--negative_sample", 3, "--ann_dir", f"ann_{name}", "--save_dir", f"save_{name}", *flags, cwd=tmp_path)
    assert (tmp_path / "exact.csv").read_text() == (tmp_path / "milvus.csv").read_text()
    generations = [sorted(os.listdir(tmp_path / f"ann_{name}")) for name in ("exact", "milvus")]
    assert generations[0] == generations[1] and generations[0]


def test_a_faq_is_asked_in_milvus(checkpoint, tmp_path):
    (tmp_path / "faq.tsv").write_text("卡丢了怎么办\t挂失\t卡\t卡不见了\n怎么退款\t点退款\t钱\n几点开门\t九点\t店\n", encoding="utf-8")
    answers = []
    for name, flags in (("exact", ()), ("milvus", LITE)):
        succeed("build_faq.py", "--device", "cpu", "--params_path", checkpoint, "--faq_file", "faq.tsv", "--output_dir", name,
                *flags, cwd=tmp_path)
        answers.append(succeed("ask.py", "--device", "cpu", "--faq_dir", name, "--explain", "卡丢了", "退钱", cwd=tmp_path))
    assert answers[0] == answers[1]
    about = json.loads((tmp_path / "milvus" / "index" / "milvus.json").read_text())
    assert about["uri"] == str(tmp_path / "lite.db") and about["collection"].startswith("semindex_v")
    moved = tmp_path / "moved.db"
    os.rename(tmp_path / "lite.db", moved)
    assert succeed("ask.py", "--device", "cpu", "--faq_dir", "milvus", "--milvus_uri", moved, "--explain", "卡丢了", "退钱",
                   cwd=tmp_path) == answers[0]


def test_a_wrong_address_is_one_line(checkpoint, toy, tmp_path):
    command = recall(checkpoint, toy, "x", "--index_type", "milvus")
    assert "needs --milvus_uri" in fail(*command, cwd=tmp_path)
    assert "cannot be reached" in fail(*command, "--milvus_uri", "http://127.0.0.1:9", "--milvus_timeout", 0.1, "--milvus_token",
                                       "root:secret", cwd=tmp_path)
    assert "ends in .db" in fail(*command, "--milvus_uri", "place", cwd=tmp_path)
    (tmp_path / "x.db").write_text("mine")
    assert "is a file" in fail(*command, "--milvus_uri", "x.db", cwd=tmp_path)
    assert (tmp_path / "x.db").read_text() == "mine"
    assert "a name has letters" in fail(*command, "--milvus_uri", "l.db", "--milvus_collection", "a-b", cwd=tmp_path)


def test_a_file_is_used_by_one_process(checkpoint, toy, tmp_path):
    hold = ("import sys; sys.path.insert(0, sys.argv[1])\nfrom semindex.search.milvus_client import Connection\n"
            "from semindex.search.milvus_settings import MilvusSettings\n"
            "Connection(MilvusSettings('lite.db')).client\nprint('open', flush=True)\nsys.stdin.read()")
    other = subprocess.Popen([sys.executable, "-c", hold, str(ROOT)], cwd=tmp_path, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "open\n"
        said = fail(*recall(checkpoint, toy, "x", *LITE, "--milvus_timeout", 0.1), cwd=tmp_path)
        assert "lite.db: cannot be opened" in said and "one process at a time" in said
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert run(*recall(checkpoint, toy, "x", *LITE), cwd=tmp_path).returncode == 0  # a kill leaves no lock behind
