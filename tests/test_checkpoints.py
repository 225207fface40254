"""Which checkpoints a training keeps, replaces and points to."""

import os
import sys

import pytest
from test_trainer import schedule, setup

import train_ance
import train_batch_neg
import train_hardest_neg
import train_simcse
from ann_util import IndexSettings
from models.heads.in_batch_negative import InBatchNegative
from semindex import pictures
from semindex.errors import UserError
from semindex.measure.recall import RecallEvaluator
from semindex.text.corpus import Corpus
from training.checkpoints import Checkpoints
from training.setup import check_save_dir
from training.trainer import train


class Scores:
    """An evaluator that gives one number after the other."""

    metrics, main_metric = ["recall@10"], "recall@10"

    def __init__(self, *numbers, look=lambda: None):
        self.numbers, self.look = iter(numbers), look

    def __call__(self, encoder):
        self.look()
        return {"recall@10": next(self.numbers)}


def test_an_earlier_run_is_neither_mixed_nor_lost(tmp_path):
    model, tokenizer, data = setup()
    train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path))
    with pytest.raises(UserError, match="--resume goes on with it, --overwrite removes it"):
        train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path))
    train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, overwrite=True, epochs=1, save_steps=0))
    assert Checkpoints(str(tmp_path)).steps() == [5]


def test_a_directory_in_use_is_noticed_before_anything_is_loaded(tmp_path):
    def parsed(path, *more):
        return train_batch_neg.parser().parse_args(["--train_set_file", "x", "--save_dir", str(path), *more])

    (tmp_path / "run" / "model_7").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    for path, error in (("run", r"holds checkpoints of an earlier run \(model_7\); --resume goes on"),
                        ("file", "is a file, a directory is to be written there"), ("file/below", "cannot be made")):
        with pytest.raises(UserError, match=f"--save_dir '?{tmp_path}/{path}'?: {error}"):
            check_save_dir(parsed(tmp_path / path))
    for path in ("/proc/nonexistent", "/proc/nonexistent/below"):
        with pytest.raises(UserError, match="cannot be written"):
            check_save_dir(parsed(path))
    check_save_dir(parsed(tmp_path / "run", "--resume"))
    check_save_dir(parsed(tmp_path / "run", "--overwrite"))
    check_save_dir(parsed(tmp_path / "a" / "new" / "one"))
    assert sorted(os.listdir(tmp_path)) == ["file", "run"] and os.listdir(tmp_path / "run") == ["model_7"]


@pytest.mark.parametrize("script", [train_batch_neg, train_hardest_neg, train_simcse, train_ance])
def test_each_script_looks_at_its_directory_first(tmp_path, monkeypatch, script):
    (tmp_path / "model_7").mkdir()
    monkeypatch.setattr(sys, "argv", ["x", "--device", "cpu", "--train_set_file", "nowhere", "--save_dir", str(tmp_path)])
    with pytest.raises(UserError, match="holds checkpoints of an earlier run"):
        script.main()


@pytest.mark.slow
def test_an_overwritten_run_draws_its_own_steps(tmp_path):
    """The old run's curves went on behind the new one's end."""
    train(*setup()[:2], InBatchNegative(), setup()[2], schedule(tmp_path, epochs=4, log_steps=5))
    assert [step for step, _ in pictures.curves(str(tmp_path), ["loss"])["loss"]] == [5, 10, 15, 20]
    (tmp_path / "visualdl" / "vdlrecords.1000000000.log").write_bytes(b"")
    (tmp_path / "visualdl" / "notes about vdlrecords.log").write_text("mine")
    train(*setup()[:2], InBatchNegative(), setup()[2], schedule(tmp_path, epochs=2, log_steps=5, overwrite=True))
    assert [step for step, _ in pictures.curves(str(tmp_path), ["loss"])["loss"]] == [5, 10]
    names = sorted(os.listdir(tmp_path / "visualdl"))
    assert len(names) == 2 and names[0] == "notes about vdlrecords.log"


