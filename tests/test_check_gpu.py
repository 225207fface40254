"""scripts/check_gpu.sh, which is for boxes with cards: over gloo it runs here, but for two rows that other tests have."""

import os
import subprocess
import sys

import forked
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from check_gpu import Row, Run, apart


def test_what_differs_too_much_is_told():
    assert not Row("a", difference=0.1, allowed=0.1).failed and not Row("a", note="not compared").failed
    assert Row("a", difference=0.2, allowed=0.1).failed and Row("a", difference=float("nan"), allowed=0.1).failed
    one = Run({1: 2.0, 2: 4.0, 3: 1.0})
    assert apart(one, Run({2: 4.4, 3: 1.0, 4: 9.0})) == pytest.approx(0.1)  # at the steps that both took
    for other in ({}, {9: 1.0}, {1: float("nan")}):
        assert Row("a", difference=apart(one, Run(other)), allowed=9.0).failed


@pytest.mark.slow
def test_over_gloo_all_agrees(tmp_path):
    done = forked.shell(
        ["bash", ROOT / "scripts" / "check_gpu.sh", "--device", "cpu", "--without", "quickstart", "cache",
         "--encoder", "scratch-1x32", "--steps", "40", "--batch_size", "16", "--out", tmp_path / "out"])
    assert done.returncode == 0, done.stdout + done.stderr
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    verdicts = {row[0]: row[-1] for row in table}
    assert {name for name, verdict in verdicts.items() if verdict == "yes"} == {
        "two processes, gloo", "fp32, stopped and resumed", "recall, cosines", "export, cosines"}
    for precision in ("bf16", "fp16"):
        assert "on a CPU fp32 is used" in verdicts[f"{precision}, stopped and resumed"]


@pytest.mark.slow
def test_without_cards_it_says_so(tmp_path):
    done = subprocess.run(["bash", ROOT / "scripts" / "check_gpu.sh", "--out", tmp_path / "out"], capture_output=True,
                          text=True, timeout=100, env=os.environ | {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"})
    if "--device cpu" not in done.stderr:
        pytest.skip("this box has cards")
    assert done.returncode == 1 and "error: nvidia-smi lists no card" in done.stderr
    assert not (tmp_path / "out").exists()
