"""export_model.py --format sentence-transformers: that library's vectors of what it writes, stored, are ours."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import fail, run, succeed
from safetensors.numpy import load_file, save_file
from test_tokenizer import TEXTS

HERE = Path(__file__).with_name("reference")
sys.path.insert(0, str(HERE))

import make_exports  # noqa: E402
import tiny  # noqa: E402

from models.encoders import dynamic  # noqa: E402
from models.loading import fingerprint, load  # noqa: E402
from models.model_card import model_card  # noqa: E402
from models.sentence_directory import export_sentence_transformers, tokenizer_file  # noqa: E402
from models.weights import huggingface  # noqa: E402
from semindex.errors import UserError  # noqa: E402

REFERENCE = json.loads((HERE / "exports.json").read_text(encoding="utf-8"))
SIDES = ("query", "passage")


@pytest.fixture(scope="module", params=list(make_exports.EXPORTS))
def exported(request, tmp_path_factory):
    """Return (name, directory with `checkpoint` and `export`, the model, its tokenizer)."""
    place = tmp_path_factory.mktemp(request.param)
    model, tokenizer = make_exports.checkpoint(request.param, place)
    found = export_sentence_transformers(model, tokenizer, str(place / "export"), str(place / "checkpoint"))
    assert found["sentence-transformers"][0] < 1e-6
    return request.param, place, model, tokenizer


@pytest.mark.slow
def test_vectors_are_what_sentence_transformers_gives_of_the_export(exported):
    name, place, model, tokenizer = exported
    wanted = REFERENCE[name]
    assert tiny.digests(place / "export") == wanted["files"]  # what the stored vectors were made of
    assert (model.settings.max_seq_length, wanted["similarity"]) == (wanted["length"], "cosine")
    again, file = load(str(place / "export"), {})
    for side in SIDES:
        theirs = np.array(wanted.get(side, wanted["query"]))
        ours = dynamic(model, tokenizer, 3).side(side)(tiny.TEXTS)
        assert np.abs(ours - theirs).max() < 1e-4, side
        np.testing.assert_allclose(dynamic(again, file, 3).side(side)(tiny.TEXTS), ours, atol=1e-5)
        kept = dynamic(*load(str(place / "checkpoint"), {}), 3).side(side)(tiny.TEXTS)
        np.testing.assert_allclose(kept, ours, atol=1e-5)


def test_weights_return_to_the_encoder_bit_for_bit(exported):
    _, place, model, _ = exported
    ours, again = model.ptm.state_dict(), load(str(place / "export"), {})[0].ptm.state_dict()
    for name, value in again.items():
        if not (name.startswith("pooler.") and model.settings.pooling != "pooler"):
            np.testing.assert_array_equal(value.numpy(), ours[name].numpy(), err_msg=name)
        assert huggingface.paddle_name(huggingface.huggingface_name(name)) == name


def test_ordinary_texts_have_the_same_ids(exported):
    name, place, _, tokenizer = exported
    file = load(str(place / "export"), {})[1]
    texts = [*TEXTS, *tiny.TEXTS]
    if make_exports.EXPORTS[name].get("plain"):
        unusual = tokenizer._fast.unusual
        texts = [text for text in texts if not unusual.search(text)] + ["丢[SEP]了[MASK]"]
    assert len(texts) > 15
    assert [list(row) for row in file.ids(texts)] == [list(row) for row in tokenizer.ids(texts)]


@pytest.fixture
def small(tmp_path):
    """Return (model, tokenizer) of ERNIE with a linear layer, to be changed."""
    return make_exports.checkpoint("ernie", tmp_path)


@pytest.mark.parametrize("change, error", [
    (lambda model: setattr(model.settings, "similarity", "dot"), r"inner products \(--similarity dot\) ends in a layer norm"),
    (lambda model: setattr(model.settings, "pooling_layer", 1), "--pooling_layer 1: transformers gives the last layer alone"),
    (lambda model: setattr(model.ptm.config, "hidden_act", "swish"), "hidden_act swish: not known to be the same there"),
    (lambda model: setattr(model.ptm.config, "type_vocab_size", 0), "type_vocab_size is 0"),
    (lambda model: (setattr(model.ptm.config, "use_task_id", True), setattr(model.ptm.config, "task_id", 2)), "task_id is not 0"),
    (lambda model: setattr(model.ptm, "__class__", type("ElectraModel", (type(model.ptm),), {})), "a ElectraModel has no form"),
])
def test_what_has_no_form_there_is_told(small, tmp_path, change, error):
    model, tokenizer = small
    change(model)
    with pytest.raises(UserError, match=error):
        export_sentence_transformers(model, tokenizer, str(tmp_path / "o"), "x")
    assert not (tmp_path / "o").exists()


def test_a_layer_counted_from_the_front_may_be_the_last(small, tmp_path):
    model, tokenizer = small
    model.settings.pooling_layer = 2
    assert tokenizer_file(model, tokenizer).pad_id == 0


def test_a_tokenizer_without_a_file_is_told(small):
    model, tokenizer = small
    tokenizer._fast = None
    with pytest.raises(UserError, match="its tokenizer is no WordPiece and has no tokenizer.json"):
        tokenizer_file(model, tokenizer)


def test_vectors_that_differ_are_not_written(small, tmp_path, monkeypatch):
    model, tokenizer = small
    monkeypatch.setattr("models.sentence_directory.is_linear", lambda name, value: name.endswith("linear1.weight") or
                        name.endswith("linear2.weight"))
    with pytest.raises(UserError, match="what is read back differs from the model by .*; nothing was written"):
        export_sentence_transformers(model, tokenizer, str(tmp_path / "o"), "x")
    assert not (tmp_path / "o").exists()


def test_characters_that_are_split_otherwise_are_told(small, tmp_path, monkeypatch, capsys):
    model, tokenizer = small
    monkeypatch.setattr("models.sentence_directory.SAMPLES", ["卡", "卡\U0001faf7s"])
    export_sentence_transformers(model, tokenizer, str(tmp_path / "o"), "x")
    words = capsys.readouterr().err
    assert ("1 of 2 sample texts are cut differently" in words) == (
        list(tokenizer.ids(["卡\U0001faf7s"])[0]) != list(load(str(tmp_path / "o"), {})[1].ids(["卡\U0001faf7s"])[0]))


def test_an_index_is_of_all_weights(exported, tmp_path):
    """Encoders whose weights differ anywhere, in the linear layer or in the last shard, have other fingerprints."""
    name, place, *_ = exported
    copies = [shutil.copytree(place / "export", tmp_path / "one")]
    (copies[0] / "manifest.json").unlink()
    copies += [shutil.copytree(copies[0], tmp_path / f"{i}") for i, _ in enumerate(copies[0].glob("**/*.safetensors"))]
    for copy, file in zip(copies[1:], sorted(path.relative_to(copies[0]) for path in copies[0].glob("**/*.safetensors"))):
        state = load_file(str(copy / file))
        key = sorted(state)[0]
        state[key] = state[key] + 1
        save_file(state, str(copy / file))
    found = {fingerprint(str(copy), *load(str(copy), {})) for copy in copies}
    assert len(found) == len(copies)


def test_two_dense_modules_must_be_the_pooler_and_one_more(tmp_path):
    make_exports.checkpoint("bert-pooler", tmp_path)
    model, tokenizer = load(str(tmp_path / "checkpoint"), {})
    export_sentence_transformers(model, tokenizer, str(tmp_path / "o"), "x")
    (tmp_path / "o" / "manifest.json").unlink()
    pooling = json.loads((tmp_path / "o" / "1_Pooling" / "config.json").read_text())
    tiny.dump(tmp_path / "o" / "1_Pooling" / "config.json", pooling | {
        "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True})
    with pytest.raises(UserError, match="two Dense modules are supported only where the first is BERT's pooler"):
        load(str(tmp_path / "o"), {})


def test_flags_that_say_other_than_the_directory_are_refused(tmp_path):
    make_exports.checkpoint("bert-pooler", tmp_path)
    export_sentence_transformers(*load(str(tmp_path / "checkpoint"), {}), str(tmp_path / "o"), "x")
    wrong = {"pooling": "max", "output_emb_size": 7, "query_prompt": "XX: ", "passage_prompt": "YY: "}
    for name, value in wrong.items():
        with pytest.raises(UserError, match=f"--{name} {value!r} contradicts the checkpoint"):
            load(str(tmp_path / "o"), {name: value})


@pytest.mark.slow
def test_the_checkpoint_of_a_training_has_a_card(checkpoint, toy, tmp_path):
    out = succeed("export_model.py", "--params_path", checkpoint, "--output_path", tmp_path / "o", "--format",
                  "sentence-transformers", "--dev_set_file", toy / "dev.csv", "--corpus_file", toy / "corpus.csv")
    assert "sentence-transformers: largest difference to the dynamic graph" in out
    rows = [line.split()[1:] for line in out.splitlines()[-2:]]
    assert len(rows[0]) == 5 and rows[0] == rows[1]
    card = (tmp_path / "o" / "README.md").read_text(encoding="utf-8")
    for words in ("library_name: sentence-transformers", "Weights from: scratch-1x32. Loss: in_batch_negative", "| batch_size | 8 |",
                  "| learning_rate | 0.001 |", "| training texts |", f"| {rows[0][0].replace('=', ' | ')} |", "| paddlepaddle |",
                  "SentenceTransformer('o')", "| tokens at most | 24 |"):
        assert words in card, words
    assert str(toy) not in card and "| training file | train.csv |" in card
    kept = shutil.copytree(checkpoint, tmp_path / "older")  # as a checkpoint is that a newer one followed
    (kept / "training_state.json").unlink()
    (kept / "manifest.json").unlink()
    assert "| batch_size | 8 |" in model_card(*load(str(kept), {})[:1], str(kept), "o", {}, {})

    # It is an encoder for every script here, a card may be written on, and another export takes its place.
    (tmp_path / "o" / "README.md").write_text("mine")
    (tmp_path / "texts").write_text("卡丢了怎么办\n", encoding="utf-8")
    for path in (checkpoint, tmp_path / "o"):
        succeed("inference.py", "--device", "cpu", "--params_path", path, "--text_file", tmp_path / "texts",
                "--output_file", tmp_path / "v.npy")
        vectors = np.load(tmp_path / "v.npy")
        np.testing.assert_allclose(vectors, dynamic(*load(str(checkpoint), {}))(["卡丢了怎么办"]), atol=1e-5)
    again = ["export_model.py", "--params_path", tmp_path / "o", "--format", "sentence-transformers", "--output_path"]
    succeed(*again, tmp_path / "p")
    succeed(*again, tmp_path / "p")
    names = sorted(os.listdir(tmp_path / "p"))
    assert {"1_Pooling", "2_Dense", "3_Normalize", "README.md", "manifest.json"} < set(names)

    # What was changed is told, and what is not ours is not replaced.
    assert "is there, but is no export" in fail("export_model.py", "--params_path", checkpoint, "--output_path", tmp_path / "p")
    assert "export it alone" in fail(*again, tmp_path / "q", "--format", "sentence-transformers", "onnx")
    dense = tmp_path / "p" / "2_Dense"
    (dense / "notes").write_text("mine")
    assert "holds 2_Dense, which is not part of the sentence-transformers" in fail(*again, tmp_path / "p")
    assert run("inference.py", "--device", "cpu", "--params_path", tmp_path / "p").returncode == 0
    (dense / "extra.json").write_text("{}")
    read = ["inference.py", "--device", "cpu", "--params_path", tmp_path / "p"]
    assert "2_Dense/extra.json: was added to the sentence-transformers" in fail(*read)
    (dense / "extra.json").unlink()
    weights = load_file(str(dense / "model.safetensors"))
    save_file({name: value + 1 for name, value in weights.items()}, str(dense / "model.safetensors"))
    assert "2_Dense/model.safetensors: changed since it was written" in fail(*read)
    (dense / "model.safetensors").unlink()
    assert "2_Dense/model.safetensors: missing" in fail(*read)