def test_evaluation_keeps_the_best_and_goes_back_to_training(tmp_path):
    """Row B5: after an evaluation dropout was off for the rest of the run."""
    model, tokenizer, data = setup()
    modes, evaluated = [], []

    class Watching(InBatchNegative):
        def forward(self, vectors, mask=None):
            modes.append((model.training, model.ptm.training, model.dropout.training))
            return super().forward(vectors, mask)

    scores = Scores(10.0, 30.0, 20.0, 30.0, 5.0, 1.0, look=lambda: evaluated.append(model.training))
    best = train(model, tokenizer, Watching(), data, schedule(tmp_path, epochs=2, eval_steps=2, save_steps=0), evaluator=scores)
    assert evaluated == [False] * 5
    assert modes == [(True, True, True)] * 10
    assert best == str(tmp_path / "model_4") and os.readlink(tmp_path / "best") == "model_4"
    assert Checkpoints(str(tmp_path)).steps() == [2, 4, 10]


def test_early_stopping(tmp_path, capsys):
    model, tokenizer, data = setup()
    train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, eval_steps=2, early_stopping=2),
          evaluator=Scores(10.0, 30.0, 20.0, 30.0, 99.0))
    assert "stopping early" in capsys.readouterr().out
    assert Checkpoints(str(tmp_path)).steps()[-1] == 8


@pytest.mark.slow
def test_keep_checkpoints_keeps_the_newest_and_the_best(tmp_path):
    model, tokenizer, data = setup()
    train(model, tokenizer, InBatchNegative(), data,
          schedule(tmp_path, eval_steps=2, save_steps=1, keep_checkpoints=2), evaluator=Scores(50.0, 1.0, 2.0, 3.0, 4.0, 5.0))
    assert Checkpoints(str(tmp_path)).steps() == [2, 9, 10]


@pytest.mark.slow
def test_a_kill_while_old_checkpoints_shrink_stops_no_later_run(tmp_path, monkeypatch):
    """Killed between the manifest that no longer names the optimizer's state and its removal: its file is still ours."""
    model, tokenizer, data = setup()
    unlink = os.unlink

    def killed(path):
        if os.path.basename(path) == "optimizer.pdopt":
            raise KeyboardInterrupt
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, save_steps=1, keep_checkpoints=2))
    assert (tmp_path / "model_1" / "optimizer.pdopt").exists() and Checkpoints(str(tmp_path)).steps() == [1, 2]
    model, tokenizer, data = setup()
    train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, save_steps=1, keep_checkpoints=2, resume=True))
    assert Checkpoints(str(tmp_path)).steps() == [9, 10]


def test_unknown_best_metric(tmp_path):
    model, tokenizer, data = setup()
    with pytest.raises(UserError, match="--best_metric recall@3: the evaluation gives recall@1, mrr@10"):
        train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path, best_metric="recall@3", eval_steps=1),
              evaluator=RecallEvaluator([["a", "b"]], Corpus.from_texts(["b"]), 1, IndexSettings()))
    assert not os.path.exists(tmp_path / "latest")  # told before the training


def test_a_disk_without_room_for_a_checkpoint_is_an_error_at_the_start(tmp_path, monkeypatch):
    import shutil
    from types import SimpleNamespace

    model, tokenizer, data = setup()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="a checkpoint takes .* MB, and 0 MB are free there"):
        train(model, tokenizer, InBatchNegative(), data, schedule(tmp_path))


def test_a_users_file_beside_the_links_stays(tmp_path):
    for name in ("latest.partial", "best.partial"):
        (tmp_path / name).write_text("mine")
    links = Checkpoints(str(tmp_path))
    links.mark_best(3)
    links.mark_best(4)
    assert os.readlink(tmp_path / "best") == "model_4" and (tmp_path / "best.partial").read_text() == "mine"
