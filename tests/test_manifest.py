"""manifest.json: checksums of what a directory holds."""

import json
import os

import numpy as np
import pytest
from test_files import fill

from semindex import cli, manifest
from semindex.errors import UserError


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
