"""A serving machine needs the wheel of semindex and an exported directory: no clone, no training code, no paddlenlp."""

import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


def test_the_wheel_holds_semindex_alone_and_serves(checkpoint, tmp_path):
    from models.export import export
    from models.loading import load

    wheels, clone = tmp_path / "wheels", tmp_path / "clone"  # a build leaves folders in the tree it is of
    clone.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    for name in ("semindex", "models", "training", "deploy"):
        shutil.copytree(ROOT / name, clone / name)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir",
                    wheels, clone], check=True, timeout=200, capture_output=True, cwd=tmp_path)
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as file:
        assert {name.split("/")[0] for name in file.namelist() if ".dist-info" not in name} == {"semindex"}
        file.extractall(tmp_path / "installed")
    model, tokenizer = load(str(checkpoint), {})
    export(model, tokenizer, str(tmp_path / "output"), ["paddle"], "test")
    blocked = tmp_path / "blocked" / "paddlenlp"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('paddlenlp is not here')")
    code = ("import sys, numpy as np\nfrom semindex.encode.exported import Predictor\n"
            "np.save(sys.argv[2], Predictor(sys.argv[1])(['卡丢了怎么办', '改签车票找谁']))\n"
            "assert 'models' not in sys.modules and 'training' not in sys.modules\n")
    subprocess.run([sys.executable, "-c", code, tmp_path / "output", tmp_path / "v.npy"], check=True, timeout=100, cwd=tmp_path,
                   env=os.environ | {"PYTHONPATH": f"{tmp_path / 'blocked'}:{tmp_path / 'installed'}"})
    from models.encoders import dynamic

    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), dynamic(model, tokenizer)(["卡丢了怎么办", "改签车票找谁"]), atol=1e-4)
