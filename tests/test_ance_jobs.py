"""What the two jobs of ANCE say to each other and keep."""

import os
import re
import shlex
import shutil
import threading
import time

import numpy as np
import pytest
import test_ance

import run_ann_data_gen
import train_ance
from models.heads.ance import Ance
from models.loading import create
from semindex.errors import UserError
from training.checkpoints import Checkpoints
from training.negatives import generator
from training.negatives.ance import generator_command
from training.negatives.generations import Generation, Generations
from training.negatives.miner import Miner
from training.negatives.mining import MiningRules
from training.negatives.patience import Patience
from training.negatives.refresh import AsyncRefresh
from training.schedule import Schedule
from training.trainer import Trainer, train

data = test_ance.data  # the fixture


def test_generations_are_whole_or_absent(tmp_path):
    where = Generations(str(tmp_path / "ann"))
    assert where.newest() is None and where.numbers() == []
    for number in range(5):
        where.publish(Generation(number, 10 * number, "ann", "key"), np.full([3, 2], number, np.int32))
    assert where.numbers() == [2, 3, 4]
    os.mkdir(tmp_path / "ann" / "generation_5.partial")  # of a killed job
    (tmp_path / "ann" / "generation_5.partial" / "generation.json").write_text("{")
    newest = where.newest()
    assert newest.number == 4 and newest.step == 40 and (where.negatives(4) == 4).all()
    where.publish(Generation(5, 50, "ann", "key"), np.zeros([3, 2], np.int32))
    assert where.newest().number == 5
    where.clear()
    assert where.numbers() == []


def test_negatives_of_other_data_are_refused(data):
    with pytest.raises(UserError, match="generation 3 has negatives of 7 pairs, the training has 5"):
        data.use(3, np.zeros([7, 2], np.int32))


@pytest.fixture
def printed(capsys, monkeypatch):
    """A function that waits until a line that matches was printed, and returns the match; a minute is short here."""
    monkeypatch.setattr(Patience, "SECONDS", 0.01)
    lines = []

    def until(pattern):
        ends = time.monotonic() + 30
        while True:
            lines.append(capsys.readouterr().out)
            found = re.search(pattern, "".join(lines))
            if found:
                return found
            assert time.monotonic() < ends, lines
            time.sleep(0.01)

    return until


def ance_flags(tmp_path, *more):
    return train_ance.parser().parse_args([
        "--device", "cpu", "--save_dir", str(tmp_path / "run"), "--refresh", "async", "--batch_size", "4",
        "--model_name_or_path", "scratch-1x32", "--max_seq_length", "16", *map(str, more)])


def test_the_other_jobs_command_says_all_that_both_must_have_alike(tmp_path):
    args = ance_flags(tmp_path, "--ann_dir", tmp_path / "the ann", "--data_dir", "it's data", "--topk_training", 7,
                      "--connected_positives", "--hnsw_m", 9, "--rank_min", 0, "--seed", 3)
    words = shlex.split(generator_command(args))
    assert words[0] == "python" and words[1].endswith("run_ann_data_gen.py")
    other = run_ann_data_gen.parser().parse_args(words[2:])
    assert other.training_dir == args.save_dir
    for name in ("ann_dir", "data_dir", "topk_training", "connected_positives", "hnsw_m", "seed", "device", "sampling"):
        assert getattr(other, name) == getattr(args, name), name
    assert "--rank_min" not in words and "--sampling" not in words  # what is usual is not said


def test_a_training_that_waits_says_what_it_has_seen(data, tmp_path, printed):
    model, tokenizer = create("scratch-1x32", {"max_seq_length": 8}, list(data.collection.texts))
    where = Generations(str(tmp_path / "ann"))
    trainer = Trainer(model, tokenizer, Ance(), data, Schedule(str(tmp_path / "run")))
    trainer.run.prepare()
    miner = Miner(data.collection, MiningRules(2))
    refresh = AsyncRefresh("python run_ann_data_gen.py --ann_dir X", data, miner, where, tokenizer, 10, "none")
    refresh.POLL_SECONDS = 0.01

    def other_job():
        printed("waiting for negatives in .*/ann: start python run_ann_data_gen.py --ann_dir X")
        printed("waited 0 s: no generation in .*/ann, and no other job has written there; the checkpoint it is to be made "
                "from is .*/model_0; the other job is started with: python run_ann_data_gen.py --ann_dir X")
        (tmp_path / "ann").mkdir()
        (tmp_path / "ann" / "passages.partial").write_text("")
        printed("no generation in .*/ann yet, but the other job has begun one there")
        where.publish(Generation(0, 40, "ann", data.collection.about.key), np.zeros([5, 2], np.int32))
        printed("generation_0 is there, but it is of step 40 and this run is at step 0")
        where.publish(Generation(1, 0, "ann", data.collection.about.key), np.zeros([5, 2], np.int32))

    waiting = threading.Thread(target=refresh, args=[trainer], daemon=True)
    waiting.start()
    other_job()
    waiting.join(60)
    assert not waiting.is_alive()
    assert refresh.now.number == 1


def test_a_generator_that_waits_says_what_it_has_seen(data, tmp_path, printed):
    args = run_ann_data_gen.parser().parse_args([
        "--training_dir", str(tmp_path / "run"), "--data_dir", str(tmp_path / "data"), "--poll_seconds", "0.01",
        "--topk_training", "5", "--negative_sample", "2"])
    model, tokenizer = create("scratch-1x32", {"max_seq_length": 8}, list(data.collection.texts))
    train(model, tokenizer, Ance(), data, Schedule(str(tmp_path / "elsewhere"), epochs=0))

    def other_job():
        printed(r"waiting for a checkpoint in .*/run and a tokenised collection in .*/data")
        printed(r"waited 0 s: seen: nothing; not seen: a checkpoint in .*/run and a tokenised "
                r"collection in .*/data \(no such directory\); --training_dir is .*--ann_dir \(here .*/run/ann\) the same")
        shutil.copytree(tmp_path / "elsewhere", tmp_path / "staged", symlinks=True)
        os.rename(tmp_path / "staged" / "model_0", tmp_path / "run" / "model_0")
        printed("seen: a checkpoint in .*/run; not seen: a tokenised collection in .*/data")
        os.rename(tmp_path / "c", tmp_path / "data")

    waiting = threading.Thread(target=generator.watch, args=[args], daemon=True)
    waiting.start()
    other_job()
    waiting.join(60)
    assert not waiting.is_alive()
    assert Generations(str(tmp_path / "run" / "ann")).numbers() == [0]


@pytest.mark.slow
def test_a_training_saves_for_the_other_job_and_for_itself(data, tmp_path):
    """--save_steps was ignored beside --refresh_steps."""
    where = Generations(str(tmp_path / "ann"))
    model, tokenizer = create("scratch-1x32", {"max_seq_length": 8}, list(data.collection.texts))
    refresh = AsyncRefresh("", data, Miner(data.collection, MiningRules(2)), where, tokenizer, 4, "in_batch")
    train(model, tokenizer, Ance(), data, Schedule(str(tmp_path / "run"), epochs=5, save_steps=3), callback=refresh)
    assert Checkpoints(str(tmp_path / "run")).steps() == [3, 4, 6, 8, 9, 10]
