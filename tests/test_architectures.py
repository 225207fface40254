"""BERT, ERNIE, RoBERTa and XLM-RoBERTa as sentence-transformers directories: our vectors are the ones it gives."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.encoders import dynamic
from models.export import export, open_export
from models.loading import load, save
from semindex.errors import UserError

HERE = Path(__file__).with_name("reference")
sys.path.insert(0, str(HERE))

import tiny  # noqa: E402

REFERENCE = json.loads((HERE / "architectures.json").read_text(encoding="utf-8"))
SIDES = ("query", "passage")


@pytest.fixture(scope="module", params=list(tiny.VARIANTS))
def variant(request, tmp_path_factory):
    """Return (a variant's name, its directory)."""
    path = tmp_path_factory.mktemp(request.param)
    tiny.write(path, tiny.VARIANTS[request.param])
    return request.param, path


def assert_same(name, encoder, atol=1e-4):
    """The encoder gives the stored vectors of each side."""
    for side in SIDES:
        wanted = np.array(REFERENCE[name].get(side, REFERENCE[name]["query"]))
        found = encoder.side(side)(tiny.TEXTS)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < atol, side


def test_vectors_are_those_of_sentence_transformers(variant):
    name, path = variant
    model, tokenizer = load(str(path), {})
    assert_same(name, dynamic(model, tokenizer, 3))
    alone = dynamic(model, tokenizer, 1)
    np.testing.assert_allclose(dynamic(model, tokenizer, 8)(tiny.TEXTS), alone(tiny.TEXTS), atol=1e-5)  # padding is nothing


@pytest.mark.slow
def test_so_are_those_of_a_checkpoint_and_an_export(variant, tmp_path):
    name, path = variant
    model, tokenizer = load(str(path), {})
    (tmp_path / "saved").mkdir()
    save(model, tokenizer, str(tmp_path / "saved"))
    assert_same(name, dynamic(*load(str(tmp_path / "saved"), {}), 4))
    export(model, tokenizer, str(tmp_path / "export"), ["paddle"], "test")
    assert_same(name, open_export(str(tmp_path / "export"), "paddle", batch_size=4))


def test_brain_floats_are_read(tmp_path):
    for name in ("halved", "cut"):
        tiny.write(tmp_path / name, tiny.VARIANTS["bert"])
    file = tmp_path / "halved" / "model.safetensors"
    state = {name: value.view(np.uint32) >> 16 << 16 for name, value in load_file(str(file)).items()}
    save_file({name: value.view(np.float32) for name, value in state.items()}, str(tmp_path / "cut" / "model.safetensors"))
    header, content = {}, b""
    for name, value in state.items():
        half = (value >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": value.shape, "data_offsets": [len(content), len(content) + len(half)]}
        content += half
    words = json.dumps(header).encode()
    file.write_bytes(len(words).to_bytes(8, "little") + words + content)
    halved, cut = (dynamic(*load(str(tmp_path / name), {}))(tiny.TEXTS) for name in ("halved", "cut"))
    np.testing.assert_array_equal(halved, cut)


FIELDS = [
    ("ernie", "config.json", {"position_embedding_type": "relative_key"}, "position_embedding_type relative_key is not"),
    ("ernie", "config.json", {"use_task_id": 1}, "use_task_id is 1, expected true or false"),
    ("roberta", "config.json", {"pad_token_id": 0}, "config.json says that the padding is 0, the tokenizer's files say 1"),
    ("roberta", "config.json", {"max_position_embeddings": 50}, r"position_embeddings.weight is \[42, 32\] instead of"),
    ("ernie", "2_Dense/config.json", {"use_residual": True}, "2_Dense/config.json: a Dense beside the pooled vector"),
    ("ernie", "2_Dense/config.json", {"activation_function": "os.system"}, "activation_function is \"os.system\""),
    ("ernie", "2_Dense/config.json", {"out_features": 23}, "holds bias"),
    ("bert-e5", "1_Pooling/config.json", {"include_prompt": False}, "leaves the prompt out"),
    ("bert-e5", "1_Pooling/config.json", {"pooling_mode_cls_token": True}, "pooling by cls_token, mean_tokens is not"),
    ("bert-newer", "1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "pooling by lasttoken is not supported"),
    ("roberta", "sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case is true, and tokenizer.json keeps"),
]


@pytest.mark.parametrize("name, file, change, error", FIELDS, ids=lambda value: str(value)[:24])
def test_what_would_give_other_vectors_is_refused(name, file, change, error, tmp_path):
    tiny.write(tmp_path, tiny.VARIANTS[name])
    tiny.dump(tmp_path / file, json.loads((tmp_path / file).read_text(encoding="utf-8")) | change)
    with pytest.raises(UserError, match=error):
        load(str(tmp_path), {})


def test_fields_left_out_are_what_transformers_takes(tmp_path):
    tiny.write(tmp_path, tiny.VARIANTS["bert"])
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for name in ("type_vocab_size", "layer_norm_eps", "pad_token_id", "hidden_act"):
        del content[name]
    tiny.dump(tmp_path / "config.json", content)
    tiny.dump(tmp_path / "sentence_bert_config.json", {"do_lower_case": True})  # as its tokenizer does
    assert_same("bert", dynamic(*load(str(tmp_path), {})))


def test_a_missing_shard_is_named(tmp_path):
    tiny.write(tmp_path, tiny.VARIANTS["ernie"])
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(UserError, match="names model-00002-of-00003.safetensors, which is missing"):
        load(str(tmp_path), {})


def test_another_similarity_is_told(tmp_path, capsys):
    tiny.write(tmp_path, tiny.VARIANTS["ernie"])
    content = json.loads((tmp_path / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    tiny.dump(tmp_path / "config_sentence_transformers.json", content | {"similarity_fn_name": "dot", "truncate_dim": 4096})
    assert_same("ernie", dynamic(*load(str(tmp_path), {})))  # cut to more than there is: not at all
    assert "its vectors are compared by dot; here they are unit vectors" in capsys.readouterr().err
