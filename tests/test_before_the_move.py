"""What the last commit before the move wrote goes on loading: checkpoint, resume, export, indexes, collection."""

import importlib.util
import json
import os
import pickle
import sys

import numpy as np
import pytest
from conftest import ROOT

from models.encoders import dynamic
from models.export import open_export
from models.loading import fingerprint, load
from semindex import runtime
from semindex.collection import store
from semindex.errors import UserError
from semindex.search.directory import TextIndex, reusable_index
from semindex.search.index import IndexSettings
from semindex.text.corpus import read_corpus
from training.negatives.generations import Generations

RESUME = """--device cpu --model_name_or_path scratch-1x32 --output_emb_size 16 --batch_size 8 --learning_rate 1e-3 --max_seq_length 24
            --train_set_file train.csv --save_dir run --resume"""


def texts(path):
    return (path / "corpus.csv").read_text(encoding="utf-8").split("\n")[:-1]


def test_the_checkpoint_gives_its_vectors(unpacked):
    for name in ("", "model_state.pdparams"):
        model, tokenizer = load(str(unpacked / "run" / "latest" / name), {})
        np.testing.assert_allclose(dynamic(model, tokenizer)(texts(unpacked)), np.load(unpacked / "vectors.npy"), atol=1e-5)
    load(str(unpacked / "ance" / "latest"), {})


@pytest.mark.parametrize("form", ["paddle", "onnx", "int8"])
def test_the_export_gives_them_too(unpacked, form):
    if form != "paddle":
        pytest.importorskip("onnxruntime")
    found, wanted = open_export(str(unpacked / "export"), form)(texts(unpacked)), np.load(unpacked / "vectors.npy")
    if form == "int8":
        assert (found * wanted).sum(1).min() > 0.98
    else:
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_the_indexes_are_used_again_and_find_each_text(unpacked, kind):
    corpus, _ = read_corpus(str(unpacked / "corpus.csv"))
    path = str(unpacked / "run" / "latest")
    mark = fingerprint(path, *load(path, {}))  # recall.py's way
    index = reusable_index(str(unpacked / f"index_{kind}"), mark, corpus.fingerprint, IndexSettings(threads=1))
    assert index.index.kind == kind and list(index.corpus) == list(corpus)
    vectors = np.load(unpacked / "vectors.npy")
    ids, scores = index.index.search(vectors, 5)
    exact = np.sort(vectors @ vectors.T, axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(scores, exact, atol=1e-5)
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-5)
    assert len(TextIndex.load(str(unpacked / f"index_{kind}")).index) == len(corpus)


def test_the_collection_and_its_generations(unpacked):
    collection = store.load(str(unpacked / "ance" / "collection"))
    assert (collection.about.documents, collection.about.queries) == (36, 24) and len(collection.pairs) == 24
    assert collection.texts[0] == texts(unpacked)[0]
    found = Generations(str(unpacked / "ance" / "ann"))
    assert found.numbers() == [0, 1]
    for number in (0, 1):
        negatives = found.negatives(number)
        assert found.read(number).collection == collection.about.key
        assert negatives.shape[0] == 24 and negatives.max() < 36


def resume(directory, monkeypatch, steps):
    import train_batch_neg

    monkeypatch.chdir(directory)
    monkeypatch.setattr(sys, "argv", ["train_batch_neg.py", *RESUME.split(), "--max_steps", str(steps)])
    train_batch_neg.main()


def test_the_training_goes_on(before, monkeypatch, capsys):
    resume(before, monkeypatch, 4)
    assert "resumed from run/model_4" in capsys.readouterr().out
    with pytest.raises(UserError, match="made with total_steps 4"):
        resume(before, monkeypatch, 6)
    state = before / "run" / "model_4" / "training_state.json"  # as if the run had been longer and was cut short here
    state.write_text(state.read_text().replace('"total_steps": 4', '"total_steps": 6'))
    resume(before, monkeypatch, 6)
    assert "resumed from run/model_4" in capsys.readouterr().out and os.path.isdir("run/model_6")
    model, tokenizer = load("run/model_6", {})
    assert np.abs(dynamic(model, tokenizer)(texts(before)) - np.load("vectors.npy")).max() > 1e-4
    runtime.start("cpu", 0)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_resume_runs_nothing_of_an_optimizers_file(before, monkeypatch, tmp_path):
    path = before / "run" / "model_4" / "optimizer.pdopt"
    path.write_bytes(pickle.dumps({"x": Evil(tmp_path / "ran")}))
    with pytest.raises(UserError, match=r"--resume: run/model_4 is damaged \(.*optimizer.pdopt: names posix.system"):
        resume(before, monkeypatch, 4)
    assert not (tmp_path / "ran").exists()
    path.write_bytes(pickle.dumps({}))
    runtime.start("cpu", 0)


def test_ernie_of_before_keeps_its_layer_norms(before):
    """Up to format 2 they added 1e-12 whatever config.json said; later ones follow it."""
    directory = before / "run" / "model_4"
    settings, config = (json.loads((directory / name).read_text()) for name in ("semantic_index.json", "config.json"))
    (directory / "manifest.json").unlink(missing_ok=True)
    (directory / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
    for number, epsilon in ((2, 1e-12), (3, 1e-5)):
        (directory / "semantic_index.json").write_text(json.dumps(settings | {"format": number}))
        model, _ = load(str(directory), {})
        assert model.ptm.embeddings.layer_norm._epsilon == epsilon


OLD_FLAGS = [line.split() for line in (ROOT / "tests" / "fixtures" / "flags_before_the_move.txt").read_text().splitlines()]


@pytest.mark.parametrize("words", OLD_FLAGS, ids=lambda words: words[0])
def test_every_flag_is_still_there(words):
    spec = importlib.util.spec_from_file_location("script", ROOT / words[0])
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    known = {name for action in script.parser()._actions for name in action.option_strings}
    assert set(words[1:]) <= known


def test_a_checkpoint_without_checksums_is_loaded_with_one_warning(unpacked, capsys):
    load(str(unpacked / "run" / "latest"), {})
    assert capsys.readouterr().err.count("from before there were checksums, its files are not checked") == 1
