"""What the parser refuses before any work: outputs over inputs, two of one name, places that can be none."""

import os

import pytest

from semindex.cli import Parser
from semindex.errors import UserError


def parse(*words):
    parser = Parser("test")
    for name in ("in", "out", "log", "whole", "save", "shared"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--folder", dest="save")
    parser.reads("in")
    parser.writes("out")
    parser.writes("log", role="append")
    parser.writes("whole", role="directory")
    parser.writes("save", role="save")
    parser.writes("shared", role="shared")
    return parser.parse_args(list(map(str, words)))


@pytest.mark.parametrize("flag", ["in", "out", "whole", "save", "shared"])
def test_an_empty_name_is_none(flag):
    with pytest.raises(UserError, match=f"--{flag}: an empty name"):
        parse(f"--{flag}", "")
    parse("--log", "")  # which says that none is wanted


@pytest.mark.parametrize("flag", ["whole", "save", "shared"])
def test_a_directory_can_be_where_it_is_to_go(tmp_path, flag):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=f"--{flag} .*is a file"):
        parse(f"--{flag}", tmp_path / "file")
    with pytest.raises(UserError, match=f"--{flag} .*cannot be made: .*file is a file"):
        parse(f"--{flag}", tmp_path / "file" / "a" / "b")
    with pytest.raises(UserError, match=f"--{flag} .*too long"):
        parse(f"--{flag}", tmp_path / ("x" * 300))
    parse(f"--{flag}", tmp_path / "new" / "er")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("made", [False, True])
def test_a_directory_has_one_use(tmp_path, made):
    if made:
        (tmp_path / "d").mkdir()
    for one, two in (("--whole", "--save"), ("--whole", "--shared"), ("--save", "--shared")):
        with pytest.raises(UserError, match=f"{two} .*is what {one} names too"):
            parse(one, tmp_path / "d", two, f"{tmp_path}/./d")
    with pytest.raises(UserError, match="--whole"):
        parse("--whole", tmp_path / "file", "--out", tmp_path / "file")
    parse("--save", tmp_path / "d", "--shared", tmp_path / "d" / "ann", "--whole", tmp_path / "d" / "collection")
    assert parse("--folder", tmp_path / "d").save == str(tmp_path / "d")  # two flags of one value are one output


def test_a_hard_link_into_a_checkpoint_is_its_file(tmp_path):
    (tmp_path / "checkpoint" / "inner").mkdir(parents=True)
    (tmp_path / "checkpoint" / "inner" / "weights").write_text("x")
    os.link(tmp_path / "checkpoint" / "inner" / "weights", tmp_path / "result")
    with pytest.raises(UserError, match="--out .* is the file of --in"):
        parse("--in", tmp_path / "checkpoint", "--out", tmp_path / "result")
