"""The load test's own command on a tiny service: figures add up, only this machine is asked."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from importlib.util import find_spec  # importing locust itself patches this process

import pytest
from conftest import ROOT, fail

RUN = "deploy/load_test/run.py"


def load(place, tmp_path, *flags):
    out = tmp_path / "figures.json"
    done = subprocess.run([sys.executable, str(ROOT / RUN), "--faq_dir", str(place / "faq"), "--texts", str(place / "train.csv"),
                           "--output_file", str(out), "--log", str(tmp_path / "log"), *map(str, flags)],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text())


@pytest.mark.slow
def test_rates_are_measured_and_drawn(place, tmp_path):
    picture = tmp_path / "load.png"
    rows = load(place, tmp_path, "--users", 1, 4, "--seconds", 0.5, "--picture", picture)
    assert [(row["users"], row["cache"]) for row in rows] == [(1, "off"), (4, "off"), (1, "on"), (4, "on")]
    for row in rows:
        assert row["failures"] == 0 and row["requests/s"] > 0 and 0 < row["p50, ms"] <= row["p95, ms"] <= row["p99, ms"]
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_memory_and_overload_count_every_request(place, tmp_path):
    row = load(place, tmp_path, "--memory", "--requests", 300)
    assert row["failures"] == {} and row["MiB after 150"] > 0 and row["requests"] == 300
    row = load(place, tmp_path, "--overload", "--seconds", 2)
    assert row["still runs"] and row["others"] == {} and row["asked a second"] == pytest.approx(2 * row["sustainable a second"], abs=0.2)
    assert abs(row["200"] + row["429"] - 2 * row["asked a second"]) <= 2


@pytest.mark.slow
def test_a_search_is_compared_with_encoding(place, tmp_path):
    cost = ["--search_cost", "--seconds", 0.2, "--repeats", 1, "--keep_dir", tmp_path / "kept", "--entries"]
    for entries in (1200, 1500):  # the first 1,200 are kept
        row = load(place, tmp_path, *cost, entries)
        assert row.pop("entries") == entries and len(row) == 6 and all(value > 0 for value in row.values())
    assert os.listdir(tmp_path / "kept") == ["load_test"]
    with contextlib.closing(sqlite3.connect(tmp_path / "kept" / "load_test" / "entries.sqlite")) as base:
        assert base.execute("select count(*) from entries").fetchone() == (1500,)


@pytest.mark.slow
def test_only_this_machine_is_put_under_load(tmp_path):
    texts = tmp_path / "texts"
    texts.write_text("a\n")
    for url in ("http://10.0.0.1", "http://example.org:8000", "http://127.0.0.1.example.org", "//[fe80::1]"):
        assert "only a service on this machine" in fail(RUN, "--url", url, "--texts", texts)
    for flags in ((), ("--url", "http://127.0.0.1:1", "--memory")):
        assert "--faq_dir" in fail(RUN, "--texts", texts, *flags)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("locust") is None, reason="locust is not installed: bash scripts/setup.sh --test")
def test_locust_finds_no_failure(server, place):
    done = subprocess.run([sys.executable, "-m", "locust", "-f", str(ROOT / "deploy/load_test/locustfile.py"), "--host", server.address,
                           "--headless", "--users", "8", "--spawn-rate", "8", "--run-time", "4s", "--stop-timeout", "60", "--only-summary"],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "/search" in done.stderr + done.stdout, done.stdout + done.stderr
