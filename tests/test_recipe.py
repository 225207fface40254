"""The other strategies of the recipe through their scripts, and weights published with it."""

import os

import numpy as np
import paddle
import pytest
from conftest import TRAIN, fail, launch, succeed

pytestmark = pytest.mark.slow
SMALL = ["--device", "cpu", "--model_name_or_path", "scratch-1x32", "--max_seq_length", 24, "--log_steps", 1]


def losses(printed):
    return [float(line.split("loss: ")[1].split(",")[0]) for line in printed.splitlines() if line.startswith("global")]


def test_simcse_with_every_flag_of_the_document(toy, tmp_path):
    texts = sorted({text for line in (toy / "train.csv").read_text().splitlines() for text in line.split("\t")})
    (tmp_path / "train.csv").write_text("\n".join(texts) + "\n\n")
    out = succeed("train_simcse.py", *SMALL, "--save_dir", "./checkpoints/simcse", "--batch_size", 8, "--learning_rate",
                  "5E-3", "--epochs", 2, "--save_steps", 2000, "--eval_steps", 2, "--infer_with_fc_pooler", "--dropout", 0.2,
                  "--output_emb_size", 16, "--train_set_file", "train.csv", "--test_set_file", toy / "dev.csv", "--scale",
                  20, "--warmup_proption", 0.1, cwd=tmp_path)
    assert "1 blank line skipped" in out and out.count("evaluating") == 3 and "recall@10=" in out
    assert np.isfinite(losses(out)).all() and len(losses(out)) == 6
    labelled = [f"{a}\t{b}\t{int(a[:2] == b[:2])}" for a, b in zip(texts, texts[1:])]
    (tmp_path / "sts.tsv").write_text("\n".join(labelled) + "\n")
    out = succeed("train_simcse.py", *SMALL, "--save_dir", "sts", "--batch_size", 8, "--train_set_file", "train.csv",
                  "--test_set_file", "sts.tsv", cwd=tmp_path)
    assert "spearman=" in out and "best spearman" in out
    # supervised, from the checkpoint before
    succeed("train_simcse.py", "--device", "cpu", "--init_from_ckpt", "sts/best", "--batch_size", 8, "--train_set_file",
            toy / "train.csv", "--save_dir", "supervised", cwd=tmp_path)
    assert "the two views of a text would be the same" in fail(
        "train_simcse.py", *SMALL, "--train_set_file", "train.csv", "--dropout", 0, cwd=tmp_path)


@pytest.mark.parametrize("flags", [[], ["--negatives", "random"], ["--negatives", "semi_hard"], ["--hardest", 3]])
def test_hardest_negatives_learn(toy, tmp_path, flags):
    out = succeed("train_hardest_neg.py", *SMALL, "--output_emb_size", 16, "--save_dir", tmp_path / "c", "--batch_size", 12,
                  "--learning_rate", "5E-3", "--epochs", 20, "--margin", 0.2, "--train_set_file", toy / "train.csv",
                  "--dev_set_file", toy / "dev.csv", "--eval_steps", 40, *flags)
    values = losses(out)
    assert values[0] > 0.05 and np.mean(values[-3:]) < 0.7 * np.mean(values[:3])  # not stuck at the margin
    if flags == ["--hardest", 3]:
        assert "contradicts --negatives random" in fail("train_hardest_neg.py", "--train_set_file", toy / "train.csv",
                                                        *flags, "--negatives", "random")


def test_two_processes_rank_as_one(toy, tmp_path):
    flags = ["train_hardest_neg.py", *SMALL, "--output_emb_size", 16, "--train_set_file", toy / "train.csv", "--max_steps",
             4, "--dropout", 0, "--learning_rate", "1e-3"]
    one = succeed(*flags, "--batch_size", 8, "--save_dir", "one", cwd=tmp_path)
    two = launch(2, *flags, "--batch_size", 4, "--save_dir", "two", cwd=tmp_path)
    assert two.returncode == 0, two.stdout + two.stderr
    np.testing.assert_allclose(losses(one), losses(two.stdout), atol=2e-5)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """An ERNIE directory as paddlenlp keeps it, and weights with nothing but the recipe's names."""
    from models.loading import create

    folder = tmp_path_factory.mktemp("published")
    texts = ["信用卡丢了怎么办", "退款什么时候到账"]
    model, tokenizer = create("scratch-2x32", {"output_emb_size": 16, "max_seq_length": 24, "pooling": "pooler"}, texts)
    model.ptm.save_pretrained(str(folder / "ernie"))
    tokenizer.save(str(folder / "ernie"))
    (folder / "model_40").mkdir()
    paddle.save(model.state_dict(), str(folder / "model_40" / "model_state.pdparams"))
    assert os.listdir(folder / "model_40") == ["model_state.pdparams"]
    return folder / "model_40" / "model_state.pdparams", folder / "ernie"


def test_published_weights_load_everywhere(published, toy, tmp_path):
    weights, encoder = published
    flags = ["--params_path", weights, "--model_name_or_path", encoder, "--output_emb_size", 16, "--max_seq_length", 24]
    (tmp_path / "pairs").write_text("信用卡丢了怎么办\t信用卡丢了怎么办\n")
    assert float(succeed("predict.py", "--device", "cpu", *flags, "--text_pair_file", tmp_path / "pairs")) > 0.9999
    vectors = succeed("inference.py", "--device", "cpu", *flags, "--text", "退款")
    succeed("recall.py", "--device", "cpu", *flags, "--corpus_file", toy / "corpus.csv", "--similar_text_pair",
            toy / "dev.csv", "--recall_result_dir", tmp_path / "r")
    succeed("export_model.py", *flags, "--output_path", tmp_path / "output")
    shown = succeed("deploy/python/predict.py", "--model_dir", tmp_path / "output", "--text", "退款")
    numbers = [np.array(text.split("[[")[1].replace("]]", "").split(), float) for text in (vectors, shown)]
    np.testing.assert_allclose(*numbers, atol=1e-6)
    init = ["--init_from_ckpt", weights, "--model_name_or_path", encoder, "--output_emb_size", 16]
    for script in ("train_batch_neg.py", "train_hardest_neg.py"):
        out = succeed(script, "--device", "cpu", *init, "--train_set_file", toy / "train.csv", "--epochs", 0, "--save_dir",
                      tmp_path / script)
        assert f"warmup from:{weights}" in out
        state = paddle.load(str(tmp_path / script / "latest" / "model_state.pdparams"))
        assert all(paddle.equal_all(state[name], value) for name, value in paddle.load(str(weights)).items()
                   if hasattr(value, "shape"))
    assert "pass --model_name_or_path" in fail("predict.py", "--device", "cpu", "--params_path", weights,
                                               "--text_pair_file", tmp_path / "pairs")


def test_simcse_then_in_batch_negatives(toy, tmp_path):
    (tmp_path / "texts").write_text((toy / "corpus.csv").read_text())
    succeed("train_simcse.py", *SMALL, "--output_emb_size", 16, "--batch_size", 8, "--train_set_file", tmp_path / "texts",
            "--save_dir", tmp_path / "simcse")
    # the vocabulary is the checkpoint's: texts of other files need no new one
    succeed(*[word for word in TRAIN if word not in ("--model_name_or_path", "scratch-1x32")], "--init_from_ckpt",
            tmp_path / "simcse" / "latest", "--train_set_file", toy / "train.csv", "--save_dir", tmp_path / "out",
            "--max_steps", 2)
