"""What the parser refuses before any work: outputs over inputs, two of one name, places that can be none."""

import os
import shutil

import pytest
from conftest import fail, succeed

import ask
import plot_negatives
import predict
import train_batch_neg
from semindex.cli import Parser
from semindex.errors import UserError
from semindex.locks import locked


def parse(*words):
    parser = Parser("test")
    for name in ("in", "out", "log", "whole", "save", "shared"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--folder", dest="save")
    parser.reads("in")
    parser.writes("out")
    parser.writes("log", role="append")
    parser.writes("whole", role="directory")
    parser.writes("save", role="save")
    parser.writes("shared", role="shared")
    return parser.parse_args(list(map(str, words)))


@pytest.mark.parametrize("flag", ["in", "out", "whole", "save", "shared"])
def test_an_empty_name_is_none(flag):
    with pytest.raises(UserError, match=f"--{flag}: an empty name"):
        parse(f"--{flag}", "")
    parse("--log", "")  # which says that none is wanted


@pytest.mark.parametrize("flag", ["whole", "save", "shared"])
def test_a_directory_can_be_where_it_is_to_go(tmp_path, flag):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=f"--{flag} .*is a file"):
        parse(f"--{flag}", tmp_path / "file")
    with pytest.raises(UserError, match=f"--{flag} .*cannot be made: .*file is a file"):
        parse(f"--{flag}", tmp_path / "file" / "a" / "b")
    with pytest.raises(UserError, match=f"--{flag} .*too long"):
        parse(f"--{flag}", tmp_path / ("x" * 300))
    parse(f"--{flag}", tmp_path / "new" / "er")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("made", [False, True])
def test_a_directory_has_one_use(tmp_path, made):
    if made:
        (tmp_path / "d").mkdir()
    for one, two in (("--whole", "--save"), ("--whole", "--shared"), ("--save", "--shared")):
        with pytest.raises(UserError, match=f"{two} .*is what {one} names too"):
            parse(one, tmp_path / "d", two, f"{tmp_path}/./d")
    with pytest.raises(UserError, match="--whole"):
        parse("--whole", tmp_path / "file", "--out", tmp_path / "file")
    parse("--save", tmp_path / "d", "--shared", tmp_path / "d" / "ann", "--whole", tmp_path / "d" / "collection")
    assert parse("--folder", tmp_path / "d").save == str(tmp_path / "d")  # two flags of one value are one output


def test_a_hard_link_into_a_checkpoint_is_its_file(tmp_path):
    (tmp_path / "checkpoint" / "inner").mkdir(parents=True)
    (tmp_path / "checkpoint" / "inner" / "weights").write_text("x")
    os.link(tmp_path / "checkpoint" / "inner" / "weights", tmp_path / "result")
    with pytest.raises(UserError, match="--out .* is the file of --in"):
        parse("--in", tmp_path / "checkpoint", "--out", tmp_path / "result")


def test_every_input_is_compared_with_the_outputs(tmp_path):
    (tmp_path / "x").write_text("{}")
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is the file of --calibration"):
        ask.parser().parse_args(["--faq_dir", "faq", "--calibration", str(tmp_path / "x"), "--output_file", str(tmp_path / "x")])
    assert ask.parser().parse_args(["--faq_dir", "faq", "--calibration", ""]).calibration == ""
    with pytest.raises(UserError, match="inside the directory of --model_name_or_path"):
        predict.parser().parse_args(["--params_path", "p", "--text_pair_file", "t", "--model_name_or_path", str(tmp_path / "encoder"),
                                     "--output_file", str(tmp_path / "encoder" / "config.json")])
    with pytest.raises(UserError, match="--output_dir: an empty name was given"):
        plot_negatives.parser().parse_args(["--params_path", "p", "--data_dir", "d", "--output_dir", ""])
    with pytest.raises(UserError, match="is the file of --dev_set_file"):
        train_batch_neg.parser().parse_args(["--train_set_file", "t", "--dev_set_file", str(tmp_path / "x"), "--corpus_file", "c",
                                             "--recall_result_dir", str(tmp_path), "--recall_result_file", "x"])
    with pytest.raises(UserError, match="is the file of --dev_set_file"):
        train_batch_neg.parser().parse_args(["--train_set_file", "t", "--dev_set_file", str(tmp_path / "x"), "--corpus_file", "c",
                                             "--recall_result_dir", str(tmp_path), "--evaluate_result", "x"])


@pytest.mark.slow
@pytest.mark.parametrize(("words", "flag"), [
    (["train_batch_neg.py", "--model_name_or_path", "scratch-1x32", "--train_set_file", "train.csv", "--max_steps", 1, "--save_dir"], "--save_dir"),
    (["train_hardest_neg.py", "--model_name_or_path", "scratch-1x32", "--train_set_file", "train.csv", "--max_steps", 1, "--save_dir"], "--save_dir"),
    (["export_model.py", "--params_path", "CKPT", "--output_path"], ""),
    (["inference.py", "--params_path", "CKPT", "--text", "退款", "--output_file"], "--output_file"),
    (["recall.py", "--params_path", "CKPT", "--corpus_file", "corpus.csv", "--similar_text_pair", "dev.csv", "--recall_num", 5,
      "--recall_result_dir", ".", "--index_dir"], ""),
    (["recall.py", "--params_path", "CKPT", "--corpus_file", "corpus.csv", "--similar_text_pair", "dev.csv", "--recall_num", 5,
      "--recall_result_dir", ".", "--recall_result_file"], "--recall_result_file"),
])
def test_what_another_process_writes_is_not_written(toy, checkpoint, tmp_path, words, flag):
    """The lock is this process's; a file says so at once, a directory when it takes its name."""
    for name in ("train.csv", "corpus.csv", "dev.csv"):
        shutil.copy(toy / name, tmp_path)
    words = [checkpoint if word == "CKPT" else word for word in words]
    with locked(str(tmp_path / "out")):
        error = fail(*words, "out", cwd=tmp_path)
    assert f"{flag} {tmp_path / 'out'}: is being written by another process (process {os.getpid()} on " in f" {error}"
    assert not (tmp_path / "out").exists() and not [name for name in os.listdir(tmp_path) if "partial" in name]
    succeed(*words, "out", cwd=tmp_path)
