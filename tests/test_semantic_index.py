import itertools
import json
import os
import shutil
import time

import numpy as np
import paddle
import pytest

from models.loading import create, fingerprint, load, save
from models.weights import paddlenlp, scratch
from semindex.errors import UserError

TEXTS = ["我的银行卡丢了怎么办", "忘记密码", "快递一直不动，是不是丢件了？想投诉", "改签"]


def make(**flags):
    paddle.seed(1)
    return create("scratch-2x32", {"output_emb_size": 8, "max_seq_length": 32} | flags, TEXTS, "head")


def vectors(model, tokenizer, texts):
    model.eval()
    tokens = tokenizer(texts)
    with paddle.no_grad():
        return model(paddle.to_tensor(tokens.pad(np.arange(len(texts)), tokenizer.pad_id))).numpy()


@pytest.fixture
def saved(tmp_path):
    model, tokenizer = make()
    directory = tmp_path / "model_1"
    directory.mkdir()
    save(model, tokenizer, str(directory))
    return model, tokenizer, directory


@pytest.mark.parametrize(("pooling", "layer"), [("pooler", -1), *itertools.product(["cls", "mean", "max"], [-1, -2, 0])])
@pytest.mark.parametrize("size", [0, 8])
def test_vectors_are_units_and_padding_changes_nothing(pooling, layer, size):
    model, tokenizer = make(pooling=pooling, pooling_layer=layer, output_emb_size=size)
    together = vectors(model, tokenizer, TEXTS)
    alone = np.concatenate([vectors(model, tokenizer, [text]) for text in TEXTS])
    assert together.shape == (4, size or 32) and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_pooling_is_what_its_name_says():
    for layer in (-1, -2):
        model, tokenizer = make(pooling_layer=layer, output_emb_size=0)
        tokens = tokenizer(TEXTS)
        ids = paddle.to_tensor(tokens.pad(np.arange(4), 0))
        model.eval()
        output = model.ptm(ids, output_hidden_states=True, return_dict=True)
        hidden = output.hidden_states[layer].numpy()
        rows = [hidden[i, :n] for i, n in enumerate(tokens.lengths)]
        want = {"mean": [row.mean(0) for row in rows], "max": [row.max(0) for row in rows],
                "cls": [row[0] for row in rows], "pooler": output.pooler_output.numpy()}
        for pooling, value in want.items():
            model.settings.pooling = pooling
            np.testing.assert_allclose(model.pool(ids).numpy(), value, atol=1e-5)


def test_linear_then_dropout_then_norm():
    model, tokenizer = make(output_emb_size=64)
    model.train()
    model.ptm.eval()
    model.dropout.p = 0.5
    ids = paddle.to_tensor(tokenizer(TEXTS).pad(np.arange(4), 0))
    out = model(ids).numpy()
    assert (out == 0).any()  # a dropped coordinate stays zero: nothing mixes after the dropout
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)


def test_checkpoint_has_the_recipes_names_and_all_that_later_scripts_need(saved):
    model, tokenizer, directory = saved
    assert {"model_state.pdparams", "config.json", "vocab.txt", "tokenizer_config.json", "semantic_index.json"} <= set(
        os.listdir(directory))
    state = paddle.load(str(directory / "model_state.pdparams"))
    assert all(name.startswith(("ptm.", "emb_reduce_linear.")) for name in state)
    assert list(state["emb_reduce_linear.weight"].shape) == [32, 8]
    settings = json.loads((directory / "semantic_index.json").read_text())
    assert settings == {"encoder": "scratch-2x32", "pooling": "mean", "pooling_layer": -1, "output_emb_size": 8,
                        "max_seq_length": 32, "head": "head", "training_pooling": "", "similarity": "cosine", "max_query_length": 0, "max_chunks": 1,
                        "query_prompt": "", "passage_prompt": "", "query_prompt_on_both": False, "projection_activation": "",
                        "projection_bias": True, "matryoshka_dims": [], "principal_axes": False, "truncate_dim": 0, "threshold": None,
                        "format": 3}


@pytest.mark.parametrize("name", ["", "model_state.pdparams"])
def test_params_path_alone_gives_the_same_vectors(saved, name):
    model, tokenizer, directory = saved
    again, its_tokenizer = load(str(directory / name), {})
    np.testing.assert_array_equal(vectors(again, its_tokenizer, TEXTS), vectors(model, tokenizer, TEXTS))
    assert not again.training and its_tokenizer.max_seq_length == 32 and its_tokenizer._fast is not None


def test_flags_that_agree_are_fine_and_those_that_contradict_are_not(saved):
    _, _, directory = saved
    path = str(directory)
    load(path, {"output_emb_size": 8, "pooling": "mean", "model_name_or_path": "scratch-2x32"})
    load(path, {"model_name_or_path": path})
    assert load(path, {"max_seq_length": 16})[1].max_seq_length == 16
    for flags in ({"output_emb_size": 16}, {"pooling": "cls"}, {"pooling_layer": -2},
                  {"model_name_or_path": "ernie-3.0-medium-zh"}):
        with pytest.raises(UserError, match="contradicts the checkpoint"):
            load(path, flags)


def test_dropout_is_set_inside_the_encoder(saved):
    model, _ = load(str(saved[2]), {"dropout": 0.37}, head_dropout=0.25)
    rates = {layer.p for name, layer in model.ptm.named_sublayers() if isinstance(layer, paddle.nn.Dropout)}
    assert rates - {0} == {0.37} and model.dropout.p == 0.25
    assert model.ptm.config.attention_probs_dropout_prob == 0.37


