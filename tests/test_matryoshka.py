"""Losses at several widths, and vectors of which the first numbers are kept."""

import math

import numpy as np
import paddle
import pytest
from conftest import TRAIN, fail, succeed
from learned_head import LearnedHead
from test_trainer import PAIRS, assert_same, schedule

from data import TrainingSet
from models import loading
from models.encoders import dynamic, fast_encoder
from models.export import export, open_export
from models.heads.ance import Ance
from models.heads.hardest_negative import HardestNegative
from models.heads.in_batch_negative import InBatchNegative
from models.heads.matryoshka import Matryoshka
from models.heads.simcse import SimCSE
from models.settings import read_settings
from semindex.encode.exported import Predictor, read_manifest
from semindex.encode.truncation import choose, truncate
from semindex.errors import UserError
from training.run import Run
from training.trainer import Trainer, train

HEADS = {"in-batch": InBatchNegative(symmetric=True, gap=0.3), "hardest": HardestNegative(0.9, hardest=2), "simcse": SimCSE(),
         "ance": Ance(), "ance in batch": Ance(in_batch=True)}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def columns(count, samples=5, width=12, seed=0):
    rng = np.random.default_rng(seed)
    return [unit(rng.standard_normal([samples, width])).astype(np.float32) for _ in range(count)]


def tensors(arrays):
    found = [paddle.to_tensor(array) for array in arrays]
    for tensor in found:
        tensor.stop_gradient = False
    return found


@pytest.mark.parametrize("name", HEADS)
def test_every_head_at_every_width(name):
    """The mean of the head's own losses of vectors cut beforehand; gradients through the cut by hand."""
    inner, some = HEADS[name], columns(3)
    mask = np.zeros([5, 10], bool)
    mask[0, 1] = mask[1, 0] = mask[2, 7] = True
    head = Matryoshka(inner, [7, 4])
    whole = tensors(some)
    loss = head(whole, paddle.to_tensor(mask))
    loss.backward()
    wanted, gradients = [], [np.zeros_like(column) for column in some]
    for width in (4, 7, 12):
        parts = tensors([unit(column[:, :width]) for column in some])
        one = inner(parts, paddle.to_tensor(mask))
        one.backward()
        wanted.append(float(one))
        for sum_, column, part in zip(gradients, some, parts):
            # u = x / |x|: dL/dx = (g - u (u.g)) / |x|; whole vectors are taken as they are
            g, u = part.grad.numpy(), part.numpy()
            if width < 12:
                g = (g - u * (u * g).sum(1, keepdims=True)) / np.linalg.norm(column[:, :width], axis=1, keepdims=True)
            sum_[:, :width] += g / 3
    assert float(loss) == pytest.approx(np.mean(wanted), rel=1e-5) and len(set(wanted)) == 3
    for tensor, expected in zip(whole, gradients):
        np.testing.assert_allclose(tensor.grad.numpy(), expected, atol=2e-6)
    assert (head.name, head.uses_labels) == (inner.name, False) and head.stuck(5, 3) == inner.stuck(5, 3)
    assert head.settings() == inner.settings() | {"matryoshka_dims": [4, 7]}


def test_the_loss_in_numbers():
    q, p = columns(2, samples=4)
    losses = []
    for width in (3, 12):
        logits = 20 * (unit(q[:, :width].astype(np.float64)) @ unit(p[:, :width].astype(np.float64)).T)
        losses.append(np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits)))
    found = float(Matryoshka(InBatchNegative(0.0, 20.0), [3])(tensors([q, p])))
    assert found == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(Matryoshka(InBatchNegative(0.0, 20.0), [3, 12])(tensors([q, p]))) == found  # the whole width once


def test_all_vectors_alike_give_the_same_loss_at_every_width():
    alike = [np.repeat(column[:1], 5, 0) for column in columns(1) * 2]
    head = Matryoshka(InBatchNegative(0.2, 30.0), [2, 5])
    assert float(head(tensors(alike))) == pytest.approx(head.stuck(5, 2), rel=1e-5)
    assert math.isfinite(float(Matryoshka(SimCSE(), [1])(tensors(columns(2)))))


def test_dims_that_cannot_be():
    for dims in ([], [0], [4, 4]):
        with pytest.raises(ValueError, match="expected different numbers from 1 up"):
            Matryoshka(SimCSE(), dims)
    with pytest.raises(ValueError, match=r"dims \[13\]: the vectors have 12 numbers"):
        Matryoshka(SimCSE(), [13])(tensors(columns(2)))


class Scaled(LearnedHead):
    """A head with labels and a parameter that fits every width."""

    def __init__(self):
        super().__init__(1)
        del self.linear
        self.linear = paddle.nn.Identity()


