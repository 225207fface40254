import gzip
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, assert_ranked_alike, fail, run, succeed

from models.encoders import dynamic, fast_encoder
from models.loading import load
from semindex.encode import encoder
from semindex.encode.encoder import encode, tokens_ahead, vector_file
from semindex.encode.text_encoder import TextEncoder
from semindex.encode.vector_file import VectorFile
from semindex.errors import UserError
from semindex.text.corpus import Corpus
from semindex.text.ragged import by_length

TEXTS = [f"第{i}条文本" + "问题" * (i % 9) for i in range(50)]


@pytest.mark.parametrize(("size", "budget"), [(None, 30), (None, 3), (4, 0), (100, 0)])
def test_parts_hold_every_text_once_and_no_more_than_the_budget(size, budget):
    lengths = np.random.default_rng(0).integers(1, 20, 200)
    parts = list(by_length(lengths, size, budget))
    assert sorted(np.concatenate(parts).tolist()) == list(range(200))
    assert [lengths[part].max() for part in parts] == sorted(lengths[part].max() for part in parts)
    for part in parts:
        if size is None:
            assert len(part) == 1 or len(part) * lengths[part].max() <= budget
        else:
            assert len(part) <= size
    if size is None:  # no part could have taken the next text as well
        for part, following in zip(parts, parts[1:]):
            assert (len(part) + 1) * lengths[following].min() > budget


@pytest.mark.slow
def test_vectors_do_not_depend_on_how_texts_are_dealt(checkpoint):
    model, tokenizer = load(str(checkpoint), {})
    alone = np.concatenate([dynamic(model, tokenizer)([text]) for text in TEXTS])
    for batch_size, budget in ((None, 40), (None, 1), (7, 1), (1000, 1)):
        vectors = TextEncoder(dynamic(model, tokenizer).run, tokenizer, model.dimension, batch_size, budget)(TEXTS)
        np.testing.assert_allclose(vectors, alone, atol=1e-5)
    assert dynamic(model, tokenizer)([]).shape == (0, model.dimension)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "least"), [("static", 0.99999), ("onnx", 0.9999), ("int8", 0.995)])
def test_engines_agree(checkpoint, engine, least):
    model, tokenizer = load(str(checkpoint), {})
    truth = dynamic(model, tokenizer)(TEXTS)
    fast, name = fast_encoder(model, tokenizer, engine, len(TEXTS))
    assert name == engine and not model.training
    assert np.einsum("ij,ij->i", fast(TEXTS), truth).min() > least


@pytest.mark.slow
def test_auto_exports_for_many_texts_only(checkpoint):
    model, tokenizer = load(str(checkpoint), {})
    assert fast_encoder(model, tokenizer, "auto", 50)[1] == "dynamic"
    assert fast_encoder(model, tokenizer, "auto", 10**6)[1] == "onnx"


def test_the_next_window_is_tokenised_meanwhile_and_its_error_is_told():
    seen = []
    windows = tokens_ahead(iter([["a"], ["b"], ["c"]]), lambda texts: seen.append(texts) or texts)
    assert next(windows) == ["a"]
    ends = time.monotonic() + 20
    while ["b"] not in seen:
        assert time.monotonic() < ends
    assert list(windows) == [["b"], ["c"]]

    def broken(texts):
        raise UserError("no")

    with pytest.raises(UserError):
        next(tokens_ahead([["a"], ["b"]], broken))


@pytest.mark.slow
def test_vectors_that_are_no_numbers_are_an_error(checkpoint):
    model, tokenizer = load(str(checkpoint), {})
    bad = TextEncoder(lambda ids: np.full([len(ids), 4], np.nan, np.float32), tokenizer, 4)
    with pytest.raises(UserError, match="no finite vector for 50 of 50 texts"):
        encode(bad, TEXTS)


def filled(path, key="k"):
    file = VectorFile(str(path), 10, 3, key)
    file.prepare()
    return file


