"""Sentence vectors by flags: mean of the last but one layer, mean, [CLS], maximum; everywhere an encoder is used."""

import numpy as np
import paddle
import pytest
from conftest import TRAIN, launch, succeed
from test_semantic_index import TEXTS, make

import train_batch_neg
from models.encoders import dynamic, fast_encoder
from models.export import export
from models.settings import read_settings
from semindex.encode.exported import Predictor

RECIPES = {"bert-as-service": ("mean", -2), "mean": ("mean", -1), "cls": ("cls", -1), "max": ("max", -1), "max of the first": ("max", 1)}


def by_numpy(model, tokenizer, pooling, layer):
    """From each text's hidden states alone, without padding."""
    found = []
    for row in tokenizer(TEXTS).pad(np.arange(len(TEXTS)), 0):
        ids = paddle.to_tensor(row[: int((row != 0).sum())][None])
        with paddle.no_grad():
            states = model.ptm(ids, paddle.zeros_like(ids), output_hidden_states=True, return_dict=True).hidden_states
        hidden = states[layer].numpy()[0]
        vector = {"mean": hidden.mean(0), "max": hidden.max(0), "cls": hidden[0]}[pooling]
        found.append(vector / np.linalg.norm(vector))
    return np.array(found)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_are_what_numpy_makes_of_the_hidden_states(recipe):
    pooling, layer = RECIPES[recipe]
    model, tokenizer = make(pooling=pooling, pooling_layer=layer, output_emb_size=0)
    model.eval()
    wanted = by_numpy(model, tokenizer, pooling, layer)
    np.testing.assert_allclose(dynamic(model, tokenizer)(TEXTS), wanted, atol=1e-5)
    last = by_numpy(model, tokenizer, pooling, -1)
    assert (np.abs(wanted - last).max() > 1e-3) == (layer != -1)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_engine_and_an_export_give_them_too(recipe, tmp_path):
    pooling, layer = RECIPES[recipe]
    model, tokenizer = make(pooling=pooling, pooling_layer=layer, output_emb_size=0)
    model.eval()
    wanted = by_numpy(model, tokenizer, pooling, layer)
    for engine in ("static", "onnx"):
        np.testing.assert_allclose(fast_encoder(model, tokenizer, engine, 4)[0](TEXTS), wanted, atol=2e-5, err_msg=engine)
    export(model, tokenizer, str(tmp_path / "export"), ["onnx"], "test")
    for engine in ("paddle", "onnx"):
        np.testing.assert_allclose(Predictor(str(tmp_path / "export"), engine=engine)(TEXTS), wanted, atol=2e-5, err_msg=engine)


def test_the_names_of_bert_as_service_are_understood():
    for given, wanted in (("REDUCE_MEAN", "mean"), ("REDUCE_MAX", "max"), ("CLS_TOKEN", "cls"), ("mean", "mean")):
        args = train_batch_neg.parser().parse_args(["--train_set_file", "t", "--pooling_strategy", given, "--pooling_layer", "-2"])
        assert (args.pooling, args.pooling_layer) == (wanted, -2)


@pytest.mark.slow
def test_training_recall_and_export_keep_the_recipe_and_two_processes_train_as_one(toy, tmp_path):
    """Nothing reads the last layer then, and processes must not wait for its gradient."""
    flags = [*map(str, TRAIN), "--train_set_file", str(toy / "train.csv"), "--max_steps", "3", "--pooling_strategy", "REDUCE_MEAN",
             "--pooling_layer", "-2", "--dropout", "0"]
    flags[flags.index("scratch-1x32")] = "scratch-2x32"
    succeed(*flags, "--save_dir", tmp_path / "one")
    flags[flags.index("--batch_size") + 1] = "4"
    done = launch(2, *flags, "--save_dir", "two", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    settings = read_settings(str(tmp_path / "one" / "latest"))
    assert (settings.pooling, settings.pooling_layer) == ("mean", -2)
    one, two = (paddle.load(str(tmp_path / name / "latest" / "model_state.pdparams")) for name in ("one", "two"))
    for name, value in one.items():
        np.testing.assert_allclose(two[name].numpy(), value.numpy(), atol=1e-4, err_msg=name)
    succeed("recall.py", "--device", "cpu", "--params_path", tmp_path / "one" / "latest", "--corpus_file", toy / "corpus.csv",
            "--similar_text_pair", toy / "dev.csv", "--recall_num", 5, "--recall_result_dir", tmp_path, "--engine", "onnx")
