"""Schemathesis against the running service: examples, coverage, fuzzing, stateful, and nothing found."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
from conftest import ROOT

CONFIG = ROOT / "tests" / "schemathesis.toml"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis is not installed: bash scripts/setup.sh --test")
def test_schemathesis_finds_nothing(server, tmp_path):
    done = subprocess.run([sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{server.address}/openapi.json"],
                          capture_output=True, text=True, timeout=800, cwd=tmp_path)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    for phase in ("Coverage", "Fuzzing", "Stateful"):
        assert phase in text
    assert server.ask("GET", "/health")[0] == 200