def test_a_vector_file_goes_on_where_it_was(tmp_path):
    path, rows = tmp_path / "v.npy", np.arange(30, dtype=np.float32).reshape(10, 3)
    file = filled(path)
    file.write(0, rows[:4])
    file.flush()
    file.write(4, rows[4:8])  # not flushed: a kill loses it
    again = filled(path)
    assert again.done() == {0}
    for start in (4, 8):
        again.write(start, rows[start : start + 4])
    again.flush()
    np.testing.assert_array_equal(again.vectors(), rows)
    assert not path.exists()
    again.finish(np.arange(10))
    np.testing.assert_array_equal(np.load(path), rows)
    assert os.listdir(tmp_path) == ["v.npy"]


def test_rows_that_stand_twice_are_written_twice(tmp_path):
    file, rows = filled(tmp_path / "v.npy"), np.arange(30, dtype=np.float32).reshape(10, 3)
    file.write(0, rows)
    order = np.array([3, 3, 0, 9])
    file.finish(order)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), rows[order])
    assert os.listdir(tmp_path) == ["v.npy"]


def test_parts_of_something_else_are_not_used(tmp_path):
    file = filled(tmp_path / "v.npy")
    file.write(0, np.ones([10, 3], np.float32))
    file.flush()
    other = filled(tmp_path / "v.npy", "another encoder")
    assert other.done() == set() and not other.vectors().any()
    Path(other.progress).write_text("{")
    assert filled(tmp_path / "v.npy", "another encoder").done() == set()


def test_a_line_cut_short_is_no_part(tmp_path):
    file = filled(tmp_path / "v.npy")
    file.write(4, np.ones([4, 3], np.float32))
    file.flush()
    with open(f"{file.progress}.0", "a") as out:
        out.write("\n0")  # of 01234;
    assert filled(tmp_path / "v.npy").done() == {4}
    file.write(8, np.ones([2, 3], np.float32))
    file.flush()
    assert filled(tmp_path / "v.npy").done() == {4, 8}


