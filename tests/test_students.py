"""Students by train_distill.py, and static ones."""

import json
import os
import re
import shutil
import signal

import forked
import numpy as np
import paddle
import pytest
from conftest import TRAIN, fail, launch, run, succeed
from reference.make_distill import WIDTH, vectors
from test_distill import losses, weights

from models import loading
from models.encoders import dynamic
from models.semantic_index import SemanticIndex
from models.settings import EncoderSettings
from models.static_encoder import make_static
from models.weights.principal import principal_directions
from semindex import locks, manifest
from semindex.errors import UserError
from training import static_student, teacher
from training.teacher import Targets

DISTIL = ["train_distill.py", "--device", "cpu", "--batch_size", 8, "--log_steps", 1]


@pytest.fixture(scope="module")
def large(toy):
    """A teacher of two layers."""
    command = ["scratch-2x32" if word == "scratch-1x32" else word for word in TRAIN]
    succeed(*command, "--train_set_file", toy / "train.csv", "--save_dir", toy / "large", "--max_steps", 30,
            "--epochs", 99, "--learning_rate", "5e-3")
    return toy / "large" / "latest"


@pytest.mark.slow
def test_a_student_of_all_layers_is_the_teacher(large, toy, tmp_path):
    """The loss is 0 from the first step on; with a narrower linear layer it starts at the teacher's reduced vectors."""
    out = succeed(*DISTIL, "--teacher", large, "--layers", 2, "--train_set_file", toy / "corpus.csv", "--save_dir",
                  tmp_path / "same", "--max_steps", 1)
    assert losses(out) == [pytest.approx(0, abs=2e-5)]
    out = succeed(*DISTIL, "--teacher", large, "--layers", 2, "--train_set_file", toy / "train.csv", "--save_dir",
                  tmp_path / "pairs", "--max_steps", 1, "--loss", "mse", "kl", "margin_mse", "cosine")
    assert losses(out) == [pytest.approx(0, abs=2e-5)]
    texts = (toy / "corpus.csv").read_text(encoding="utf-8").split("\n")[:5]
    found = [dynamic(*loading.load(str(path), {}))(texts) for path in (large, tmp_path / "same" / "latest")]
    np.testing.assert_allclose(found[0], found[1], atol=0.02)  # of one step of about no gradient


@pytest.mark.slow
def test_distilling_resuming_and_what_is_refused(large, toy, tmp_path):
    """An interrupted run ends as the undisturbed one, without the teacher; other teachers and texts are refused."""
    gone = shutil.copytree(large.resolve(), tmp_path / "teacher")
    texts = ["--train_set_file", toy / "corpus.csv"]
    flags = [*DISTIL, "--layers", 1, *texts, "--learning_rate", "2e-3", "--dropout", 0.1]
    dev = ["--dev_set_file", toy / "dev.csv", "--corpus_file", toy / "corpus.csv", "--eval_steps", 10]
    out = succeed(*flags, *dev, "--teacher", gone, "--save_dir", tmp_path / "whole", "--max_steps", 20, "--epochs", 9)
    assert "layers 2 of 2" in out and "recall@10=" in out
    assert float(re.search(r"mean cosine with the teacher ([\d.]+)", out)[1]) > 0.97, out
    kept = ["--vectors_dir", tmp_path / "vectors"]
    cut = [*flags, *kept, "--teacher", gone, "--save_dir", tmp_path / "cut", "--epochs", 9, "--max_steps", 20, "--save_steps", 5]
    shutil.copytree(tmp_path / "whole" / "teacher", tmp_path / "vectors")
    interrupt(cut, "saved .*model_5$")
    shutil.rmtree(gone)
    out = succeed(*cut, "--resume")
    assert "is not there" in out and "used again" in out and "resumed from" in out
    for name, value in weights(tmp_path / "whole" / "model_20").items():
        np.testing.assert_allclose(weights(tmp_path / "cut" / "model_20")[name], value, atol=1e-6)
    assert "no such checkpoint" in fail(*flags, *kept, "--teacher", gone, "--save_dir", tmp_path / "new")
    error = fail(*flags, *kept, "--teacher", tmp_path / "cut" / "latest", "--save_dir", tmp_path / "new")
    assert "vectors of another teacher" in error
    error = fail(*DISTIL, *kept, "--teacher", large, "--layers", 1, "--train_set_file", toy / "dev.csv", "--save_dir", tmp_path / "new")
    assert "vectors of other texts" in error and not (tmp_path / "new").exists()
    succeed("recall.py", "--device", "cpu", "--params_path", tmp_path / "cut" / "latest", "--corpus_file", toy / "corpus.csv",
            "--similar_text_pair", toy / "dev.csv", "--recall_result_dir", tmp_path)


