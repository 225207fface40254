"""Outputs: whole or absent, only our own replaced, one writer at a time, never over an input."""

import gzip
import json
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
from semindex import cli, directories, files, manifest
from semindex.directories import atomic_directory, check_replaceable, remove_directory
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


# --- files ------------------------------------------------------------------------------------------------------


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


# --- directories ------------------------------------------------------------------------------------------------


def test_a_failure_leaves_the_old_directory(tmp_path):
    fill(tmp_path / "index", "old")
    with pytest.raises(RuntimeError), atomic_directory(str(tmp_path / "index"), "index") as partial:
        open(os.path.join(partial, "a.txt"), "w").close()
        raise RuntimeError
    assert (tmp_path / "index" / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["index"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_directory_is_replaced_and_the_users_neighbours_stay(tmp_path, exchange, monkeypatch):
    """index.old and index.partial may be anybody's."""
    if not exchange:
        monkeypatch.setattr(directories, "_rename_exchange", lambda one, two: False)
    for name in ("index.old", "index.partial", "index.partial-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis").write_text("x")
    fill(tmp_path / "index", "old")
    fill(tmp_path / "index", "new")
    assert (tmp_path / "index" / "a.txt").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["index", "index.old", "index.partial", "index.partial-1"]
    assert all((tmp_path / name / "thesis").exists() for name in ("index.old", "index.partial", "index.partial-1"))


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    """Where the system cannot exchange two names at once."""
    path = tmp_path / "index"
    fill(path, "old")
    killed("from semindex import directories, manifest\n"
           "directories._rename_exchange = lambda one, two: False\n"
           "rename = os.rename\n"
           "def dying(one, two):\n    rename(one, two)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
           "with directories.atomic_directory(sys.argv[2], 'index') as partial:\n"
           "    manifest.write(partial, 'index')\n    os.rename = dying\n", path)
    assert not path.exists()
    with pytest.raises(RuntimeError), atomic_directory(str(path), "index"):
        raise RuntimeError  # a failed retry
    assert (path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["index"]


def test_only_our_own_directories_are_replaced(tmp_path):
    for name, content in (("manifest.json", {"files": {}, "format": 1}), ("index.json", {"format": 1}), ("notes", None)):
        path = tmp_path / name.replace(".", "_")
        path.mkdir()
        (path / name).write_text(json.dumps(content))
        with pytest.raises(UserError, match="is there, but is no index"):
            fill(path)
        assert os.listdir(path) == [name]
    fill(tmp_path / "ours")
    (tmp_path / "ours" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="holds thesis.txt, which is not part of the index"):
        fill(tmp_path / "ours")
    with pytest.raises(UserError, match="thesis"):
        remove_directory(str(tmp_path / "ours"), "index")
    with pytest.raises(UserError, match="is no export"):
        fill(tmp_path / "ours", kind="export")
    os.unlink(tmp_path / "ours" / "thesis.txt")
    remove_directory(str(tmp_path / "ours"), "index")
    assert not (tmp_path / "ours").exists()


def test_the_current_directory_is_never_written_over(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "thesis").write_text("x")
    for name in ("", ".", "..", "nope/..", "nope/../../here", "/"):
        with pytest.raises(UserError, match="empty name|current directory"):
            fill(name)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes").write_text("x")
    with pytest.raises(UserError, match="is no index"):
        fill("nope/../../there")
    assert (tmp_path / "here" / "thesis").exists() and (tmp_path / "there" / "notes").exists()
    fill("new/")  # a trailing slash is no other name
    assert (tmp_path / "here" / "new" / "a.txt").exists() and sorted(os.listdir(".")) == ["new", "thesis"]


def test_check_says_what_will_be_refused(tmp_path):
    assert not check_replaceable(str(tmp_path / "new" / "deep"), "--index_dir", "index")
    assert os.listdir(tmp_path) == []
    fill(tmp_path / "index")
    assert check_replaceable(str(tmp_path / "index") + "/", "--index_dir", "index")
    (tmp_path / "file").write_text("x")
    for path in ("file", "file/below"):
        with pytest.raises(UserError, match="--index_dir.* is a file"):
            check_replaceable(str(tmp_path / path), "--index_dir", "index")


def test_a_mount_point_is_filled_from_within(tmp_path, monkeypatch):
    path = tmp_path / "mounted"
    path.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda name: str(name) == str(path))
    before = path.stat().st_ino
    fill(path, "old")
    fill(path, "new")
    assert (path / "a.txt").read_text() == "new" and path.stat().st_ino == before
    assert sorted(os.listdir(path)) == ["a.txt", "manifest.json"] and os.listdir(tmp_path) == ["mounted"]


@pytest.mark.parametrize("renames", [1, 2])
def test_a_kill_while_a_mount_point_is_filled_is_made_good(tmp_path, renames):
    path = tmp_path / "mounted"
    path.mkdir()
    code = ("from semindex import directories, manifest\n"
            "os.path.ismount = lambda name: name == sys.argv[2]\n"
            "rename, left = os.rename, [int(sys.argv[3])]\n"
            "def dying(one, two):\n    rename(one, two)\n    left[0] -= 1\n"
            "    left[0] or os.kill(os.getpid(), signal.SIGKILL)\n"
            "with directories.atomic_directory(sys.argv[2], 'index') as partial:\n"
            "    for name in ('a.txt', 'b.txt'):\n        open(os.path.join(partial, name), 'w').close()\n"
            "    manifest.write(partial, 'index')\n    os.rename = dying\n")
    killed(code, path, renames)
    assert manifest.read(str(path)) is None  # nobody takes it for whole
    with pytest.raises(RuntimeError), atomic_directory(str(path), "index"):
        raise RuntimeError
    assert sorted(os.listdir(path)) == ["a.txt", "b.txt", "manifest.json"]
    assert manifest.check(str(path), "index") is not None


# --- manifests --------------------------------------------------------------------------------------------------


def test_any_altered_byte_is_found(tmp_path):
    fill(tmp_path / "d", "content" * 50)
    check = lambda: manifest.check(str(tmp_path / "d"), "index")  # noqa: E731
    assert check()["kind"] == "index"
    for name in ("a.txt", "manifest.json"):
        path = tmp_path / "d" / name
        whole = path.read_bytes()
        rng = np.random.default_rng(1)
        spots = [bytes([whole[i] ^ 1 << rng.integers(7)]).join([whole[:i], whole[i + 1:]])
                 for i in rng.integers(len(whole), size=20)]
        for changed in (*spots, whole[:-1], whole[:9], b"", whole + b"x"):
            path.write_bytes(changed)
            same = name == "manifest.json" and _json(changed) == _json(whole)
            if same:
                check()
            else:
                with pytest.raises(UserError):
                    assert check() is not None
                    raise AssertionError(changed)
        path.write_bytes(whole)
    assert check()
    (tmp_path / "d" / "added_tokens.json").write_text("{}")
    with pytest.raises(UserError, match="was added to the index"):
        check()
    os.unlink(tmp_path / "d" / "added_tokens.json")
    (tmp_path / "d" / "README.md").write_text("notes of the user's do no harm")
    assert check()
    (tmp_path / "d" / "a.txt").write_text("changed")
    assert manifest.check(str(tmp_path / "d"), "index", trust=True)
    os.unlink(tmp_path / "d" / "a.txt")
    with pytest.raises(UserError, match="missing"):
        manifest.check(str(tmp_path / "d"), "index", trust=True)


def _json(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_large_files_are_hashed_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "BLOCK", 1000)
    (tmp_path / "large.bin").write_bytes(bytes(range(256)) * 20)
    manifest.write(str(tmp_path), "index")
    assert manifest.check(str(tmp_path), "index")
    for place in (0, 999, 1000, 5119):
        content = bytearray(bytes(range(256)) * 20)
        content[place] ^= 1
        (tmp_path / "large.bin").write_bytes(content)
        with pytest.raises(UserError, match="large.bin: changed"):
            manifest.check(str(tmp_path), "index")


def test_files_that_go_are_forgotten_first(tmp_path):
    fill(tmp_path / "d")
    with open(tmp_path / "d" / "b.bin", "w"):
        pass
    manifest.write(str(tmp_path / "d"), "index")
    manifest.forget(str(tmp_path / "d"), ["b.bin"])
    os.unlink(tmp_path / "d" / "b.bin")
    assert list(manifest.check(str(tmp_path / "d"), "index")["files"]) == ["a.txt"]


# --- two at once ------------------------------------------------------------------------------------------------


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


# --- inputs and outputs of a command line -----------------------------------------------------------------------


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


@pytest.mark.parametrize("change", [lambda content: content.pop("files"), lambda content: content.update(files=["a"]),
                                    lambda content: content["files"].update({"../a": {"sha256": "x"}}), lambda content: content.update(kind=1)])
def test_a_sealed_manifest_of_another_form_is_refused(tmp_path, change):
    (tmp_path / "a").write_text("x")
    manifest.write(str(tmp_path), "index")
    content = json.loads((tmp_path / "manifest.json").read_text())
    change(content)
    manifest._dump(str(tmp_path), content)
    with pytest.raises(UserError, match="manifest.json: .*(files|kind)"):
        manifest.check(str(tmp_path), "index")


def test_a_file_is_no_checked_directory(tmp_path):
    (tmp_path / "a").write_text("x")
    with pytest.raises(UserError, match="is a file, a directory was expected"):
        manifest.check(str(tmp_path / "a"), "index")


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


def test_what_a_killed_process_left_in_tmpdir_goes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = own_path(str(tmp_path / "semindex"), "temporary").replace(f"-{os.getpid()}-", "-4194305-")  # no process has it
    os.makedirs(f"{left}/tmpx")
    with directories.temporary_directory() as path:
        assert path.startswith(str(tmp_path)) and os.path.isdir(path) and not os.path.exists(left)
    assert not os.path.exists(path)


def test_trusted_files_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "trusting", False)
    (tmp_path / "a.txt").write_text("a")
    manifest.write(str(tmp_path), "export")
    (tmp_path / "a.txt").write_text("b")
    with pytest.raises(UserError, match="changed since it was written"):
        manifest.check(str(tmp_path), "export")
    parser = cli.Parser("x")
    parser.add_argument("--trust_files", action="store_true")
    parser.parse_args(["--trust_files"])
    assert manifest.check(str(tmp_path), "export")


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
