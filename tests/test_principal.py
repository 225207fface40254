"""Vectors turned to principal axes: import_weights.py --pca_texts."""

import json

import numpy as np
import pytest
from conftest import SUBJECTS, TRAIN, fail, run, succeed

import import_weights
from models import importing, loading
from models.encoders import dynamic
from models.settings import read_settings
from models.weights import Pretrained
from models.weights.principal import principal_directions, turn
from semindex.encode.truncation import choose
from semindex.errors import UserError


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_turned_through_a_linear_layer_and_without_one():
    """The layer's product with the basis, its bias too: the same vectors in other coordinates, all products kept."""
    rng = np.random.default_rng(0)
    pooled = rng.standard_normal([40, 6]).astype(np.float32)
    weight, bias = rng.standard_normal([6, 5]).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    vectors = pooled @ weight + bias
    found = Pretrained(None, None, {"matryoshka_dims": [2], "truncate_dim": 2}, {"weight": weight, "bias": bias})
    shares = turn(found, vectors, 5)
    turned = pooled @ found.projection["weight"] + found.projection["bias"]
    np.testing.assert_allclose(turned @ turned.T, vectors @ vectors.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.cumsum((turned**2).sum(axis=0)) / (vectors**2).sum(), shares, atol=1e-5)
    assert found.settings == {"matryoshka_dims": [], "truncate_dim": 0, "output_emb_size": 5, "projection_bias": True,
                              "principal_axes": True}
    bare = Pretrained(None, None)
    turn(bare, pooled, 3)
    np.testing.assert_array_equal(bare.projection["weight"], principal_directions(pooled, 3)[0])
    assert not bare.settings["projection_bias"]
    with pytest.raises(UserError, match="--output_emb_size 7: the encoder's vectors have 6 numbers"):
        turn(Pretrained(None, None), pooled, 7)


@pytest.fixture(scope="module")
def turned(toy, checkpoint):
    """The toy checkpoint, turned to the axes of its training texts; what was printed beside it."""
    done = run("import_weights.py", "--model_name_or_path", checkpoint, "--pca_texts", toy / "train.csv", "--output_path",
               toy / "turned")
    assert done.returncode == 0, done.stderr
    return toy / "turned", done


def vectors_of(path, *flags, texts):
    out = path.parent / f"{path.name}{len(flags)}.npy"
    succeed("inference.py", "--params_path", path, "--text", *texts, "--output_file", out, *flags)
    return np.load(out)


def test_a_checkpoint_turned(toy, checkpoint, turned):
    """Every cosine stays, and no other axes would keep those of the training texts better when the first are kept."""
    path, done = turned
    assert "turned to the principal axes of 24 texts: of the vectors' squared length 90% in the first" in done.stdout
    texts = sorted({text for line in (toy / "train.csv").read_text().splitlines() for text in line.split("\t")})
    before, after = vectors_of(checkpoint, texts=texts), vectors_of(path, texts=texts)
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)
    values = np.linalg.svd(before.astype(np.float64), compute_uv=False)
    error = np.linalg.norm(after[:, :4] @ after[:, :4].T - before @ before.T)
    assert error == pytest.approx(np.sqrt((values[4:] ** 4).sum()), abs=1e-3)
    asked = run("inference.py", "--params_path", path, "--truncate_dim", 4, "--text", *SUBJECTS, "--output_file",
                toy / "cut.npy")
    assert asked.returncode == 0 and "warning" not in asked.stderr  # the first numbers hold most: nothing to warn of
    np.testing.assert_allclose(np.load(toy / "cut.npy"), unit(vectors_of(path, texts=SUBJECTS)[:, :4]), atol=1e-5)
    settings, was = read_settings(path), read_settings(checkpoint)
    assert settings.principal_axes and not was.principal_axes
    assert (settings.encoder, settings.head, settings.max_seq_length) == (was.encoder, was.head, was.max_seq_length)
    assert (path / "training.json").read_bytes() == (checkpoint / "training.json").read_bytes()


def test_fewer_numbers_for_good(toy, checkpoint, turned):
    """--output_emb_size N keeps what --truncate_dim N would, without the rest."""
    succeed("import_weights.py", "--model_name_or_path", checkpoint, "--pca_texts", toy / "train.csv", "--output_emb_size", 4,
            "--output_path", toy / "four")
    short = vectors_of(toy / "four", texts=SUBJECTS)
    assert short.shape == (len(SUBJECTS), 4)
    np.testing.assert_allclose(short, vectors_of(turned[0], "--truncate_dim", 4, texts=SUBJECTS), atol=1e-5)