def interrupt(command, line):
    """Run a script until it prints a line, then send SIGTERM; it saves and ends."""
    reading, writing = os.pipe()
    process = forked.start(command, stdout=writing, stderr=writing)
    os.close(writing)
    with open(reading, encoding="utf-8") as output:
        for text in output:
            if re.search(line, text.rstrip()):
                process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143


def test_the_weights_of_pieces_by_hand():
    tokens = teacher.Ragged(np.array([0, 3, 3, 1, 0, 3, 1], np.int32), np.array([0, 4, 7]))
    counts = np.bincount(tokens.flat, minlength=5)
    np.testing.assert_allclose(static_student.frequency_weights(counts, 0.5),
                               0.5 / (0.5 + np.array([2, 2, 0, 3, 0]) / 7), rtol=1e-6)
    rows = vectors(1, 0)[0]
    table = static_student.table_of(rows, np.eye(WIDTH)[:, :3], counts, np.array([0, 4]))
    assert not table[[0, 4]].any()
    mean = (2 * rows[0] + 2 * rows[1] + 3 * rows[3]) / 7
    np.testing.assert_allclose(table[1:4], (rows - mean)[1:4, :3] * static_student.frequency_weights(counts)[1:4, None],
                               atol=1e-6)


@pytest.mark.parametrize("block", [3, 100])
def test_the_table_is_fitted_by_least_squares(block, monkeypatch):
    """Against numpy's solution of the normal equations; special tokens keep their zeros."""
    monkeypatch.setattr(static_student, "BLOCK", block)
    rng = np.random.default_rng(0)
    table = rng.standard_normal([12, 4]).astype(np.float32)
    table[[0, 11]] = 0
    lengths = rng.integers(1, 6, 20)
    ids = [np.array([0, *rng.integers(1, 11, length), 11]) for length in lengths]
    tokens = teacher.Ragged(np.concatenate(ids).astype(np.int32), np.concatenate([[0], np.cumsum(lengths + 2)]))
    wanted = rng.standard_normal([20, 4]).astype(np.float32)
    means = np.array([np.bincount(row[1:-1], minlength=12) / (len(row) - 2) for row in ids])
    student = SemanticIndex(make_static(table, 11), EncoderSettings("static", "mean", output_emb_size=0))
    static_student.fit(student, tokens, Targets(wanted, np.arange(20)[:, None], "key"), 0.05)
    own = means @ table
    scale = max((own * wanted).sum() / (own * own).sum(), 0) or 1
    change = np.linalg.solve(means.T @ means + 0.05 * np.eye(12), means.T @ (wanted - scale * own))
    np.testing.assert_allclose(student.ptm.table.numpy(), scale * table + change, atol=2e-3)
    assert not student.ptm.table.numpy()[[0, 11]].any()


