import dataclasses
import json
import shutil
import time

import paddle
import pytest

from models import settings
from models.loading import create, load
from semindex.collection import store
from semindex.encode import exported
from semindex.errors import UserError
from semindex.fields import read_fields, real, whole
from semindex.search import directory
from training import run
from training.negatives import generations


def altered(path, changes):
    content = json.loads(path.read_text(encoding="utf-8"))
    for name, value in changes.items():
        if value is ...:
            del content[name]
        else:
            content[name] = value
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("owner", [(settings, settings.EncoderSettings), (store, store.About), (generations, generations.Generation)])
def test_the_checked_fields_are_those_of_the_class(owner):
    module, kind = owner
    assert set(module.FIELDS) == {field.name for field in dataclasses.fields(kind)}
    required = {field.name for field in dataclasses.fields(kind)
                if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING}
    assert {name for name, field in module.FIELDS.items() if field.required} == required


@pytest.mark.parametrize(("content", "message"), [
    ("", "damaged"), ("[1]", r"it holds \[1\] instead of an object"), ("nul", "damaged"), ("[" * 100_000, "damaged"), ("{}", "the field n is missing, expected a whole"),
    ('{"n": "64"}', 'n is "64", expected a whole number from 1 to 9'), ('{"n": true}', "n is true"), ('{"n": 1.0}', r"n is 1\.0"), ('{"n": 10}', "n is 10, expected"),
    ('{"n": null}', "n is null"), ('{"n": 1, "x": NaN}', "x is NaN, expected a number from 0 to 1"), ('{"n": 1, "x": 1e999}', "x is Infinity"),
    ('{"n": 1, "m": 2}', r'the field "m" is unknown; known are n, x'), ('{"n": "%s"}' % ("长" * 200), r"\.\.\., expected"), ("\udcff", "damaged"),
])
def test_each_error_names_file_field_and_what_is_allowed(tmp_path, content, message):
    path = tmp_path / "s.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=rf"^{path}: [^\n]*{message}[^\n]*; do this$"):
        read_fields(str(path), {"n": whole(1, 9), "x": real(0, 1).optional()}, advice="do this")
    path.write_text('{"n": 1, "x": 0.5}')
    assert read_fields(str(path), {"n": whole(1, 9), "x": real(0, 1).optional()}) == {"n": 1, "x": 0.5}


@pytest.mark.parametrize(("changes", "message"), [
    ({"max_seq_length": "64"}, 'max_seq_length is "64", expected a whole number from 3 to 8192'), ({"max_seq_length": -1}, "max_seq_length is -1"),
    ({"max_seq_length": 513}, "reads at most 512 tokens"), ({"pooling": "foo"}, 'pooling is "foo", expected one of pooler, cls, mean, max'),
    ({"similarity": "foo"}, 'similarity is "foo", expected one of cosine, dot'), ({"training_pooling": "foo"}, "training_pooling"),
    ({"output_emb_size": 1.5}, "output_emb_size is 1.5"), ({"output_emb_size": 2**40}, "output_emb_size"), ({"pooling_layer": None}, "pooling_layer is null"),
    ({"encoder": 3}, "encoder is 3, expected a text"), ({"encoder": ...}, "the field encoder is missing"), ({"head": ["a"]}, "head"), ({"max_chunks": 0}, "max_chunks"),
    ({"max_query_length": True}, "max_query_length is true"), ({"colour": "red"}, 'the field "colour" is unknown'), ({"format": 4}, "written by a newer version"),
    ({"format": "2"}, 'format is "2"'),
])
def test_semantic_index_json(before, changes, message):
    path = before / "run" / "model_4" / "semantic_index.json"
    altered(path, changes)
    with pytest.raises(UserError, match=rf"^[^\n]*{message}[^\n]*$"):
        load(str(path.parent), {})


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "message"), [
    ({"hidden_size": 1_000_000}, "hidden_size is 1000000, expected a whole number from 1 to 65536"), ({"hidden_size": "32"}, 'hidden_size is "32"'),
    ({"hidden_size": 8192}, r"asks for [0-9,]* parameters \(hidden_size 8192, .*model_state.pdparams of [0-9,]* bytes holds"), ({"hidden_size": 0}, "hidden_size is 0"),
    ({"num_attention_heads": 3}, "hidden_size is 32, expected a multiple of num_attention_heads, 3"), ({"num_hidden_layers": 1000}, "asks for"),
    ({"num_hidden_layers": -1}, "num_hidden_layers is -1"), ({"vocab_size": 9_000_000}, "asks for"), ({"vocab_size": None}, "vocab_size is null"),
    ({"max_position_embeddings": 900_000}, "asks for"), ({"intermediate_size": 900_000}, "asks for"), ({"type_vocab_size": 10**9}, "type_vocab_size"),
    ({"pad_token_id": 56}, "pad_token_id is 56, expected one below vocab_size, 56"), ({"hidden_dropout_prob": 2}, "hidden_dropout_prob"),
    ({"hidden_act": "nothing"}, "no encoder can be made of it"), ({"num_hidden_layers": 2}, "missing"), ({"hidden_size": 16}, "instead of"),
    ({"architectures": ["LlamaForCausalLM"]}, "the architecture LlamaForCausalLM is not supported; known to be right are BertModel"),
    ({"architectures": ["ErnieMModel"]}, "ErnieMModel is not supported"), ({"architectures": []}, "names no architecture"), ({"architectures": "ErnieModel"}, "architectures"),
])
@pytest.mark.parametrize("way", ["checkpoint", "encoder"])
def test_config_json(before, changes, message, way):
    path = before / "run" / "model_4" / "config.json"
    if way == "encoder":  # the same files, as a directory that --model_name_or_path names
        for name in ("semantic_index.json", "training_state.json", "optimizer.pdopt"):
            (path.parent / name).unlink()
        state = paddle.load(str(path.parent / "model_state.pdparams"))
        paddle.save({name.removeprefix("ptm."): value for name, value in state.items() if name.startswith("ptm.")},
                    str(path.parent / "model_state.pdparams"))
        if message in ("missing", "instead of", "no encoder can be made of it"):
            message = "cannot be loaded" if changes != {"num_hidden_layers": 2} else None
        create(str(path.parent), {"pooling": "mean"})
    altered(path, changes)
    if message is None:
        return  # paddlenlp gives a layer that the file lacks random weights
    began = time.perf_counter()
    with pytest.raises(UserError, match=rf"^[^\n]*{message}[^\n]*$"):
        load(str(path.parent), {}) if way == "checkpoint" else create(str(path.parent), {"pooling": "mean"})
    assert time.perf_counter() - began < 20  # a hang was the fault


