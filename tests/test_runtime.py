"""What a process knows of its surroundings: the launcher's environment, sockets, signals, homes."""

import os
import signal
import socket
import subprocess
import sys
import tempfile

import paddle
import pytest
from conftest import ROOT, TRAIN, launch, run

from semindex import runtime
from semindex.environment import prepare_home, probe
from semindex.errors import UserError

LAUNCHED = {"PADDLE_TRAINER_ID": "1", "PADDLE_TRAINERS_NUM": "2", "PADDLE_CURRENT_ENDPOINT": "127.0.0.1:2",
            "PADDLE_TRAINER_ENDPOINTS": "127.0.0.1:1,127.0.0.1:2"}


@pytest.mark.parametrize(("environment", "expected"), [
    ({}, (0, 1)),
    ({"PADDLE_TRAINERS_NUM": "1"}, (0, 1)),
    ({"PADDLE_TRAINER_ID": "0"}, (0, 1)),
    (LAUNCHED, (1, 2)),
    ({"PADDLE_TRAINERS_NUM": "2"}, "PADDLE_TRAINERS_NUM=2, and lacks PADDLE_TRAINER_ID, PADDLE_CURRENT_ENDPOINT, PADDLE_T"),
    ({"PADDLE_TRAINERS_NUM": ""}, "the environment says PADDLE_TRAINERS_NUM=, and lacks"),
    ({"PADDLE_TRAINER_ID": "5"}, "the environment says PADDLE_TRAINER_ID=5, and lacks PADDLE_TRAINERS_NUM"),
    (LAUNCHED | {"PADDLE_TRAINER_ID": "2"}, "the environment says PADDLE_TRAINER_ID=2, PADDLE_TRAINERS_NUM=2; these"),
    (LAUNCHED | {"PADDLE_TRAINER_ID": "-1"}, "the environment says PADDLE_TRAINER_ID=-1"),
    (LAUNCHED | {"PADDLE_TRAINERS_NUM": "٣"}, "PADDLE_TRAINERS_NUM=٣; these belong to"),
])
def test_what_the_launcher_says_is_checked_together(monkeypatch, environment, expected):
    for name in [name for name in os.environ if name.startswith("PADDLE_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(expected, tuple):
        assert (runtime.rank(), runtime.world_size()) == expected
        return
    for ask in (runtime.rank, runtime.world_size, lambda: runtime.say("x"), lambda: runtime.start("cpu")):
        with pytest.raises(UserError, match=expected):
            ask()


def test_only_new_tcp_connections_send_at_once_and_nothing_leaks():
    """Every socket of the process was changed, and a descriptor leaked for each file that is none."""
    def at_once(connection):
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0

    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as old:
        before = runtime.open_sockets()
        with (socket.create_connection(server.getsockname()) as new, open(os.devnull) as file,
              socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX) as unix):
            there = sorted(os.listdir("/proc/self/fd"))
            runtime.answer_at_once(runtime.open_sockets() - before)
            assert sorted(os.listdir("/proc/self/fd")) == there
            assert at_once(new) and not at_once(old)
            assert {file.fileno()}.isdisjoint(number for number, _ in runtime.open_sockets())
            assert udp.fileno() >= 0 and unix.fileno() >= 0
            new.sendall(b"x")  # it is open still


@pytest.fixture
def surroundings(monkeypatch, tmp_path):
    """A temporary directory of the test's own; what is changed in the environment is put back."""
    for name in ("HOME", "PPNLP_HOME"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def test_a_home_that_can_be_written_stays(surroundings, capsys, monkeypatch):
    for home in (surroundings / "home", surroundings / "not" / "yet"):
        (surroundings / "home").mkdir(exist_ok=True)
        monkeypatch.setenv("HOME", str(home))
        prepare_home()
        assert os.environ["HOME"] == str(home) and capsys.readouterr().err == ""
    assert sorted(os.listdir(surroundings)) == ["home", "tmp"] and os.listdir(surroundings / "home") == []


@pytest.mark.parametrize("home", ["/proc/nonexistent", "a file"])
def test_a_home_that_cannot_be_written_is_replaced_with_one_warning(surroundings, capsys, monkeypatch, home):
    (surroundings / "a file").write_text("")
    home = str(surroundings / home)
    monkeypatch.setenv("HOME", home)
    prepare_home()
    other = os.environ["HOME"]
    assert os.path.dirname(other) == str(surroundings / "tmp") and os.stat(other).st_mode & 0o777 == 0o700
    assert capsys.readouterr().err.startswith(f"warning: the home {home} cannot be written (")
    prepare_home()
    monkeypatch.setenv("HOME", home)
    prepare_home()
    assert os.environ["HOME"] == other and len(os.listdir(surroundings / "tmp")) == 1  # no directory a run is left
    os.rename(other, surroundings / "else")
    os.symlink(surroundings / "else", other)  # of another user, as it may be
    monkeypatch.setenv("HOME", home)
    prepare_home()
    assert os.environ["HOME"] != other


def test_a_model_cache_that_can_be_read_alone_is_used_all_the_same(surroundings, monkeypatch):
    for name in ("models", "datasets", "packages"):
        (surroundings / "home" / ".paddlenlp" / name).mkdir(parents=True)
    (surroundings / "home" / ".visualdl").write_text("in the way")
    monkeypatch.setenv("HOME", str(surroundings / "home"))
    prepare_home()
    assert os.environ["PPNLP_HOME"] == str(surroundings / "home" / ".paddlenlp")


def test_probing_leaves_nothing(tmp_path):
    probe(str(tmp_path / "a" / "b"))
    assert os.listdir(tmp_path) == []
    for path in ("", "/proc/nonexistent/x", __file__):
        with pytest.raises(OSError, match=r".*"):
            probe(path)


@pytest.mark.slow
def test_a_training_and_its_curves_need_no_home(toy, tmp_path):
    for script in ([*TRAIN, "--train_set_file", toy / "train.csv", "--save_dir", tmp_path / "run", "--max_steps", 1],
                   ["plot_training.py", "--save_dir", tmp_path / "run", "--output_file", tmp_path / "x.png"]):
        done = run(*script, env={"HOME": "/proc/nonexistent", "TMPDIR": str(tmp_path)})
        assert done.returncode == 0 and done.stderr.count("warning") == 1, done.stdout + done.stderr
    assert (tmp_path / "x.png").is_file()


@pytest.mark.slow
def test_a_waiting_job_ends_in_one_line_when_told_to(tmp_path):
    """paddle's handler printed a dump of a dozen lines."""
    job = subprocess.Popen([sys.executable, "-u", str(ROOT / "run_ann_data_gen.py"), "--device", "cpu", "--training_dir",
                            str(tmp_path / "run")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert job.stdout.readline().startswith("waiting for a checkpoint")
    job.send_signal(signal.SIGTERM)
    out, err = job.communicate(timeout=60)
    assert (out, err, job.returncode) == ("", "terminated\n", 128 + signal.SIGTERM)


def test_cards_on_a_cpu_build_are_an_error_of_one_line(tmp_path):
    """paddle's launcher said `ValueError: substring not found`."""
    if paddle.is_compiled_with_cuda():
        pytest.skip("a GPU build of paddle")
    done = subprocess.run(["bash", str(ROOT / "scripts" / "predict.sh")], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"GPUS": "0", "PYTHON": sys.executable, "PARAMS_PATH": "any"})
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: GPUS=0: the installed paddle is a CPU build")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["barrier", "talk"])
def test_of_three_processes_one_that_ends_is_named(tmp_path, where):
    """What the others say names the one that ended, without a traceback."""
    done = launch(3, ROOT / "tests" / "barrier.py", where, cwd=tmp_path, timeout=100)
    printed = [(tmp_path / "log" / f"workerlog.{rank}").read_text() for rank in range(3)]
    assert done.returncode and "error: process 2 of 3 has ended" in printed[0], printed
    assert not [one for one in printed if "Traceback" in one]


@pytest.mark.slow
@pytest.mark.parametrize("stride", ["", "1"])
def test_what_the_cpu_gains_by_can_be_turned_off(tmp_path, stride):
    (tmp_path / "a.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom semindex import environment, runtime\n"
                                   "library = environment.ctypes.CDLL\nenvironment.ctypes.CDLL = lambda name: print('kept') or library(name)\n"
                                   "runtime.start('cpu', 0)\nimport paddle\nprint(*paddle.get_flags('FLAGS_use_stride_kernel').values())")
    done = run(tmp_path / "a.py", env={"SEMINDEX_STRIDE_KERNEL": stride, "SEMINDEX_KEEP_MEMORY": "0" if stride else "1"})
    assert done.stdout.split() == (["True"] if stride else ["kept", "False"]), done.stderr
