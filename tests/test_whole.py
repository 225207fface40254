import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from semindex.files import atomic_directory, atomic_file


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(str(path)) as file:
        file.write("new")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["result"]
    with atomic_file(str(path)) as file:
        file.write("新\n")
    assert path.read_bytes() == "新\n".encode() and os.listdir(tmp_path) == ["result"]


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = subprocess.Popen(["cat", path], stdout=subprocess.PIPE)
    with atomic_file(str(path), "wb") as file:
        file.write(b"through")
    assert reader.communicate(timeout=20)[0] == b"through"
    assert path.is_fifo() and os.listdir(tmp_path) == ["pipe"]


def test_a_failure_leaves_the_old_directory(tmp_path):
    path = tmp_path / "index"
    path.mkdir()
    (path / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_directory(str(path)) as partial:
        open(os.path.join(partial, "a"), "w").close()
        raise RuntimeError
    assert (path / "a").read_text() == "old" and os.listdir(tmp_path) == ["index"]


def test_what_a_kill_leaves_is_removed_by_the_next_write(tmp_path):
    path = tmp_path / "index"
    code = ("import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
            "from semindex.files import atomic_directory\n"
            "with atomic_directory(sys.argv[2]) as partial:\n"
            "    open(os.path.join(partial, 'a'), 'w').close()\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n")
    assert subprocess.run([sys.executable, "-c", code, ROOT, path]).returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == ["index.partial"]
    with atomic_directory(str(path)) as partial:
        open(os.path.join(partial, "b"), "w").close()
    assert os.listdir(tmp_path) == ["index"] and os.listdir(path) == ["b"]
