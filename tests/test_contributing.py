"""The examples of CONTRIBUTING.md run as they stand, one after the other."""

import json
import re
import sys
import threading
import types
import urllib.request

import numpy as np
import pytest
from conftest import ROOT

from models import weights
from models.export import export
from semindex.search.index import ENGINES


def examples():
    """Return {heading: code blocks}."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.*)$", text, flags=re.M)[1:]
    return {heading: re.findall(r"^```python\n(.*?)^```$", body, re.M | re.S)
            for heading, body in zip(parts[::2], parts[1::2])}


@pytest.fixture
def kept():
    """What the examples register is gone afterwards."""
    engines, sources = dict(ENGINES), list(weights._sources)
    yield
    ENGINES.clear()
    ENGINES.update(engines)
    weights._sources[:] = sources


@pytest.mark.slow
def test_every_example_runs(tmp_path, monkeypatch, capsys, kept):
    monkeypatch.chdir(tmp_path)
    found = examples()
    headings = ["Add a head", "Add an index engine", "Add an evaluator", "Add a source of weights", "Add an endpoint"]
    assert [heading for heading, blocks in found.items() if blocks] == headings
    module = types.ModuleType("contributing")
    monkeypatch.setitem(sys.modules, "contributing", module)
    space = vars(module)
    printed = {}
    for heading in headings:
        for block in found[heading]:
            exec(compile(block, f"CONTRIBUTING.md, {heading}", "exec"), space)
        printed[heading] = capsys.readouterr().out
    assert (tmp_path / "checkpoints" / "latest" / "head.pdparams").exists() and "trained 8 steps" in printed["Add a head"]
    assert printed["Add an index engine"].split() == ["[[0]", "[1]]"]
    assert "best separation" in printed["Add an evaluator"] and (tmp_path / "evaluated" / "best").exists()
    assert printed["Add a source of weights"].endswith("32 small\n")

    export(space["model"], space["tokenizer"], str(tmp_path / "output"), ["paddle"], "test")
    with space["server"](str(tmp_path / "output")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}/encode",
                                         json.dumps({"texts": ["卡丢了怎么办", "怎么办"]}).encode())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            vectors = np.array(json.load(answer)["vectors"])
        server.shutdown()
    assert vectors.shape == (2, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
