"""Several boxes: two launchers on loopback that share no directory, but where a test says so."""

import os
import shutil
import socket
import subprocess
import sys
import time

import forked
import numpy as np
import paddle
import pytest
from conftest import ROOT, TRAIN, fail, launch, succeed

from semindex.encode.encoder import WINDOW, share_of
from semindex.errors import UserError
from semindex.peers import Peers, check_name

# Windows of 4 texts; a process whose rank is sys.argv[2] dies at its window sys.argv[3], and its launcher with it.
WRAPPED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
victim, fatal = sys.argv[2:4]
sys.argv = sys.argv[4:]
from semindex.encode import encoder, vector_file
encoder.WINDOW, vector_file.FLUSH_SECONDS = 4, -1
of_tokens, windows = encoder.TextEncoder.of_tokens, 0
def counting(self, tokens):
    global windows
    if f"{os.environ.get('PADDLE_TRAINER_ID', 'alone')} {windows}" == f"{victim} {fatal}":
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    windows += 1
    return of_tokens(self, tokens)
encoder.TextEncoder.of_tokens = counting
import encode_corpus
from semindex import cli
try:
    cli.run(encode_corpus.main)
finally:
    print("windows", windows, flush=True)
"""


class Boxes:
    """Boxes 0 and 1: directories of their own in which a launcher each starts one process of a run of two.

    fresh: as processes of their own, which a test can find and kill, not as forks.
    """

    def __init__(self, place, *command, fresh=False):
        env = os.environ | ({"OMP_NUM_THREADS": "1"} if fresh else forked.python_env())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            master = f"127.0.0.1:{free.getsockname()[1]}"
        self.places, self.launchers = [place / f"box{box}" for box in range(2)], []
        for box, directory in enumerate(self.places):
            directory.mkdir(exist_ok=True)
            with open(directory / "launcher.txt", "w") as out:
                self.launchers.append(subprocess.Popen(
                    [sys.executable if fresh else env["PYTHON"], "-u", "-m", "paddle.distributed.launch", "--nnodes", "2",
                     "--master", master, "--rank", str(box), "--log_dir", "log", *map(str, command)], cwd=directory,
                    stdout=out, stderr=subprocess.STDOUT, env=env))

    def end(self):
        """Wait for both; return the launchers' statuses."""
        return [launcher.wait(timeout=200) for launcher in self.launchers]

    def printed(self, box):
        """What the process of a box printed."""
        path = self.places[box] / "log" / "workerlog.0"
        return path.read_text(encoding="utf-8") if path.exists() else ""


def weights(directory):
    state = paddle.load(str(directory / "latest" / "model_state.pdparams"))
    return {name: value.numpy() for name, value in state.items()}


def recall(checkpoint, toy, out, *more):
    return ["recall.py", "--device", "cpu", "--params_path", checkpoint, "--corpus_file", toy / "corpus.csv",
            "--similar_text_pair", toy / "dev.csv", "--recall_result_dir", out, *more]


def encoding(checkpoint, toy, out, *more):
    return ["encode_corpus.py", "--device", "cpu", "--params_path", checkpoint, "--corpus_file", toy / "corpus.csv",
            "--output_dir", out, *more]


def script(words):
    return [ROOT / words[0], *words[1:]]


def vectors(directory, parts):
    return np.concatenate([np.load(directory / f"part_{part}_of_{parts}" / "vectors.npy") for part in range(parts)])