@pytest.mark.parametrize(("changes", "message"), [
    ({"dimension": "16"}, 'dimension is "16"'), ({"dimension": -1}, "dimension is -1"),
    ({"max_seq_length": 600}, "max_seq_length is 600, expected at most max_position_embeddings, 512"), ({"max_seq_length": None}, "max_seq_length is null"),
    ({"tokenizer": {}}, "tokenizer is"), ({"similarity": "foo"}, 'similarity is "foo", expected one of cosine, dot'),
    ({"tokenizer": {"kind": "foo"}}, "tokenizer is"), ({"tokenizer": {"kind": "wordpiece"}}, "tokenizer: the field vocabulary is missing"),
    ({"tokenizer": {"kind": "wordpiece", "vocabulary": "../vocab.txt", "settings": {}}}, "tokenizer: vocabulary is"), ({"dimension": ...}, "the field dimension is missing"),
])
def test_an_exports_manifest(before, changes, message):
    altered(before / "export" / "manifest.json", changes)
    with pytest.raises(UserError, match=rf"manifest.json: [^\n]*{message}[^\n]*$"):
        exported.read_manifest(str(before / "export"))


@pytest.mark.parametrize(("changes", "message"), [
    ({"dimension": "16"}, 'dimension is "16"'), ({"count": -1}, "count is -1"), ({"checksums": {"/etc/passwd": "1"}}, "checksums"), ({"kind": 3}, "kind is 3"),
    ({"parameters": None}, "parameters is null"), ({"seal": ...}, "the field seal is missing"), ({"format": 9}, "another version"), ({"kind": "tree"}, "another version"),
    ({"count": 3}, "it was altered"), ({"parameters": {}}, "parameters: the field m is missing"),
    ({"parameters": {"m": 32, "ef_construction": 0}}, "parameters: ef_construction is 0"),
    ({"parameters": {"m": 32, "ef_construction": 200, "x": 1}}, 'parameters: the field "x" is unknown'),
])
def test_index_json(before, changes, message):
    altered(before / "index_hnsw" / "index.json", changes)
    with pytest.raises(UserError, match=rf"index.json: [^\n]*{message}[^\n]*$"):
        directory.TextIndex.load(str(before / "index_hnsw"))


@pytest.mark.parametrize(("name", "changes", "message"), [
    ("collection/collection.json", {"passages": "36"}, 'passages is "36"'), ("collection/collection.json", {"queries": -1}, "queries is -1"),
    ("collection/collection.json", {"training": 25}, "training is 25, expected at most queries, 24"), ("collection/collection.json", {"x": 1}, "unknown"),
    ("collection/collection.json", {"key": ...}, "key is missing"), ("ann/generation_1/generation.json", {"step": None}, "step is null"),
    ("ann/generation_1/generation.json", {"counts": [1]}, "counts"), ("ann/generation_1/generation.json", {"source": "foo"}, "source"),
])
def test_a_collection_and_its_generations(before, name, changes, message):
    altered(before / "ance" / name, changes)
    with pytest.raises(UserError, match=rf"json: [^\n]*{message}[^\n]*; remove "):
        if name.startswith("collection"):
            store.load(str(before / "ance" / "collection"))
        else:
            generations.Generations(str(before / "ance" / "ann")).newest()


def test_an_exports_settings_where_its_manifest_is_older(before):
    path = before / "export" / "semantic_index.json"
    altered(path, {"similarity": "foo"})
    with pytest.raises(UserError, match='semantic_index.json: similarity is "foo", expected one of cosine, dot'):
        exported.similarity_of(str(path.parent), {"files": {"semantic_index.json": ""}})


def test_training_state_json(before):
    path = before / "run" / "model_4" / "training_state.json"
    whole_state = path.read_text()
    for changes in ({"step": "4"}, {"step": -1}, {"best": "x"}, {"waited": None}, {"step": ...}):
        path.write_text(whole_state)
        altered(path, changes)
        with pytest.raises(UserError, match=rf"training_state.json: [^\n]*{next(iter(changes))}"):
            read_fields(str(path), run.FIELDS, others=True)


def test_a_sentence_transformers_directory(before, tmp_path):
    from models.weights.huggingface import sentence_settings

    shutil.copytree(before / "run" / "model_4", tmp_path / "st")
    modules = tmp_path / "st" / "modules.json"
    for content, message in (("{}", "expected a list"), ("[1]", "expected a list"), ("[", "damaged")):
        modules.write_text(content)
        with pytest.raises(UserError, match=message):
            sentence_settings(str(tmp_path / "st"))
    modules.write_text("[]")
    (tmp_path / "st" / "sentence_bert_config.json").write_text('{"max_seq_length": "x"}')
    with pytest.raises(UserError, match="max_seq_length"):
        sentence_settings(str(tmp_path / "st"))
