"""Prediction and export as a user runs them; the exported directory must serve without paddlenlp or this code."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, fail, run, succeed

from ann_util import ExactIndex
from semindex import manifest

pytestmark = pytest.mark.slow
QUERIES = 10


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "output"
    out = succeed("export_model.py", "--params_path", checkpoint, "--output_path", path, "--format", "onnx", "int8")
    assert out.count("largest difference to the dynamic graph") == 3
    return path


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """The deploy folder and the library alone, elsewhere, where importing paddlenlp fails."""
    folder = tmp_path_factory.mktemp("serving")
    shutil.copytree(ROOT / "deploy" / "python", folder / "deploy" / "python")
    shutil.copytree(ROOT / "semindex", folder / "semindex")
    (folder / "blocked" / "paddlenlp").mkdir(parents=True)
    (folder / "blocked" / "paddlenlp" / "__init__.py").write_text("raise ImportError('paddlenlp is not here')")
    return folder


def deployed(serving, *flags, code=0):
    env = os.environ | {"PYTHONPATH": str(serving / "blocked")}
    done = subprocess.run([sys.executable, str(serving / "deploy" / "python" / "predict.py"), *map(str, flags)], env=env,
                          capture_output=True, text=True, timeout=200, cwd=serving)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_four_ways_agree_and_rank_alike(checkpoint, exported, serving, toy, tmp_path):
    texts = (toy / "corpus.csv").read_text(encoding="utf-8").splitlines()
    texts += ["emoji 😀🫨 ½", "很长" * 300, "a", "[SEP] 注入 [MASK]", "हिन्दी ภาษาไทย"]
    (tmp_path / "texts").write_text("\n".join(texts) + "\n", encoding="utf-8")
    succeed("inference.py", "--device", "cpu", "--params_path", checkpoint, "--text_file", tmp_path / "texts",
            "--output_file", tmp_path / "dynamic.npy")
    ways = {"paddle": [], "onnx": ["--engine", "onnx"], "int8": ["--precision", "int8"]}
    for name, flags in ways.items():
        deployed(serving, "--model_dir", exported, "--text_file", tmp_path / "texts", "--output_file",
                 tmp_path / f"{name}.npy", "--batch_size", 7, *flags)
    vectors = {name: np.load(tmp_path / f"{name}.npy") for name in ("dynamic", *ways)}
    truth = vectors["dynamic"]
    assert truth.shape == (len(texts), 16) and truth.dtype == np.float32
    for name, least in (("paddle", 0.99999), ("onnx", 0.9999), ("int8", 0.995)):
        norms = np.linalg.norm(vectors[name], axis=1)
        assert (np.einsum("ij,ij->i", truth, vectors[name]) / norms).min() >= least, name
    assert not np.array_equal(vectors["int8"], vectors["onnx"])  # it was really quantised
    scores = truth[:QUERIES] @ truth[QUERIES:].T
    for name in ("dynamic", "paddle", "onnx"):  # texts whose scores are equal but for rounding may change places
        ranks = ExactIndex.build(vectors[name][QUERIES:]).search(vectors[name][:QUERIES], 10)[0]
        np.testing.assert_allclose(np.take_along_axis(scores, ranks, 1), -np.sort(-scores, 1)[:, :10], atol=1e-4,
                                   err_msg=name)


def test_deploy_prints_a_sample_and_what_it_is_asked(exported, serving, tmp_path):
    lines = deployed(serving, "--model_dir", exported).stdout.splitlines()
    assert lines[0] == "(3, 16)" and len(json.loads(lines[-1])) == 2
    assert deployed(serving, "--model_dir", exported, "--text", "你好", "再见").stdout.startswith("(2, 16)\n[[")
    (tmp_path / "pairs").write_text("\ufeff改签\t改签\n\n改签\t密码\t1\n", encoding="utf-8")
    same, gap, other = map(float, deployed(serving, "--model_dir", exported, "--text_pair_file", tmp_path / "pairs",
                                           "--max_seq_length", 16, "--cpu_threads", 1).stdout.split())
    assert np.isnan(gap) and same == pytest.approx(1, abs=1e-5) and other < same
    done = deployed(serving, "--model_dir", exported, "--text", "很长" * 300, "短")
    assert "warning: 1 text reaches --max_seq_length" in done.stderr


def test_deploy_mistakes(exported, serving, tmp_path):
    def error(*flags):
        text = deployed(serving, *flags, code=2).stderr
        assert text.startswith("error: ") and text.count("\n") == 1, text
        return text

    assert "no such directory" in error("--model_dir", tmp_path / "none")
    assert "holds no manifest.json" in error("--model_dir", tmp_path)
    (tmp_path / "pairs").write_text("a\tb\nonly one\n")
    assert "pairs:2: 1 column; expected text<TAB>text" in error("--model_dir", exported, "--text_pair_file",
                                                               tmp_path / "pairs")
    assert "an empty text" in error("--model_dir", exported, "--text", "a", " ")
    assert "reads at most 512" in error("--model_dir", exported, "--max_seq_length", 513)
    assert "a CPU computes in" in error("--model_dir", exported, "--precision", "fp16")
    for name in ("inference.pdiparams", "vocabulary.json"):
        copy = tmp_path / name
        shutil.copytree(exported, copy)
        with open(copy / name, "r+b") as file:
            file.seek(40)
            file.write(b"!")
        assert f"{name}: changed since it was written" in error("--model_dir", copy)
        (copy / name).unlink()
        assert f"{name}: missing" in error("--model_dir", copy)
    plain = tmp_path / "plain"
    shutil.copytree(exported, plain, ignore=shutil.ignore_patterns("*.onnx"))
    manifest.forget(str(plain), ["model.int8.onnx", "model.onnx"])
    assert "--format int8 writes it" in error("--model_dir", plain, "--precision", "int8")


def test_export_mistakes(checkpoint, toy, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    (broken / "config.json").unlink()
    assert "config.json: missing" in fail("export_model.py", "--params_path", broken, "--output_path", tmp_path / "o")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert "is there, but is no export" in fail("export_model.py", "--params_path", checkpoint, "--output_path",
                                              tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]
    assert "go together" in fail("export_model.py", "--params_path", checkpoint, "--dev_set_file", toy / "dev.csv")


def test_export_tells_what_each_format_recalls(checkpoint, toy, tmp_path):
    out = succeed("export_model.py", "--params_path", checkpoint, "--output_path", tmp_path / "o", "--dev_set_file",
                  toy / "dev.csv", "--corpus_file", toy / "corpus.csv").splitlines()
    dynamic, static = (line.split() for line in out[-2:])
    assert (dynamic[0], static[0]) == ("dynamic", "paddle") and len(dynamic) == len(static) == 6
    # one of 12 queries may fall to the other side of k: its texts' scores are equal but for rounding
    figures = [[float(word.split("=")[1]) for word in line[1:]] for line in (dynamic, static)]
    np.testing.assert_allclose(*figures, atol=100 / 12 + 0.01)


def test_predict_gives_a_line_for_each_line(checkpoint, tmp_path):
    (tmp_path / "pairs").write_text("改签\t改签\n\n只有一列\n改签\t密码\t1\n", encoding="utf-8")
    command = ["predict.py", "--device", "cpu", "--params_path", checkpoint, "--text_pair_file", tmp_path / "pairs"]
    assert "pairs:3: 1 column" in fail(*command)
    done = run(*command, "--skip_bad_lines")
    lines = done.stdout.split()
    assert float(lines[0]) == pytest.approx(1, abs=1e-5) and lines[1:3] == ["nan", "nan"] and -1 < float(lines[3]) < 1
    assert "1 blank line skipped, 1 malformed line skipped" in done.stderr
    succeed(*command, "--skip_bad_lines", "--output_file", tmp_path / "out")
    np.testing.assert_allclose(np.array((tmp_path / "out").read_text().split(), np.float32), np.array(lines, np.float32),
                               atol=1e-5)
    (tmp_path / "many").write_text("改签\t密码\n" * 5000 + "\n", encoding="utf-8")
    command[-1] = tmp_path / "many"
    cosines = np.array(succeed(*command).split(), np.float32)  # the same two texts in each line, but in other batches
    assert len(cosines) == 5001 and np.isnan(cosines[5000])
    np.testing.assert_allclose(cosines[:5000], float(lines[3]), atol=1e-5)


def test_inference_prints_shape_and_vectors(checkpoint, tmp_path):
    command = ["inference.py", "--device", "cpu", "--params_path", checkpoint]
    assert succeed(*command).startswith("[1, 16]\n[[")
    assert succeed(*command, "--text", "你好", "再见").startswith("[2, 16]\n[[")
    (tmp_path / "texts").write_text("你好\n再见\n你好\n", encoding="utf-8")
    assert "float32 [3, 16]" in succeed(*command, "--text_file", tmp_path / "texts", "--output_file", tmp_path / "v.npy")
    vectors = np.load(tmp_path / "v.npy")
    np.testing.assert_array_equal(vectors[0], vectors[2])
    with open(tmp_path / "texts") as file:
        done = subprocess.run([sys.executable, *map(str, command), "--output_file", str(tmp_path / "w.npy")], stdin=file,
                              capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "w.npy"), vectors)
    assert "an empty text" in fail(*command, "--text", "")