def test_no_room_is_told_before_anything_is_computed(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(UserError, match="400000 bytes are wanted .File too large."):
            VectorFile(str(tmp_path / "v.npy"), 1000, 100, "k").prepare()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from semindex import runtime
runtime.start("cpu", 0)
from semindex.encode import encoder, vector_file
encoder.WINDOW, vector_file.FLUSH_SECONDS = 4, -1
from models import loading
load = loading.load
windows, fatal = 0, int(sys.argv[2])
def loaded(*args):
    model, tokenizer = load(*args)
    class Counting:
        def __getattr__(self, name):
            return getattr(tokenizer, name)
        def prompted(self, prompt):
            assert not prompt
            return self
        def __call__(self, texts):
            global windows
            windows += 1
            if windows == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return tokenizer(texts)
    return model, Counting()
loading.load = loaded
from semindex import cli
sys.argv = sys.argv[3:]
import recall, inference
try:
    cli.run({"recall.py": recall, "inference.py": inference}[sys.argv[0]].main)
finally:
    print("windows", windows)
"""


@pytest.mark.slow
def test_an_encoding_that_was_killed_goes_on(checkpoint, toy, tmp_path):
    """The 36 texts of the corpus in windows of 4; killed at the sixth, the next run has the rest to do."""
    words = ["inference.py", "--device", "cpu", "--params_path", checkpoint, "--text_file", toy / "corpus.csv", "--output_file"]

    def start(kill, place):
        return subprocess.run([sys.executable, "-c", KILLED, ROOT, str(kill), *map(str, words), tmp_path / place],
                              capture_output=True, text=True, timeout=100)

    assert start(6, "v.npy").returncode == -signal.SIGKILL
    assert not (tmp_path / "v.npy").exists()
    again = start(99, "v.npy")
    assert again.returncode == 0 and "of 36 texts of" in again.stdout, again.stdout + again.stderr
    done = int(again.stdout.split("windows")[1])
    assert 9 - 5 <= done < 9
    assert "windows 9" in start(99, "whole.npy").stdout
    assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["v.npy", "whole.npy"]
    succeed(*words, tmp_path / "usual.npy")
    np.testing.assert_allclose(np.load(tmp_path / "usual.npy"), np.load(tmp_path / "v.npy"), atol=1e-5)


@pytest.mark.slow
def test_a_recall_that_was_killed_goes_on(checkpoint, toy, tmp_path):
    words = ["recall.py", "--device", "cpu", "--params_path", checkpoint, "--corpus_file", toy / "corpus.csv",
             "--similar_text_pair", toy / "dev.csv", "--recall_result_dir", tmp_path, "--index_dir", tmp_path / "index"]
    for kill, status in ((6, -signal.SIGKILL), (99, 0)):
        done = subprocess.run([sys.executable, "-c", KILLED, ROOT, str(kill), *map(str, words)], capture_output=True,
                              text=True, timeout=100)
        assert done.returncode == status, done.stdout + done.stderr
    assert "are there already" in done.stdout
    assert sorted(os.listdir(tmp_path)) == ["index", "recall_result_file"]
    succeed(*words[:-2], "--recall_result_file", "again")  # in batches of other shapes: windows of 1,024 texts, not of 4
    assert_ranked_alike(tmp_path / "recall_result_file", tmp_path / "again", 1e-5)


@pytest.mark.slow
def test_an_int8_index_is_not_taken_for_another(checkpoint, toy, tmp_path):
    words = ["recall.py", "--device", "cpu", "--params_path", checkpoint, "--corpus_file", toy / "corpus.csv",
             "--similar_text_pair", toy / "dev.csv", "--recall_result_dir", tmp_path, "--index_dir", tmp_path / "index"]
    succeed(*words, "--engine", "int8")
    assert "was built with another encoder" in fail(*words)
    assert "reused" in run(*words, "--engine", "int8").stdout


@pytest.mark.slow
def test_windows_of_a_corpus_are_its_texts(checkpoint):
    model, tokenizer = load(str(checkpoint), {})
    corpus = Corpus.from_texts(TEXTS)
    old, encoder.WINDOW = encoder.WINDOW, 7
    try:
        np.testing.assert_array_equal(encode(dynamic(model, tokenizer, 1), corpus), encode(dynamic(model, tokenizer, 1), TEXTS))
    finally:
        encoder.WINDOW = old
    assert vector_file("x", dynamic(model, tokenizer), corpus, "a").about != vector_file(
        "x", dynamic(model, tokenizer), corpus, "b").about


@pytest.mark.slow
def test_the_link_that_vectors_go_to_stays_a_link(checkpoint, tmp_path):
    (tmp_path / "v.npy").symlink_to("real.npy")
    for _ in range(2):  # a new file, then one that is there
        succeed("inference.py", "--device", "cpu", "--params_path", checkpoint, "--text", "卡丢了", "退款", "--output_file", tmp_path / "v.npy")
        assert (tmp_path / "v.npy").is_symlink() and np.load(tmp_path / "real.npy").shape == (2, 16)
    succeed("inference.py", "--device", "cpu", "--params_path", checkpoint, "--text", "卡丢了", "--output_file", tmp_path / "v.npy.gz")
    with gzip.open(tmp_path / "v.npy.gz") as file:
        assert np.load(file).shape == (1, 16)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["static", "onnx"])
def test_an_engine_without_room_for_its_files_says_so(checkpoint, toy, tmp_path, engine):
    (tmp_path / "small").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", tmp_path / "small"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        error = fail("predict.py", "--device", "cpu", "--params_path", checkpoint, "--text_pair_file", toy / "dev.csv", "--engine", engine,
                     env={"TMPDIR": tmp_path / "small"})
        assert f"--engine {engine}: the graph is written to {tmp_path / 'small'}; make room there" in error
        assert os.listdir(tmp_path / "small") == []
    finally:
        subprocess.run(["umount", "-l", tmp_path / "small"])
