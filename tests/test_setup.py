"""scripts/setup.sh up to the point where it installs, and the lock it installs from."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8")


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def setup(*flags, **environment):
    return subprocess.run(["bash", str(ROOT / "scripts" / "setup.sh"), *flags], env=os.environ | environment, text=True,
                          capture_output=True, timeout=60)


def refused(tmp_path, *flags, **environment):
    done = setup(*flags, **({"VENV": str(tmp_path / "venv")} | environment))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "venv").exists()
    return done.stderr


def test_help_and_an_unknown_flag_name_every_flag(tmp_path):
    wrong, text = refused(tmp_path, "--onxx"), setup("--help").stdout
    assert "--onxx" in wrong
    for flag in ("--onnx", "--serve", "--milvus", "--pretrained", "--all", "--test", "--gpu"):
        assert flag in text and flag in wrong


def test_an_extra_without_packages_says_so(tmp_path):
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(re.sub(r"(?m)^milvus = \[.*?\].*$", "milvus = []", project), encoding="utf-8")
    # PYTHON ends the run before anything is installed
    done = subprocess.run(["bash", str(tmp_path / "scripts" / "setup.sh"), "--all"], env=os.environ | {"PYTHON": "false"}, text=True,
                          capture_output=True, timeout=60)
    assert done.stdout == "--milvus: nothing to install yet; the parts that need it are not here yet\n"


def test_a_python_that_will_not_do_is_refused(tmp_path):
    old = program(tmp_path / "python3.9", "echo 3.9\n")
    assert "3.9" in refused(tmp_path, PYTHON=str(old)) and "does not run" in refused(tmp_path, PYTHON="false")
    with_pip = program(tmp_path / "other" / "bin" / "python", "echo 3.9\n")
    assert "VENV=" in refused(tmp_path, VENV=str(with_pip.parent.parent), PYTHON=sys.executable)


def test_a_python_that_does_not_run_is_passed_over(tmp_path):
    """The shims of pyenv stand on the PATH and fail unless their version is chosen."""
    for name in (f"python{VERSION}", "python3"):
        program(tmp_path / "shims" / name, "exit 127\n")
    real = tmp_path / "versions" / f"{VERSION}.99" / "bin" / "python3"
    real.parent.mkdir(parents=True)
    real.symlink_to(os.path.realpath(sys.executable))
    found = subprocess.run(["bash", "-c", f"source {ROOT}/scripts/pythons.sh; find_python {VERSION}"], text=True,
                           capture_output=True, env=os.environ | {
                               "PATH": f"{tmp_path}/shims:/usr/bin:/bin", "PYENV_ROOT": str(tmp_path)})
    assert found.stdout == f"{real}\n", found.stderr


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_the_lock_has_every_package_and_no_address(extra):
    assert "://" not in LOCK
    for wanted in PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]:
        name = re.match(r"[\w-]+", wanted)[0]
        entry = re.search(rf"^{name}==(\S+).*\n    --hash=sha256:", LOCK, re.M)
        assert entry, f"{name}: bash scripts/lock.sh"
        if "==" in wanted:
            assert entry[1] == wanted.split("==")[1]