def static_model(tokenizer, width=6):
    rows = np.random.default_rng(0).standard_normal([tokenizer.rust_size, width]).astype(np.float32)
    return SemanticIndex(make_static(rows, tokenizer.pad_id), EncoderSettings("static", "mean", output_emb_size=0)), rows


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer of some characters."""
    paddle.seed(0)
    found = loading.create("scratch-1x32", {"max_seq_length": 12}, ["卡丢了怎么办", "退款没到账"])[1]
    found.rust_size = 40
    return found


def test_a_static_vector_is_the_mean_of_its_pieces(tokenizer):
    """In numpy; as one sparse product, as the padded model, and after saving and loading."""
    model, rows = static_model(tokenizer)
    texts = ["卡丢了怎么办", "退", "", "没到账，没到账没到账没到账没到账"]
    wanted = np.array([rows[ids].mean(axis=0) for ids in tokenizer.ids(texts)])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(dynamic(model, tokenizer)(texts), wanted, atol=1e-6)
    model.eval()
    tokens = tokenizer(texts)
    padded = model(paddle.to_tensor(tokens.pad(np.arange(4), tokenizer.pad_id))).numpy()
    np.testing.assert_allclose(padded, wanted, atol=1e-6)


def test_a_static_encoder_is_saved_and_loaded(tokenizer, tmp_path):
    model, _ = static_model(tokenizer)
    loading.save(model, tokenizer, str(tmp_path))
    manifest.write(str(tmp_path), "checkpoint")
    again, other = loading.load(str(tmp_path), {})
    texts = ["卡丢了", "到账了怎么退"]
    np.testing.assert_array_equal(dynamic(again, other)(texts), dynamic(model, tokenizer)(texts))
    assert loading.fingerprint(str(tmp_path), again, other)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for change, message in (({"vocab_size": 9_000_000}, "holds at most half"), ({"pad_token_id": 40}, "below vocab_size"),
                            ({"hidden_size": "6"}, "hidden_size")):
        (tmp_path / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            loading.load(str(tmp_path), {"trust_files": True})


@pytest.mark.slow
def test_a_static_student(large, toy, tmp_path):
    """Made without training, trained further, recalled with, exported to every format that can be."""
    flags = [*DISTIL, "--teacher", large, "--static", 8, "--train_set_file", toy / "corpus.csv", "--vectors_dir",
             tmp_path / "vectors", "--learning_rate", "1e-2"]
    with locks.locked(str(tmp_path / "vectors")):  # another distillation encodes into the same place
        assert "--vectors_dir " in (error := fail(*flags, "--save_dir", tmp_path / "two")) and "is being written by" in error
    out = succeed(*flags, "--save_dir", tmp_path / "made", "--epochs", 0)
    assert "8 wide" in out and float(re.search(r"mean cosine with the teacher ([\d.]+)", out)[1]) > 0.8, out
    out = succeed(*flags, "--save_dir", tmp_path / "trained", "--epochs", 20)
    assert "fitted to 36 texts" in out and losses(out)[-1] < losses(out)[0]
    path = tmp_path / "trained" / "latest"
    succeed("recall.py", "--device", "cpu", "--params_path", path, "--corpus_file", toy / "corpus.csv", "--similar_text_pair",
            toy / "dev.csv", "--recall_result_dir", tmp_path)
    out = succeed("export_model.py", "--params_path", path, "--output_path", tmp_path / "export", "--format", "paddle", "onnx")
    assert out.count("smallest cosine 1.0000") == 2
    error = fail("export_model.py", "--params_path", path, "--output_path", tmp_path / "st", "--format", "sentence-transformers")
    assert "StaticModel" in error
    assert "16 numbers" in fail(*flags[:-2], "--static", 17, "--save_dir", tmp_path / "wide")


@pytest.mark.slow
def test_other_students(large, toy, tmp_path):
    """Narrower: the teacher reduced, or a linear layer from PCA; a student that collapses is told of."""
    texts = ["--train_set_file", toy / "corpus.csv", "--teacher", large, "--max_seq_length", 24, "--max_steps", 2]
    narrow = [*DISTIL, *texts, "--model_name_or_path", "scratch-1x32", "--vectors_dir", tmp_path / "vectors"]
    out = succeed(*narrow, "--output_emb_size", 8, "--save_dir", tmp_path / "narrow", "--max_steps", 40, "--epochs", 90,
                  "--learning_rate", "5e-3", "--query_prompt", "问：", "--query_prompt_on_both")
    assert "from 16 to 8 numbers" in out and "collapse" not in out
    assert loading.load(str(tmp_path / "narrow" / "latest"), {})[0].dimension == 8
    error = fail(*narrow, "--output_emb_size", 24, "--save_dir", tmp_path / "wide")
    assert "the student's vectors have 24 numbers, the teacher's 16" in error
    # Both layers, narrower, before a step: the teacher's vectors on the PCA's directions, behind its own linear layer.
    succeed(*DISTIL, *texts[:-2], "--epochs", 0, "--layers", 2, "--output_emb_size", 8, "--save_dir", tmp_path / "eight")
    asked = (toy / "corpus.csv").read_text(encoding="utf-8").splitlines()
    whole, short = (dynamic(*loading.load(str(path), {}))(asked) for path in (large, tmp_path / "eight" / "latest"))
    wanted = whole @ principal_directions(whole, 8)[0]
    np.testing.assert_allclose(short, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-4)
    assert "texts alone" in fail(*narrow, "--loss", "margin_mse", "--save_dir", tmp_path / "wide")
    assert "2 numbers for 1 loss" in fail(*narrow, "--loss_weights", 1, 2, "--save_dir", tmp_path / "wide")
    done = run(*DISTIL, *texts, "--layers", 1, "--learning_rate", 5, "--max_steps", 40, "--epochs", 90, "--save_dir",
               tmp_path / "lost")
    assert "the student's vectors collapse" in done.stderr, done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.slow
def test_two_processes_learn_as_one(large, toy, tmp_path):
    flags = ["train_distill.py", "--device", "cpu", "--log_steps", 1, "--teacher", large, "--layers", 1, "--train_set_file",
             toy / "train.csv", "--loss", "mse", "kl", "--max_steps", 3, "--chunk_size", 64]
    one = succeed(*flags, "--batch_size", 8, "--save_dir", tmp_path / "one")
    done = launch(2, *flags, "--batch_size", 4, "--save_dir", tmp_path / "two", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    log = (tmp_path / "log" / "workerlog.0").read_text(encoding="utf-8")
    np.testing.assert_allclose(losses(log), losses(one), atol=1e-4)