def change(directory, edit):
    path = str(directory / "model_state.pdparams")
    state = paddle.load(path)
    edit(state)
    paddle.save(state, path)


@pytest.mark.parametrize(("edit", "message"), [
    (lambda s: s.pop("ptm.pooler.dense.bias"), r"1 missing \(ptm.pooler.dense.bias\)"),
    (lambda s: s.update({"classifier.weight": paddle.zeros([2])}), r"1 unexpected \(classifier.weight\)"),
    (lambda s: s.update({"emb_reduce_linear.weight": paddle.zeros([32, 9])}), r"\[32, 9\] instead of \[32, 8\]"),
    (lambda s: (s.pop("emb_reduce_linear.weight"), s.pop("emb_reduce_linear.bias")), r"2 missing"),
])
def test_weights_that_do_not_fit_are_refused(saved, edit, message):
    change(saved[2], edit)
    with pytest.raises(UserError, match=message):
        load(str(saved[2]), {})


def test_damaged_checkpoints(saved, tmp_path):
    directory = saved[2]
    weights = directory / "model_state.pdparams"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read as paddle weights"):
        load(str(directory), {})
    weights.write_bytes(whole)
    (directory / "vocab.txt").unlink()
    with pytest.raises(UserError, match="incomplete checkpoint"):
        load(str(directory), {})
    (directory / "semantic_index.json").write_text("{")
    with pytest.raises(UserError, match=r"semantic_index.json: damaged"):
        load(str(directory), {})
    with pytest.raises(UserError, match="no such checkpoint"):
        load(str(tmp_path / "none"), {})
    with pytest.raises(UserError, match="holds no model_state.pdparams"):
        load(str(tmp_path), {})


def test_bare_weights_need_the_encoders_name_and_load_with_it(saved, tmp_path):
    model, tokenizer, directory = saved
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(directory / "model_state.pdparams", bare)
    with pytest.raises(UserError, match="pass --model_name_or_path"):
        load(str(bare / "model_state.pdparams"), {})
    again, its_tokenizer = load(str(bare / "model_state.pdparams"), {
        "model_name_or_path": encoder_directory(model, tokenizer, tmp_path / "encoder"), "output_emb_size": 8,
        "pooling": "mean", "max_seq_length": 32})
    np.testing.assert_array_equal(vectors(again, its_tokenizer, TEXTS), vectors(model, tokenizer, TEXTS))


def encoder_directory(model, tokenizer, path):
    """What a user downloads: a plain encoder as paddlenlp saves it."""
    model.ptm.save_pretrained(str(path))
    tokenizer.save(str(path))
    return str(path)


@pytest.mark.parametrize("name", ["encoder", "ernie-3.0-medium-zh", "scratch-2x64"])
def test_a_local_directory_wins_over_a_name(tmp_path, monkeypatch, name):
    model, tokenizer = make()
    encoder_directory(model, tokenizer, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    local, its_tokenizer = create(name, {"output_emb_size": 0, "pooling": "mean"})
    assert local.ptm.config.hidden_size == 32
    np.testing.assert_array_equal(local.ptm.embeddings.word_embeddings.weight.numpy(),
                                  model.ptm.embeddings.word_embeddings.weight.numpy())
    assert local.settings.output_emb_size == 0


def test_defaults_are_the_recipes_for_a_pretrained_encoder(tmp_path):
    model, tokenizer = make()
    local, _ = create(encoder_directory(model, tokenizer, tmp_path / "encoder"), {})
    assert (local.settings.pooling, local.settings.output_emb_size) == ("pooler", 256)


@pytest.mark.parametrize("name", ["no-such-model", "ernie-3.0-medium-zh", "someone/some-model"])
def test_unknown_names_fail_in_seconds_and_say_how_to_go_on(name, monkeypatch):
    monkeypatch.setattr(paddlenlp, "_reachable", lambda name: False)
    began = time.perf_counter()
    with pytest.raises(UserError, match=f"{name}: not a local directory.*network failed; give a local directory"):
        create(name, {})
    assert time.perf_counter() - began < 20


def test_paths_that_do_not_exist_are_no_names():
    with pytest.raises(UserError, match="no such directory"):
        create("./encoder", {})


@pytest.mark.parametrize("name", ["scratch", "scratch-2x33", "scratch-0x64", "scratch-2-64"])
def test_scratch_names(name):
    with pytest.raises(UserError, match="expected scratch-LxW"):
        scratch.parse_name(name)


def test_impossible_settings():
    with pytest.raises(UserError, match="pooling_layer 3"):
        make(pooling_layer=3)
    with pytest.raises(UserError, match="reads at most 512 tokens"):
        make(max_seq_length=600)


def test_fingerprint_follows_the_weights(saved):
    directory = saved[2]

    def mark(path, **flags):
        return fingerprint(str(path), *load(str(path), flags))

    before = mark(directory)
    assert before == mark(directory / "model_state.pdparams") == mark(directory, max_seq_length=32)
    assert mark(directory, max_seq_length=31) != before  # the vectors of long texts are others
    change(directory, lambda s: s.update({"emb_reduce_linear.bias": paddle.ones([8])}))
    assert mark(directory) != before
