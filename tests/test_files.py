"""Outputs: whole or absent, only our own replaced, one writer at a time, never over an input."""

import gzip
import os
import resource
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT

from ann_util import IndexSettings, TextIndex, build_index
from semindex import cli, files, manifest
from semindex.directories import atomic_directory
from semindex.errors import UserError
from semindex.files import atomic_file
from semindex.locks import locked, own_path, shared_path
from semindex.text.corpus import Corpus
from semindex.text.split import write_split


def fill(path, text="new", kind="index"):
    """Write a directory of ours with one file."""
    with atomic_directory(str(path), kind) as partial:
        with open(os.path.join(partial, "a.txt"), "w") as file:
            file.write(text)
        manifest.write(partial, kind)


def killed(code, *words):
    """Run code that kills itself."""
    head = "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
    done = subprocess.run([sys.executable, "-c", head + code, str(ROOT), *map(str, words)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(str(path)) as file:
        file.write("new")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["result"]
    os.chmod(path, 0o640)
    with atomic_file(str(path)) as file:
        file.write("新\n")
    assert path.read_bytes() == "新\n".encode() and os.listdir(tmp_path) == ["result"]
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    with atomic_file(str(tmp_path / "link")) as file:
        file.write("text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "file").read_text() == "text"


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = subprocess.Popen(["cat", path], stdout=subprocess.PIPE)
    with atomic_file(str(path), "wb") as file:
        file.write(b"through")
    assert reader.communicate(timeout=20)[0] == b"through"
    assert path.is_fifo() and os.listdir(tmp_path) == ["pipe"]


def test_a_pipe_that_nobody_reads_is_an_error(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(files, "READER_SECONDS", 0)
    with pytest.raises(UserError, match="nobody reads"), atomic_file(str(tmp_path / "pipe")):
        pass


def test_a_full_device_is_told_with_its_name():
    with pytest.raises(OSError) as error, atomic_file("/dev/full") as file:
        file.write("text")
    assert error.value.filename == "/dev/full" and os.path.exists("/dev/full")


def test_a_short_write_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(OSError) as error, atomic_file(str(tmp_path / "f"), "wb") as file:
            file.write(b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert error.value.filename == str(tmp_path / "f") and os.listdir(tmp_path) == []


def test_a_name_in_gz_is_compressed(tmp_path):
    for name in "ab":
        with atomic_file(str(tmp_path / f"{name}.csv.gz")) as file:
            file.write("甲\t乙\n")
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).decode() == "甲\t乙\n"
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


def test_names_that_can_be_no_file(tmp_path):
    (tmp_path / "file").write_text("x")
    for name, message in (("", "an empty name"), (f"{tmp_path}/nope/..", "is a directory"),
                          (f"{tmp_path}/{'x' * 300}", "too long"), (tmp_path, "is a directory"), (f"{tmp_path}/new/", "is a directory"),
                          (tmp_path / "file" / "below", "is a file")):
        with pytest.raises(UserError, match=message), atomic_file(str(name)):
            pass
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_kill_leaves_is_removed_and_what_a_living_process_writes_is_not(tmp_path):
    path = tmp_path / "result"
    killed("from semindex.files import atomic_file\n"
           "with atomic_file(sys.argv[2]) as file:\n    os.kill(os.getpid(), signal.SIGKILL)\n", path)
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".semindex-")
    living = own_path(str(path), "partial").replace(str(os.getpid()), "1")  # process 1 lives; its start is another
    with open(own_path(str(path), "partial"), "w"):  # this process: alive
        with atomic_file(str(tmp_path / "other")) as file:
            file.write("x")
        assert len(os.listdir(tmp_path)) == 3
        os.unlink(own_path(str(path), "partial"))
    open(living, "w").close()
    with atomic_file(str(path)) as file:
        file.write("x")
    assert sorted(os.listdir(tmp_path)) == ["other", "result"]


HOLD = ("import sys; sys.path.insert(0, sys.argv[1])\nfrom semindex.locks import locked\n"
        "with locked(sys.argv[2]):\n    print('held', flush=True)\n    sys.stdin.readline()\n")


def test_one_writer_at_a_time_and_a_dead_one_holds_nothing(tmp_path):
    path = tmp_path / "new" / "result"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(ROOT), str(path)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"--output_file .*result: is being written by another process \(process {holder.pid} "), \
            locked(str(path), "--output_file"):
        pass
    holder.kill()
    holder.wait()
    assert os.path.exists(shared_path(str(path), "lock"))  # stale
    with locked(str(path)), locked(str(path)):  # and again within one process
        pass
    assert not os.path.exists(shared_path(str(path), "lock"))
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(ROOT), str(tmp_path / "other" / "r")], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    holder.communicate("\n")
    assert not (tmp_path / "other").exists()  # made for the lock alone


def test_a_full_disk_does_not_keep_a_lock_waiting(tmp_path, monkeypatch):
    """The lock's file has no room for its holder's number: it was tried for ever."""
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with locked(str(tmp_path / "result")):
        assert os.path.exists(shared_path(str(tmp_path / "result"), "lock"))


def test_an_index_is_loaded_whole_while_others_replace_it(tmp_path):
    """Texts of one index with vectors of another: 407 of 16,850 loads."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(2):
        vectors = rng.standard_normal([50, 8]).astype(np.float32)
        texts = Corpus.from_texts([f"{number}-{i}" for i in range(50)])
        made.append(TextIndex(build_index(vectors, IndexSettings("exact")), texts, f"encoder {number}"))
    directory = str(tmp_path / "index")
    made[0].save(directory)
    stop = threading.Event()

    def replace():
        turn = 0
        while not stop.is_set():
            turn += 1
            made[turn % 2].save(directory)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        seen = set()
        for _ in range(150):
            index = TextIndex.load(directory)
            number = int(index.encoder[-1])
            seen.add(number)
            assert index.corpus[7] == f"{number}-7"
            np.testing.assert_array_equal(index.index.vectors_of(np.arange(50)), made[number].index.rows)
    finally:
        stop.set()
        writer.join()
    assert os.listdir(tmp_path) == ["index"]


def test_three_files_of_a_split_change_together(tmp_path):
    old, new = ([[[f"{side}{n}", side]] for n in range(3)] for side in ("old", "new"))
    write_split(str(tmp_path), old)
    write_split(str(tmp_path), new)  # our own are replaced
    code = ("from semindex.text import split\n"
            "rename, left = os.rename, [2]\n"
            "def dying(one, two):\n    rename(one, two)\n    left[0] -= 1\n"
            "    left[0] or os.kill(os.getpid(), signal.SIGKILL)\n"
            "os.rename = dying\n"
            "split.write_split(sys.argv[2], [[[f'old{n}', 'old']] for n in range(3)])\n")
    killed(code, tmp_path)
    found = {path.read_text().split("\t")[1] for path in tmp_path.glob("*.csv")}
    assert found == {"old\n"} and len(list(tmp_path.glob("*.csv"))) == 2
    write_split(str(tmp_path), new)
    assert sorted(os.listdir(tmp_path)) == ["dev.csv", "split.json", "test.csv", "train.csv"]
    (tmp_path / "dev.csv").write_text("mine\tmine\n")
    with pytest.raises(UserError, match="dev.csv: is there, and no split_data.py wrote it"):
        write_split(str(tmp_path), old)
    assert (tmp_path / "train.csv").read_text() == "new0\tnew\n"
    write_split(str(tmp_path), old, overwrite=True)
    assert (tmp_path / "dev.csv").read_text() == "old1\told\n"


def parse(*words):
    parser = cli.Parser("test")
    for name in ("in", "more", "out", "log", "also", "dir"):
        parser.add_argument(f"--{name}", nargs="+" if name == "more" else None)
    parser.reads("in", "more")
    parser.writes("out", "also")
    parser.writes("log", role="append")
    parser.writes("dir", role="directory")
    return parser.parse_args(list(map(str, words)))


def test_an_output_is_no_input_under_any_name(tmp_path):
    source = tmp_path / "source"
    source.write_text("x")
    os.link(source, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(source)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_text("x")
    for name in (source, tmp_path / "hard", tmp_path / "soft", f"{tmp_path}/folder/../source"):
        for flag in ("--in", "--more"):
            with pytest.raises(UserError, match=f"--out .*: is the file of {flag}"):
                parse(flag, source, "--out", name)
            with pytest.raises(UserError, match="--log"):
                parse(flag, source, "--log", name)
    with pytest.raises(UserError, match="--also .* is the file of --out"):
        parse("--out", tmp_path / "new", "--also", f"{tmp_path}/./new")
    with pytest.raises(UserError, match="--dir .* holds the file of --in"):
        parse("--in", tmp_path / "folder" / "inner", "--dir", tmp_path / "folder")
    with pytest.raises(UserError, match="--out .* is inside the directory of --in"):
        parse("--in", tmp_path / "folder", "--out", tmp_path / "folder" / "new")
    with pytest.raises(UserError, match="both standard input"):
        parse("--in", "-", "--more", "-")
    parse("--in", source, "--more", tmp_path / "hard", "--out", tmp_path / "new", "--also", "/dev/null", "--log", "/dev/null")
    assert source.read_text() == "x"


@pytest.mark.parametrize("kind", ["hnsw", "hnsw_int8"])
def test_an_index_cut_short_by_a_full_disk_is_not_sealed(tmp_path, kind):
    vectors = np.random.default_rng(0).standard_normal([500, 16], np.float32)
    index = build_index(vectors, IndexSettings(kind, threads=1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_400, before[1]))
    try:
        with pytest.raises((UserError, OSError)):
            TextIndex(index, Corpus.from_texts(list(map(str, range(500)))), "x").save(str(tmp_path / "index"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "index").exists()


def test_lines_are_appended_to_what_a_name_stands_for(tmp_path):
    for _ in range(2):
        with files.appended(str(tmp_path / "a.tsv.gz")) as file:
            file.write("一\n")
    assert gzip.decompress((tmp_path / "a.tsv.gz").read_bytes()).decode() == "一\n一\n"
    os.mkfifo(tmp_path / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_text()))
    reader.start()
    with files.appended(str(tmp_path / "pipe")) as file:
        file.write("x\n")
    reader.join()
    assert found == ["x\n"]