def made(seed=0, dims=(4, 9)):
    paddle.seed(seed)
    model, tokenizer = loading.create("scratch-1x32", {"output_emb_size": 16, "max_seq_length": 24}, [t for r in PAIRS for t in r])
    labels = np.random.default_rng(3).uniform(-1, 1, len(PAIRS))
    model.settings.matryoshka_dims = list(dims)
    return model, tokenizer, Matryoshka(Scaled(), dims), TrainingSet.from_samples(PAIRS, tokenizer, 8, seed=1, labels=labels)


@pytest.mark.slow
def test_a_resumed_run_ends_where_the_undisturbed_one_does(tmp_path):
    """With the inner head's own parameter, learnt, saved and resumed."""
    train(*made(), schedule(tmp_path / "whole"))
    whole = paddle.load(str(tmp_path / "whole" / "latest" / "head.pdparams"))
    assert list(whole) == ["inner.temperature"] and float(whole["inner.temperature"]) != 2.0
    assert read_settings(str(tmp_path / "whole" / "latest")).matryoshka_dims == [4, 9]

    class Stop(Exception):
        pass

    def stopping(trainer):
        if trainer.run.number == 4:
            raise Stop
        return "", {}

    with pytest.raises(Stop):
        train(*made(), schedule(tmp_path / "part"), callback=stopping)
    for dims in ((4, 8), (4,)):
        with pytest.raises(UserError, match=r"was made with matryoshka_dims \[4, 9\], now it is \[4"):
            train(*made(9, dims), schedule(tmp_path / "part", resume=True))
    model, tokenizer, head, data = made(9)
    model.settings.matryoshka_dims = []
    with pytest.raises(UserError, match="was made with encoder's matryoshka_dims"):
        train(model, tokenizer, head.inner, data, schedule(tmp_path / "part", resume=True))
    train(*made(9), schedule(tmp_path / "part", resume=True))
    assert_same(tmp_path / "whole" / "latest", tmp_path / "part" / "latest")
    part = paddle.load(str(tmp_path / "part" / "latest" / "head.pdparams"))
    assert float(part["inner.temperature"]) == float(whole["inner.temperature"])


def test_a_run_from_before_there_were_widths_is_resumed(tmp_path):
    model, tokenizer, _, data = made(dims=(4,))
    model.settings.matryoshka_dims = []
    run = Run(Trainer(model, tokenizer, InBatchNegative(), data, schedule(tmp_path)).step, tokenizer, 3)
    assert "matryoshka_dims" not in run.identity() and run.identity()["encoder's matryoshka_dims"] == []


@pytest.fixture(scope="module")
def nested(toy, tmp_path_factory):
    """A checkpoint trained at 4 and 8 of 16 numbers, by the script."""
    out = tmp_path_factory.mktemp("nested")
    succeed(*TRAIN, "--train_set_file", toy / "train.csv", "--dev_set_file", toy / "dev.csv", "--save_dir", out, "--max_steps",
            4, "--matryoshka_dims", 8, 4)
    assert read_settings(str(out / "latest")).matryoshka_dims == [4, 8]
    return out / "latest"


@pytest.mark.slow
def test_cut_vectors_are_the_same_in_every_engine(nested, tmp_path):
    texts = ["卡丢了怎么办", "a", "忘记密码了找谁" * 9, "退款没到账"]
    whole = dynamic(*loading.load(str(nested), {}))(texts)
    model, tokenizer = loading.load(str(nested), {"truncate_dim": 8})
    expected = unit(whole[:, :8])
    found = {engine: fast_encoder(model, tokenizer, engine, 9)[0](texts) for engine in ("dynamic", "static", "onnx")}
    export(model, tokenizer, str(tmp_path / "cut"), ["onnx"], "x")
    model, tokenizer = loading.load(str(nested), {})
    export(model, tokenizer, str(tmp_path / "whole"), ["onnx"], "x")
    for form in ("paddle", "onnx"):
        found[f"exported {form}"] = open_export(str(tmp_path / "cut"), form)(texts)
        found[f"cut when served, {form}"] = Predictor(str(tmp_path / "whole"), engine=form, truncate_dim=8)(texts)
    for name, vectors in found.items():
        assert vectors.shape == (4, 8) and vectors.dtype == np.float32, name
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(vectors, expected, atol=1e-5, err_msg=name)
    assert read_manifest(str(tmp_path / "cut"))["dimension"] == 8
    assert read_settings(str(tmp_path / "cut")).truncate_dim == 8
    assert read_manifest(str(tmp_path / "whole"))["matryoshka_dims"] == [4, 8]