def test_training_goes_on_from_turned_vectors(toy, turned):
    """The layer is trained like any other, and checkpoint and export know of the axes."""
    words = [str(word) for word in TRAIN]
    for flag in ("--model_name_or_path", "--output_emb_size"):  # the checkpoint says them
        del words[words.index(flag) : words.index(flag) + 2]
    succeed(*words, "--init_from_ckpt", turned[0], "--train_set_file", toy / "train.csv", "--max_steps", 2,
            "--matryoshka_dims", 4, "--save_dir", toy / "on")
    settings = read_settings(toy / "on" / "latest")
    assert settings.principal_axes and settings.matryoshka_dims == [4]
    succeed("export_model.py", "--params_path", toy / "on" / "latest", "--output_path", toy / "exported", "--format", "onnx")
    assert json.loads((toy / "exported" / "manifest.json").read_text())["principal_axes"] is True


def test_a_width_is_warned_of_where_no_axes_were_turned(capfd):
    assert choose(4, 16, [], principal_axes=True) == 4 and not capfd.readouterr().err
    assert choose(4, 16, []) == 4 and "import_weights.py --pca_texts" in capfd.readouterr().err


@pytest.mark.parametrize("flags, error", [
    (["--pca_texts", "missing.csv"], "missing.csv"),
    (["--pca_texts", "-"], "--pca_texts -: the texts are read twice"),
    (["--pca_texts", "{toy}/train.csv", "--output_emb_size", 17], "--output_emb_size 17: the encoder's vectors have 16"),
    (["--output_emb_size", 8], "--output_emb_size 8 contradicts the checkpoint"),
    (["--pca_texts", "{toy}/train.csv", "--pooling", "max"], "--pooling 'max' contradicts the checkpoint"),
])
def test_what_cannot_be_turned(toy, checkpoint, tmp_path, flags, error):
    flags = [str(flag).format(toy=toy) for flag in flags]
    assert error in fail("import_weights.py", "--model_name_or_path", checkpoint, *flags, "--output_path", tmp_path / "no")
    assert not list(tmp_path.iterdir())


def test_static_encoders_and_inner_products_stay(toy, checkpoint, tmp_path):
    succeed("train_distill.py", "--device", "cpu", "--teacher", checkpoint, "--static", 8, "--train_set_file", toy / "corpus.csv",
            "--epochs", 0, "--save_dir", toy / "static")
    succeed("train_ance.py", "--device", "cpu", "--model_name_or_path", "scratch-1x32", "--similarity", "dot", "--train_set_file",
            toy / "train.csv", "--epochs", 0, "--save_dir", toy / "dot")
    for name, what in (("static", "a static encoder"), ("dot", "for inner products")):
        assert f"is {what}, which stays as it is" in fail(
            "import_weights.py", "--model_name_or_path", toy / name / "latest", "--pca_texts", toy / "train.csv",
            "--output_path", tmp_path / "no")


@pytest.mark.parametrize("layer", [True, False])
def test_a_cut_that_the_source_asks_for_is_turned_as_it_is(toy, checkpoint, layer):
    """Of vectors that are cut to 4 numbers those are turned: all their cosines stay, behind a linear layer or none."""
    model, tokenizer = loading.load(str(checkpoint), {})
    settings = {"pooling": "mean", "output_emb_size": 16 if layer else 0, "truncate_dim": 4}
    state = {key: value.numpy() for key, value in model.emb_reduce_linear.state_dict().items()} if layer else {}
    found = Pretrained(model.ptm, tokenizer.with_length, settings, state)
    args = import_weights.parser().parse_args(["--model_name_or_path", "x", "--output_path", "y", "--pca_texts",
                                               str(toy / "train.csv")])

    def of_source():
        made = loading.assemble("x", found, {"max_seq_length": 24})
        made[0].eval()
        return dynamic(*made)(SUBJECTS)

    before = of_source()
    importing._turn("x", found, args)
    after = of_source()
    assert before.shape == after.shape == (len(SUBJECTS), 4)
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)


def test_few_texts_are_told_of(toy, checkpoint, tmp_path):
    (tmp_path / "two.csv").write_text("卡丢了\n退款\n", encoding="utf-8")
    done = run("import_weights.py", "--model_name_or_path", checkpoint, "--pca_texts", tmp_path / "two.csv", "--output_path",
               tmp_path / "turned")
    assert done.returncode == 0 and "2 different texts say little of 16 numbers" in done.stderr
