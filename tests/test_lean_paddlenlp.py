"""paddlenlp is imported without what encoders do not need, and what is left out is there for who asks."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

CODE = """
import json, sys
import models
from paddlenlp.transformers import AutoModel, AutoTokenizer, LinearDecayWithWarmup
heavy = [name for name in ("trainer", "taskflow", "datasets", "server") if f"paddlenlp.{name}" in sys.modules]
import paddlenlp
found = [paddlenlp.datasets.__name__, paddlenlp.Taskflow.__name__, paddlenlp.__version__, hasattr(paddlenlp, "nope")]
print(json.dumps([heavy, found]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "heavy"), [("", []), ("full", ["trainer", "taskflow", "datasets", "server"])])
def test_what_encoders_do_not_need_is_not_imported(setting, heavy):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"SEMINDEX_PADDLENLP": setting})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == [heavy, ["paddlenlp.datasets", "Taskflow", "3.0.0b4", False]]
