"""What predict.py, inference.py and deploy/python/predict.py take and give, without a checkpoint where none is needed."""

import os
import re
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, SUBJECTS, fail, run, succeed

from models import encoders, export, loading
from models.weights import scratch
from semindex.encode.encoder import encode
from semindex.encode.exported import Predictor, read_manifest, similarity_of
from semindex.encode.pairs import cosines, pair_cosines
from semindex.encode.text_encoder import TextEncoder
from semindex.errors import UserError
from semindex.search import by_hand
from semindex.text.aligned import aligned_results, aligned_rows
from semindex.text.counted import counted, verb
from semindex.text.streams import given_texts
from semindex.text.tables import ReadReport

DEPLOY = "deploy/python/predict.py"


@pytest.fixture(scope="module")
def dotted(tmp_path_factory):
    """A checkpoint for dot products, as train_ance.py --similarity dot makes them, and its export."""
    folder = tmp_path_factory.mktemp("dot")
    model, tokenizer = loading.create("scratch-1x32", {"similarity": "dot", "output_emb_size": 16}, SUBJECTS, "ance")
    model.eval()
    (folder / "run").mkdir()
    loading.save(model, tokenizer, str(folder / "run"))
    export.export(model, tokenizer, str(folder / "export"), ["paddle"], "x")
    return SimpleNamespace(run=folder / "run", export=folder / "export", encoder=encoders.dynamic(model, tokenizer))


def test_a_cosine_is_a_cosine_whatever_the_lengths():
    rows = np.random.default_rng(0).normal(size=[3000, 256]).astype(np.float32) * 1e3
    same = cosines(rows, rows * np.float32(7))
    assert same.dtype == np.float32 and same.max() <= 1 and same.min() > 0.99999
    assert cosines(rows, -rows).min() >= -1
    np.testing.assert_allclose(cosines(rows[:1], rows[1:2]), [rows[0] @ rows[1] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1])], rtol=1e-4)
    assert cosines(np.zeros([1, 4], np.float32), np.ones([1, 4], np.float32)) == [0]


def test_cosines_in_files_are_within_one_and_inner_products_as_they_are():
    products = np.array([1.0000001, 0.5, -1.0000002], np.float32)
    encoder = TextEncoder(lambda ids: ids, None, 1)
    assert encoder.scores(products).tolist() == [1, 0.5, -1]
    encoder.similarity = "dot"
    assert encoder.scores(products * 30).max() > 30


@pytest.mark.slow
def test_a_dot_encoder_gives_cosines_and_says_so(dotted, tmp_path):
    (tmp_path / "pairs").write_text("卡丢了\t退押金\n卡丢了\t卡丢了\n", encoding="utf-8")
    assert np.linalg.norm(dotted.encoder(["卡丢了"])[0]) > 2  # an inner product would be far above 1
    for command in (["predict.py", "--device", "cpu", "--params_path", dotted.run], [DEPLOY, "--model_dir", dotted.export]):
        done = run(*command, "--text_pair_file", tmp_path / "pairs")
        assert done.returncode == 0, done.stderr
        other, same = map(float, done.stdout.split())
        assert -1 <= other < same <= 1 and same == pytest.approx(1, abs=1e-5)
        assert "trained for inner products" in done.stderr


def test_the_manifest_carries_the_similarity_and_old_ones_leave_it_to_the_settings(dotted):
    manifest = read_manifest(str(dotted.export))
    assert manifest["similarity"] == "dot" == Predictor(str(dotted.export)).similarity
    del manifest["similarity"]
    assert similarity_of(str(dotted.export), manifest) == "dot"
    assert similarity_of(str(dotted.export), manifest | {"files": {}}) == "cosine"


def test_every_line_has_its_result(tmp_path):
    path = tmp_path / "pairs"
    path.write_text("\na\tb\n\nonly one\nc\td\t1\na\tb\tc\td\n \t \n", encoding="utf-8")
    lines = ReadReport(str(path))
    rows = aligned_rows(str(path), (2, 3), True, lines)
    assert "".join(aligned_results(rows, lambda pairs: [row[0] for row in pairs])).split() == [
        "nan", "a", "nan", "nan", "c", "nan", "nan"]
    assert (lines.rows, lines.blank, lines.bad) == (2, 3, 2)
    with pytest.raises(UserError, match=":4: 1 column; expected"):
        list(aligned_rows(str(path), (2, 3), False, ReadReport(str(path))))