@pytest.mark.slow
def test_widths_that_were_not_trained_are_warned_of(nested, checkpoint, capsys):
    for path, width, warning in ((nested, 8, ""), (nested, 4, ""), (nested, 16, ""), (nested, 0, ""),
                                 (nested, 5, "trained for 4, 8, 16"), (checkpoint, 8, "trained for 16 (--matryoshka_dims")):
        model, _ = loading.load(str(path), {"truncate_dim": width})
        assert model.dimension == (width or 16)
        said = capsys.readouterr().err
        assert (f"warning: --truncate_dim {width}: the encoder was {warning}" in said) if warning else said == ""
    whole, same = (loading.fingerprint(str(nested), *loading.load(str(nested), {"truncate_dim": w})) for w in (None, 16))
    cut = loading.fingerprint(str(nested), *loading.load(str(nested), {"truncate_dim": 8}))
    assert whole == same != cut
    with pytest.raises(UserError, match="--truncate_dim 17: the encoder's vectors have 16 numbers"):
        loading.load(str(nested), {"truncate_dim": 17})
    with pytest.raises(UserError, match="for inner products"):
        choose(8, 16, [], "dot")
    assert np.abs(truncate(np.zeros([1, 4], np.float32), 2)).max() == 0  # a row of zeros stays one


@pytest.mark.slow
def test_scripts(nested, toy, tmp_path):
    cut = ["--device", "cpu", "--params_path", nested, "--truncate_dim", 8]
    recall = ["recall.py", "--corpus_file", toy / "corpus.csv", "--similar_text_pair", toy / "dev.csv", "--recall_result_dir",
              tmp_path, "--index_dir", tmp_path / "index"]
    succeed(*recall, *cut)
    assert "reused" in succeed(*recall, *cut)
    said = fail(*recall, "--device", "cpu", "--params_path", nested)
    assert "holds vectors of 8 numbers, the encoder gives 16 (see --truncate_dim); pass --rebuild_index" in said
    assert "holds vectors of 8 numbers, the encoder gives 4" in fail(*recall, *cut[:-1], 4)
    succeed("inference.py", *cut, "--text", "退款", "密码", "--output_file", tmp_path / "a.npy")
    succeed("export_model.py", "--params_path", nested, "--output_path", tmp_path / "out")
    served = ["deploy/python/predict.py", "--model_dir", tmp_path / "out", "--text", "退款", "密码"]
    succeed(*served, "--truncate_dim", 8, "--output_file", tmp_path / "b.npy")
    one, two = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
    assert one.shape == (2, 8)
    np.testing.assert_allclose(one, two, atol=1e-5)
    assert "--truncate_dim 17" in fail(*served, "--truncate_dim", 17)
    (tmp_path / "pairs").write_text("退款\t密码\n", encoding="utf-8")
    cosine = float(succeed("predict.py", *cut, "--text_pair_file", tmp_path / "pairs"))
    whole = dynamic(*loading.load(str(nested), {}))(["退款", "密码"])
    assert cosine == pytest.approx(float(np.prod(unit(whole[:, :8]), axis=0).sum()), abs=1e-5)
    succeed("mine_negatives.py", *cut, "--train_set_file", toy / "train.csv", "--output_file", tmp_path / "mined")

    train_ = [*TRAIN, "--train_set_file", toy / "train.csv", "--max_steps", 2]
    again = ["train_batch_neg.py", "--device", "cpu", "--init_from_ckpt", nested, *train_[train_.index("--batch_size"):]]
    succeed(*again, "--save_dir", tmp_path / "plain")
    assert read_settings(str(tmp_path / "plain" / "latest")).matryoshka_dims == []
    for script in ("train_hardest_neg.py", "train_simcse.py", "train_ance.py"):
        succeed(script, *again[1:], "--matryoshka_dims", 5, "--save_dir", tmp_path / script)
        assert read_settings(str(tmp_path / script / "latest")).matryoshka_dims == [5]
    for dims, said in (([17], "--matryoshka_dims 17: the encoder's vectors have 16 numbers"), ([4, 4], "the same width twice"),
                       ([0], "0 is not a whole number from 1")):
        assert said in fail(*again, "--save_dir", tmp_path / "bad", "--matryoshka_dims", *dims)
    assert "leave it or --similarity dot out" in fail(
        "train_ance.py", "--device", "cpu", "--model_name_or_path", "scratch-1x32", "--similarity", "dot", "--train_set_file",
        toy / "train.csv", "--save_dir", tmp_path / "bad", "--matryoshka_dims", 8)
