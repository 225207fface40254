"""Checkpoints and encoders of which a file would run a command."""

import os
import pickle

import numpy as np
import paddle
import pytest
from test_state_files import Calls

from models import loading
from models.loading import create, load, save
from semindex.errors import UserError
from semindex.text import plain_pickle


@pytest.fixture
def saved(tmp_path):
    paddle.seed(1)
    model, tokenizer = create("scratch-1x32", {"output_emb_size": 8, "max_seq_length": 32}, ["我的银行卡丢了怎么办"], "head")
    directory = tmp_path / "model_1"
    directory.mkdir()
    save(model, tokenizer, str(directory))
    return model, tokenizer, directory


def test_a_checkpoint_that_would_run_a_command(saved, tmp_path):
    _, _, directory = saved
    marker = tmp_path / "ran"
    path = directory / "model_state.pdparams"
    path.write_bytes(pickle.dumps(paddle.load(str(path), return_numpy=True) | {"x": Calls(os.system, f"touch {marker}")}))
    with pytest.raises(UserError, match=r"names posix\.system"):
        load(str(directory), {})
    assert not marker.exists()


def test_an_encoder_directory_that_would_run_a_command(saved, tmp_path):
    """paddlenlp itself reads the weights of --model_name_or_path."""
    model, tokenizer, _ = saved
    directory, marker = tmp_path / "encoder", tmp_path / "ran"
    model.ptm.save_pretrained(str(directory))
    tokenizer.save(str(directory))
    assert (create(str(directory), {})[0].ptm.embeddings.word_embeddings.weight == model.ptm.embeddings.word_embeddings.weight).all()
    (directory / "model_state.pdparams").write_bytes(pickle.dumps({"w": np.zeros(100_000), "x": Calls(os.system, f"touch {marker}")}))
    with pytest.raises(UserError, match=r"posix\.system"):
        create(str(directory), {})
    assert not marker.exists()


def test_a_tokenizer_that_would_run_a_command(saved, tmp_path):
    """One of paddlenlp's tokenizers unpickles its dictionary."""
    from paddlenlp.transformers.ernie import tokenizer as ernie_tokenizer

    create("scratch-1x32", {}, ["卡"])
    marker = tmp_path / "ran"
    path = tmp_path / "dict.wordseg.pickle"
    path.write_bytes(pickle.dumps(Calls(os.system, f"touch {marker}")))
    with pytest.raises(plain_pickle.Refused), open(path, "rb") as file:
        ernie_tokenizer.pickle.load(file)
    assert not marker.exists()
    path.write_bytes(pickle.dumps({"银行": 3, "卡": 1}))
    with open(path, "rb") as file:
        assert ernie_tokenizer.pickle.load(file) == {"银行": 3, "卡": 1}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_another_precision_are_converted(saved, dtype):
    model, _, directory = saved
    path = str(directory / "model_state.pdparams")
    state = {name: value.astype(dtype) for name, value in paddle.load(path).items()}
    paddle.save(state, path)
    again = load(str(directory), {})[0]
    for name, value in again.state_dict().items():
        assert value.dtype == paddle.float32
        np.testing.assert_allclose(value.numpy(), model.state_dict()[name].numpy(), atol=1e-2)


def test_a_value_that_is_no_array(saved):
    model, _, directory = saved
    path = str(directory / "model_state.pdparams")
    paddle.save(paddle.load(path) | {"emb_reduce_linear.bias": 3}, path)
    with pytest.raises(UserError, match=r"emb_reduce_linear.bias int instead of \[8\]"):
        loading.load_weights(model, path)


def test_no_other_reader_of_pickles_is_left():
    """Every file of another's making is read by the readers that run nothing."""
    import re

    from test_house import modules

    for module, path in modules():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"paddle\.load\(|pickle\.loads?\(|allow_pickle=True|import pickle|torch\.load", text.replace("tokenizer.pickle", "")), module
        for call in re.findall(r"np\.load\([^\n]*", text):
            assert "allow_pickle=False" in call, f"{module}: {call}"