def test_shares_hold_every_row_once_in_whole_windows():
    for count in (0, 1, WINDOW, WINDOW + 1, 10 * WINDOW - 3):
        for parts in (1, 2, 3, 7):
            shares = [share_of(count, part, parts) for part in range(parts)]
            assert shares[0].start == 0 and shares[-1].stop == count
            assert all(one.stop == two.start for one, two in zip(shares, shares[1:]))
            assert all(share.start % WINDOW == 0 or share.start == count for share in shares)
            sizes = [-(-(share.stop - share.start) // WINDOW) for share in shares]
            assert max(sizes) - min(sizes) <= 1


class Store:
    """Counts that all add to, as paddle's store has them."""

    def __init__(self):
        self.counts = {}

    def add(self, name, number):
        self.counts[name] = self.counts.get(name, 0) + number
        return self.counts[name]


def test_a_connection_that_closes_is_a_process_that_ended(monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINER_ENDPOINTS", "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3")
    store, peers = Store(), [Peers() for _ in range(3)]
    for rank, one in enumerate(peers):
        one.join(store, rank)

    def until(one, ranks):
        ends = time.monotonic() + 20
        while one.gone() != ranks:
            assert time.monotonic() < ends

    assert [one.gone() for one in peers] == [set()] * 3
    peers[2].close()
    until(peers[0], {2})
    peers[0].tell(2)
    until(peers[1], {2})
    peers[0].close()
    until(peers[1], {0, 2})


def test_a_name_that_only_this_box_reaches_is_told(monkeypatch):
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "127.0.1.1")
    check_name("127.0.0.1:6170")
    check_name("")
    with pytest.raises(UserError, match="127.0.1.1.* '10.0.0.11 .*' into /etc/hosts"):
        check_name("10.0.0.11:6170")
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "10.0.0.11")
    check_name("10.0.0.11:6170")


@pytest.mark.parametrize(("why", "main", "status", "said"), [
    ("'1 has ended'", "time.sleep(60)", 2, "error: 1 has ended\n"), ("None", "time.sleep(60)", -6, "terminate called"),
    ("'1 has ended'", "print('error: main', file=sys.stderr, flush=True); os._exit(2)", 2, "error: main\n")])
def test_where_gloo_would_abort_the_process_says_why(why, main, status, said):
    """C++ terminates on another thread, as gloo's does: the main one goes first, then what is known is said."""
    program = (f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport ctypes, os, threading, time\nfrom semindex import peers\n"
               f"peers.GRACE_SECONDS = {10 if 'main' in main else 0.1}\npeers.explain_abort(lambda: {why})\n"
               f"threading.Thread(target=ctypes.CDLL('libstdc++.so.6')._ZSt9terminatev, daemon=True).start()\n{main}\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
    assert done.returncode == status and done.stderr.startswith(said), done.stderr


@pytest.mark.slow
def test_a_port_that_another_program_took_meanwhile_is_told(toy):
    """Paddle aborts: `uv__finish_close: Assertion failed`."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = f"127.0.0.1:{taken.getsockname()[1]}"
        told = {"PADDLE_TRAINER_ID": "0", "PADDLE_TRAINERS_NUM": "2", "PADDLE_CURRENT_ENDPOINT": first}
        line = fail(*TRAIN, "--train_set_file", toy / "train.csv", env=told | {"PADDLE_MASTER": first})
        assert f"port {first[10:]}, " in line and "Address already in use; start again" in line
        line = fail(*TRAIN, "--train_set_file", toy / "train.csv", env=told | {"PADDLE_TRAINER_ENDPOINTS": f"{first},127.0.0.1:9"})
        assert f"port {first[10:]}, " in line
    for wrong in ("127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"):
        line = fail(*TRAIN, "--train_set_file", toy / "train.csv", env=told | {"PADDLE_MASTER": wrong})
        assert line.startswith(f"error: {wrong} is not HOST:PORT")


@pytest.mark.slow
def test_two_boxes_train_and_recall_as_one(toy, tmp_path):
    """Dropout off: halves of a batch on two boxes, whose disks hold files of their own."""
    flags = ["--train_set_file", toy / "train.csv", "--max_steps", 4, "--dropout", 0, "--head_dropout", 0]
    succeed(*TRAIN, *flags, "--save_dir", tmp_path / "one")
    two = [*script(TRAIN), *flags, "--save_dir", "two"]
    two[two.index("--batch_size") + 1] = 4
    boxes = Boxes(tmp_path, *two)
    assert boxes.end() == [0, 0], boxes.printed(0)
    assert not (tmp_path / "box1" / "two").exists()
    a, b = weights(tmp_path / "one"), weights(tmp_path / "box0" / "two")
    assert a.keys() == b.keys() and max(abs(a[name] - b[name]).max() for name in a) < 2e-4  # of Adam steps of 1e-3

    # Box 1 cannot write into box 0's file of vectors: it sends them.
    checkpoint = tmp_path / "one" / "latest"
    succeed(*recall(checkpoint, toy, tmp_path / "out"))
    boxes = Boxes(tmp_path, *script(recall(checkpoint, toy, "out", "--index_dir", "index")))
    assert boxes.end() == [0, 0], boxes.printed(0)
    result = (tmp_path / "out" / "recall_result_file").read_bytes()
    assert (tmp_path / "box0" / "out" / "recall_result_file").read_bytes() == result
    assert not (tmp_path / "box1" / "index").exists()


@pytest.mark.slow
def test_a_box_that_is_killed_loses_its_share_alone(checkpoint, toy, tmp_path):
    """36 texts in windows of 4: box 1's process and launcher die at the fourth of its five; box 0 goes on."""
    (tmp_path / "wrapped.py").write_text(WRAPPED)
    wrapped = [tmp_path / "wrapped.py", ROOT]
    command = encoding(checkpoint, toy, "vectors")
    boxes = Boxes(tmp_path, *wrapped, 1, 3, *command, fresh=True)
    assert boxes.end() == [0, -9], boxes.printed(0)
    whole, lost = (box / "vectors" for box in boxes.places)
    assert "part 1 of 2 is not there yet" in boxes.printed(0)
    assert os.listdir(whole) == ["part_0_of_2"] and not (lost / "part_1_of_2").exists()
    before = os.stat(whole / "part_0_of_2" / "vectors.npy")

    def alone(place, *more):
        done = subprocess.run([sys.executable, *map(str, [*wrapped, "alone", -1, *command, *more])], cwd=place,
                              capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    printed = alone(tmp_path / "box1", "--part", "1/2")  # three windows were on the disk
    assert "12 of 20 texts of" in printed and "windows 2" in printed
    shutil.copytree(lost / "part_1_of_2", whole / "part_1_of_2")
    printed = alone(tmp_path / "box0")
    assert "all 2 parts are there and joined, 36 vectors" in printed and "windows 0" in printed
    after = os.stat(whole / "part_0_of_2" / "vectors.npy")
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    succeed(*encoding(checkpoint, toy, tmp_path / "usual"))  # in batches of other shapes
    np.testing.assert_allclose(vectors(whole, 2), vectors(tmp_path / "usual", 1), atol=1e-5)


@pytest.mark.slow
def test_a_recall_takes_the_parts(checkpoint, toy, tmp_path):
    """As it would encode them; and it says which part is missing, altered, or of another corpus."""
    parts, text = tmp_path / "parts", tmp_path / "other.csv"
    for part in ("0/3", "2/3"):
        succeed(*encoding(checkpoint, toy, parts, "--part", part))
    ready = recall(checkpoint, toy, tmp_path / "out", "--vectors_dir", parts)
    assert "part 1 of 3 is not there yet" in fail(*ready)
    assert "all 3 parts are there and joined" in succeed(*encoding(checkpoint, toy, parts))
    assert "encode corpus" not in succeed(*ready)
    succeed(*recall(checkpoint, toy, tmp_path / "usual"))
    assert ((tmp_path / "out" / "recall_result_file").read_bytes()
            == (tmp_path / "usual" / "recall_result_file").read_bytes())
    text.write_text("另一句话\n", encoding="utf-8")
    assert "of other texts" in fail(*[text if word == toy / "corpus.csv" else word for word in ready])
    assert "holds parts of 3, not of 2" in fail(*encoding(checkpoint, toy, parts, "--part", "1/2"))
    assert "not I/N" in fail(*encoding(checkpoint, toy, parts, "--part", "3/3"))
    with open(parts / "part_2_of_3" / "vectors.npy", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert "changed since it was written" in fail(*ready)
    assert "it is made anew" in succeed(*encoding(checkpoint, toy, parts))
    succeed(*ready)


@pytest.mark.slow
def test_a_training_whose_box_is_killed_ends_and_goes_on(toy, tmp_path):
    """The box that is left ends by itself, with one line; both, started again, give the undisturbed run's weights."""
    def words(name, *more):
        found = [*script(TRAIN), "--train_set_file", toy / "train.csv", "--save_dir", tmp_path / name, "--epochs", 10,
                 "--save_steps", 1, "--keep_checkpoints", 2, "--dropout", 0.2, "--resume", *more]
        found[found.index("--batch_size") + 1] = 4
        return found

    boxes = Boxes(tmp_path, *words("part"), fresh=True)
    while "global step 4," not in boxes.printed(0):
        assert boxes.launchers[0].poll() is None, boxes.printed(0)
        time.sleep(0.05)
    worker = subprocess.run(["ps", "-o", "pid=", "--ppid", str(boxes.launchers[1].pid)], capture_output=True, text=True)
    for pid in (boxes.launchers[1].pid, int(worker.stdout.split()[-1])):
        os.kill(pid, 9)
    assert boxes.end() == [2, -9], boxes.printed(0)
    errors = [line for line in boxes.printed(0).splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "process 1 of 2 has ended" in errors[0] and "Traceback" not in boxes.printed(0)
    again = Boxes(tmp_path, *words("part"))
    assert again.end() == [0, 0] and f"resumed from {tmp_path / 'part'}/model_" in again.printed(0), again.printed(0)
    undisturbed = launch(2, *words("whole"), cwd=tmp_path)
    assert undisturbed.returncode == 0, undisturbed.stdout
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "part")
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
