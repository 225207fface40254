"""Directories that are whole or absent, and replaced only where they are ours."""

import json
import os

import pytest
from test_files import fill, killed

from semindex import directories, manifest
from semindex.directories import atomic_directory, check_replaceable, remove_directory
from semindex.errors import UserError
from semindex.locks import own_path


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


def test_what_a_killed_process_left_in_tmpdir_goes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = own_path(str(tmp_path / "semindex"), "temporary").replace(f"-{os.getpid()}-", "-4194305-")  # no process has it
    os.makedirs(f"{left}/tmpx")
    with directories.temporary_directory() as path:
        assert path.startswith(str(tmp_path)) and os.path.isdir(path) and not os.path.exists(left)
    assert not os.path.exists(path)