@pytest.mark.slow
def test_deploy_reads_as_predict_does(exported_old, tmp_path):
    pairs = "卡丢了\t退押金\n\n卡丢了\t卡丢了\t1\n"
    command = [sys.executable, ROOT / DEPLOY, "--model_dir", exported_old, "--text_pair_file"]
    done = subprocess.run([*command, "-"], input=pairs, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, gap, same = done.stdout.split()
    assert gap == "nan" and -1 <= float(first) < float(same) <= 1 and "1 blank line skipped" in done.stderr
    (tmp_path / "pairs").write_text(pairs + "a\tb\tc\td\n", encoding="utf-8")
    assert "pairs:4: 4 columns" in fail(DEPLOY, "--model_dir", exported_old, "--text_pair_file", tmp_path / "pairs")
    out = succeed(DEPLOY, "--model_dir", exported_old, "--text_pair_file", tmp_path / "pairs", "--skip_bad_lines").split()
    assert out[1:2] + out[3:] == ["nan", "nan"] and float(out[0]) == pytest.approx(float(first), abs=1e-5)
    assert "pairs:1: 2 columns" in fail(DEPLOY, "--model_dir", exported_old, "--text_file", tmp_path / "pairs")


@pytest.fixture(scope="module")
def exported_old(tmp_path_factory):
    """The exported directory of the last commit before the move."""
    folder = tmp_path_factory.mktemp("old")
    shutil.unpack_archive(ROOT / "tests" / "fixtures" / "before_the_move.tar.gz", folder)
    return folder / "export"


@pytest.mark.slow
@pytest.mark.parametrize(("flag", "value", "told"), [("--cpu_threads", 10**6, "from 1 to 1024"),
                                                      ("--cpu_threads", 2**40, "from 1 to 1024"),
                                                      ("--max_seq_length", 1, "from 3 to 8192")])
def test_deploy_bounds_its_numbers(flag, value, told, tmp_path):
    assert told in fail(DEPLOY, "--model_dir", tmp_path, flag, value)


@pytest.mark.slow
def test_a_text_that_stands_twice_is_written_twice(checkpoint, tmp_path):
    succeed("inference.py", "--device", "cpu", "--params_path", checkpoint, "--text", "退款", "退款", "改签", "--output_file",
            tmp_path / "x.npy")
    vectors = np.load(tmp_path / "x.npy")
    assert vectors.shape == (3, 16) and np.array_equal(vectors[0], vectors[1]) and not np.allclose(vectors[0], vectors[2])
    assert os.listdir(tmp_path) == ["x.npy"]


def test_arguments_are_utf8_whatever_the_locale():
    assert given_texts("--text", ["退款", "a\nb"]) == ["退款", "a b"]
    with pytest.raises(UserError, match=r"--text: text 2 is no valid UTF-8 \(byte 2\)"):
        given_texts("--text", ["a", os.fsdecode(b"a\xff")])
    with pytest.raises(UserError, match="an empty text"):
        given_texts("--text", ["a", " "])
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    code = "import sys; from semindex.text.streams import given_texts; print(ascii(given_texts('--text', sys.argv[1:])))"
    done = subprocess.run([sys.executable, "-c", code, "退款"], env=os.environ | env, capture_output=True, text=True)
    assert done.stdout.strip() == ascii(["退款"]), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", [["inference.py", "--params_path", "none"], [DEPLOY, "--model_dir", "none"]])
def test_an_argument_that_is_no_utf8_is_one_error(script):
    assert "--text: text 1 is no valid UTF-8" in fail(*script, "--text", os.fsdecode(b"\xff"))


@pytest.mark.slow
@pytest.mark.parametrize("script", [["predict.py", "--params_path", "none"], [DEPLOY, "--model_dir", "none"]])
@pytest.mark.parametrize(("closed", "told"), [(0, "standard input is closed"), (1, "standard output is closed")])
def test_a_closed_stream_is_one_error(script, closed, told):
    words = [sys.executable, str(ROOT / script[0]), *script[1:], "--text_pair_file", "-"]
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}{"<" if closed == 0 else ">"}&-', "sh", *words],
                          capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert told in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", [["inference.py", "--params_path", "none"],
                                    ["predict.py", "--params_path", "none", "--text_pair_file", "-"],
                                    [DEPLOY, "--model_dir", "none", "--text_file", "-"]])
def test_an_idle_pipe_is_waited_for_and_said_so_once(script):
    words = [sys.executable, "-u", str(ROOT / script[0]), *script[1:]]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        timer = threading.Timer(60, child.kill)
        timer.start()
        told = child.stderr.readline()  # blocks until the line is there; without it, the timer ends the test
        rest = child.communicate("甲\t乙\n" if "--text_pair_file" in script else "甲\n")[1]
        timer.cancel()
    assert told.startswith("reading standard input") and "reading" not in rest
    assert child.returncode == 2 and "none: no such" in rest


@pytest.mark.slow
def test_input_that_comes_at_once_is_read_without_a_word(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "predict.py", "--params_path", "none", "--text_pair_file", "-"], input="a\n",
                          capture_output=True, text=True)
    assert done.stderr.startswith("error: -:1: 1 column; expected") and done.stderr.count("\n") == 1


def test_a_number_and_its_noun_agree():
    assert [counted(n, "text") for n in (0, 1, 2)] == ["0 texts", "1 text", "2 texts"]
    assert counted(2, "query", "queries") == "2 queries" and counted(1, "query", "queries") == "1 query"
    assert verb(1, "reaches", "reach") == "reaches" and verb(2, "reaches", "reach") == "reach"
    assert ReadReport("x", blank=1, bad=2).notes() == ", 1 blank line skipped, 2 malformed lines skipped"


