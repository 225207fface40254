"""Training runs that are killed, told to stop, or run out of disk, and resumed."""

import os
import random
import resource
import signal
import subprocess
import time

import forked
import numpy as np
import paddle
import pytest
from conftest import ROOT, TRAIN

pytestmark = pytest.mark.slow


class Run:
    """A training in the background; what rank 0 prints goes to a file, since the launcher passes it on late."""

    count = 0

    def __init__(self, toy, directory, processes, *more):
        Run.count += 1
        words = [*TRAIN, "--train_set_file", toy / "train.csv", "--save_dir", directory, "--epochs", 40,
                 "--save_steps", 1, "--keep_checkpoints", 2, "--dropout", 0.2, "--resume",
                 "--batch_size", 8 // processes, *more]
        logs = f"{directory}.log{Run.count}"
        start = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", logs]
        self.path = f"{logs}/workerlog.0" if processes > 1 else f"{directory}.out{Run.count}"
        with open(f"{directory}.out{Run.count}", "w") as file:
            if processes == 1:
                self.process = forked.start(words, cwd=directory.parent, stdout=file, stderr=file)
            else:
                # Launcher and trainings are forks: what is killed is what stands for one, and the fork goes with it.
                env = os.environ | forked.python_env()
                self.process = subprocess.Popen(
                    [env["PYTHON"], "-u", *start, str(ROOT / words[0]), *map(str, words[1:])], cwd=directory.parent,
                    stdout=file, stderr=subprocess.STDOUT, env=env)

    def printed(self):
        if not os.path.exists(self.path):
            return ""
        with open(self.path, encoding="utf-8") as file:
            return file.read()

    def until(self, text):
        """Wait for a text to be printed."""
        ends = time.monotonic() + 100
        while text not in self.printed():
            assert self.process.poll() is None and time.monotonic() < ends, self.printed()
            time.sleep(0.01)
        return self

    def end(self):
        """Wait for the end; return the status."""
        return self.process.wait(timeout=200)


def of_run(run, directory):
    """(Process, whether it is a launcher) of a run: itself, or those whose command line names its directory."""
    if isinstance(run.process, forked.Forked):
        return [(run.process.pid, False)] if run.process.poll() is None else []
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if str(directory).encode() in words:
            found.append((int(pid), b"paddle.distributed.launch" in words))
    return found


def weights(directory):
    return {name: value.numpy() for name, value in paddle.load(str(directory / "latest" / "model_state.pdparams")).items()}


def assert_same(a, b):
    assert os.readlink(a / "latest") == os.readlink(b / "latest")
    one, two = weights(a), weights(b)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """A function from a number of processes to the directory of their undisturbed training and how long its steps took."""
    runs = {}

    def of(processes):
        if processes not in runs:
            directory = tmp_path_factory.mktemp("undisturbed") / "whole"
            run = Run(toy, directory, processes).until("global step 1,")
            began = time.monotonic()
            assert run.end() == 0, run.printed()
            runs[processes] = directory, time.monotonic() - began
        return runs[processes]

    return of


@pytest.mark.parametrize("processes", [1, 2])
def test_kills_change_nothing(toy, whole, tmp_path, processes):
    """kill -9 at random moments, often within a save; of two processes sometimes all die, sometimes one.

    Six times of one process. A start of two takes much longer: each way of dying once.
    """
    undisturbed, lasted = whole(processes)
    rng, steps = random.Random(processes), []
    for kill in range(6 if processes == 1 else 2):
        run = Run(toy, tmp_path / "part", processes).until("global step" if processes == 1 else f"global step {3 + 40 * kill},")
        time.sleep(rng.uniform(0, lasted / 25))
        pids = of_run(run, tmp_path / "part")
        assert run.process.poll() is None and len(pids) == (1 if processes == 1 else 3)
        workers = [pid for pid, launcher in pids if not launcher]
        for pid in [rng.choice(workers)] if kill % 2 else [pid for pid, _ in pids]:
            os.kill(pid, signal.SIGKILL)
        assert run.end() != 0
        latest = tmp_path / "part" / "latest"  # a kill may come before the first checkpoint
        steps.append(int(os.readlink(latest).split("_")[1]) if os.path.lexists(latest) else 0)
    assert sorted(steps) == steps and steps[-1] > steps[0]
    run = Run(toy, tmp_path / "part", processes)
    assert run.end() == 0 and f"resumed from {tmp_path / 'part'}/model_" in run.printed(), run.printed()
    assert_same(undisturbed, tmp_path / "part")
    assert not [name for name in os.listdir(tmp_path / "part") if "partial" in name]


@pytest.mark.parametrize("processes", [1, 2])
def test_told_to_stop_it_saves_first(toy, whole, tmp_path, processes):
    """SIGTERM, which batch systems send: to the process, or to the launcher, which passes it on.

    Weights do not depend on how often they were saved: the undisturbed run saved at every step.
    """
    run = Run(toy, tmp_path / "part", processes, "--save_steps", 0).until("global step 3,")
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == (128 + signal.SIGTERM if processes == 1 else signal.SIGTERM), run.printed()
    assert "told to stop: saved step" in run.printed() and not of_run(run, tmp_path / "part")
    step = int(os.readlink(tmp_path / "part" / "latest").split("_")[1])
    assert 3 <= step < 120
    again = Run(toy, tmp_path / "part", processes, "--save_steps", 0)
    assert again.end() == 0
    assert f"resumed from {tmp_path / 'part'}/model_{step}" in again.printed()
    assert_same(whole(processes)[0], tmp_path / "part")


def test_a_disk_that_is_full_loses_nothing(toy, whole, tmp_path):
    """From step 5 on the optimizer's state no longer fits: the last whole checkpoint stays, the run goes on from it."""
    run = Run(toy, tmp_path / "part", 1).until("global step 5,")
    size = os.path.getsize(tmp_path / "part" / "latest" / "optimizer.pdopt")
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (size - 1000, size - 1000))
    assert run.end() == 2, run.printed()
    last = tmp_path / "part" / os.readlink(tmp_path / "part" / "latest")
    assert f"could not be written (File too large); last whole one: {last}; make room" in run.printed()
    assert [name for name in os.listdir(tmp_path / "part") if "partial" in name] == []
    assert Run(toy, tmp_path / "part", 1).end() == 0
    assert_same(whole(1)[0], tmp_path / "part")