@pytest.mark.slow
def test_an_index_that_is_used_again_costs_no_export(checkpoint, toy, tmp_path, monkeypatch, capsys):
    """From the number of texts on that pays for an export, and with an index that has them, only queries are encoded."""
    import recall

    asked = []
    usual = encoders.fast_encoder
    monkeypatch.setattr(encoders, "fast_encoder", lambda *args: asked.append(args[3]) or usual(*args))
    words = ["recall.py", "--device", "cpu", "--params_path", str(checkpoint), "--corpus_file", str(toy / "corpus.csv"),
             "--similar_text_pair", str(toy / "dev.csv"), "--recall_result_dir", str(tmp_path), "--index_dir",
             str(tmp_path / "index")]
    monkeypatch.setattr(sys, "argv", words)
    for expected in (36 + 12, 12):
        recall.main()
        assert asked.pop() == expected and not asked
    assert "reused" in capsys.readouterr().out


def test_a_directory_whose_name_begins_with_scratch_is_a_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, ours in (("scratch-2x64", True), ("scratch", True), ("scratchpad", False), ("scratchpad/run", False), ("", False)):
        assert scratch.claims(name) == ours
    (tmp_path / "scratch-2x64").mkdir()
    assert not scratch.claims("scratch-2x64")


class Counted:
    """An engine that counts the texts it is given."""

    def __init__(self, run):
        self.run, self.texts = run, 0

    def __call__(self, ids):
        self.texts += len(ids)
        return self.run(ids)


@pytest.mark.slow
def test_pairs_are_encoded_once_by_whatever_encodes(checkpoint):
    model, tokenizer = loading.load(str(checkpoint), {})
    encoder = encoders.dynamic(model, tokenizer)
    encoder.run = Counted(encoder.run)
    seen, pairs = ["卡丢了", "退押金"], [["卡丢了", "退押金"], ["退押金", "卡丢了", "1"]]
    found = pair_cosines(encoder, pairs, alone=True)
    assert encoder.run.texts == 2
    np.testing.assert_allclose(found, pair_cosines(encoder, pairs), atol=1e-6)
    np.testing.assert_allclose(found[0], np.prod(encode(encoder, seen), axis=0).sum(), atol=1e-6)


def test_a_typed_line_of_another_encoding_is_asked_for_again(monkeypatch, capsys):
    lines = ["退款", "", os.fsdecode(b"\xbf\xa8"), "卡丢了"]

    def asked(_):
        if not lines:
            raise EOFError
        return lines.pop()

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", asked)
    assert list(by_hand.typed(False)) == ["卡丢了", "退款"] and "no valid UTF-8" in capsys.readouterr().err


@pytest.mark.slow
def test_queries_typed_by_hand(toy, checkpoint, tmp_path):
    """The nearest texts on the terminal, best first; nothing is written. Of a pipe each line is a query."""
    base = ["recall.py", "--params_path", checkpoint, "--corpus_file", toy / "corpus.csv", "--recall_num", 3]
    lines = succeed(*base, "--query", "卡丢了怎么办", "退押金", cwd=tmp_path).splitlines()
    for query in ("卡丢了怎么办", "退押金"):
        place = lines.index(query)
        found = [re.fullmatch(r" {3}(\d)  (-?\d\.\d{4})  (.+)", line) for line in lines[place + 1 : place + 4]]
        assert [match[1] for match in found] == ["1", "2", "3"]
        assert sorted((float(match[2]) for match in found), reverse=True) == [float(match[2]) for match in found]
    assert os.listdir(tmp_path) == []
    typed = subprocess.run([sys.executable, str(ROOT / "recall.py"), *map(str, base[1:]), "--interactive"], cwd=tmp_path,
                           input="卡丢了怎么办\n\n退押金\n", capture_output=True, text=True, timeout=200)
    assert typed.returncode == 0, typed.stderr
    # One by one and two at once are batches of other shapes: the last digits are the processor's.
    for one, two in zip(typed.stdout.splitlines()[-8:], lines[-8:], strict=True):
        assert one == two or abs(float(one.split()[1]) - float(two.split()[1])) < 3e-4
    assert "invalid UTF-8" in subprocess.run(
        [sys.executable, str(ROOT / "recall.py"), *map(str, base[1:]), "--interactive"], cwd=tmp_path, input=b"\xff\n",
        capture_output=True, timeout=200).stderr.decode()
    for flags, error in ((["--query", "a", "--similar_text_pair", toy / "dev.csv"], "give either"), ([], "give either"),
                         (["--query", " "], "an empty text has no meaning to encode"), (["--query", "a", "--trec_run_file", "run"], "leave it out")):
        assert error in fail(*base, *flags, cwd=tmp_path)
