"""scripts/serve_demo.sh and scripts/improve.sh, as a user types them, on a small encoder."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import forked
import pytest
from conftest import ROOT


@pytest.mark.slow
def test_the_demo_serves_and_thumbs_become_a_new_encoder(tmp_path):
    env = os.environ | forked.python_env() | {"OUT": str(tmp_path / "demo"), "PORT": "0", "STEPS": "3", "ENCODER": "scratch-1x32", "FEWEST": "3"}
    with open(tmp_path / "log", "w") as log:  # a pipe that nobody reads would fill
        demo = subprocess.Popen(["bash", str(ROOT / "scripts" / "serve_demo.sh")], stdout=subprocess.PIPE, stderr=log,
                                text=True, env=env, cwd=tmp_path)
    try:
        address = next(line.strip() for line in demo.stdout if line.startswith("http://"))

        def ask(method, path, body=None):
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"}, method=method)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())

        def manage(*words):
            return subprocess.run([sys.executable, str(ROOT / "deploy" / "service" / "manage.py"), *words, "--url", address],
                                  capture_output=True, text=True)

        while True:  # bounded by the test's own timeout
            try:
                if ask("GET", "/ready")["ready"]:
                    break
            except OSError:
                assert demo.poll() is None
            time.sleep(0.02)
        env["URL"] = address
        improve = ["bash", str(ROOT / "scripts" / "improve.sh")]
        few = subprocess.run(improve, env=env, capture_output=True, text=True)
        assert few.returncode == 1 and "fewer than 3" in few.stdout
        hits = ask("POST", "/search", {"query": "银行卡丢了", "top": 5})["replies"][0]["hits"]
        for place, hit in enumerate(hits):
            ask("POST", "/feedback", {"query": "银行卡丢了", "question": hit["matched"], "label": int(place < 4)})
        labelled = manage("feedback").stdout.splitlines()
        assert [line.split("\t")[2] for line in labelled] == ["1"] * 4 + ["0"]
        done = subprocess.run(improve, env=env, capture_output=True, text=True)
        last = json.loads(done.stdout.strip().splitlines()[-1])
        assert last["state"] in ("live", "refused") and last["compared"]["questions"] == 520, done.stderr
        assert done.returncode == (last["state"] == "refused")
        if last["state"] == "refused":
            assert "worse on the dev questions" in last["reason"] and manage("activate", "2", "--force").returncode == 0
        about = json.loads(manage("generations").stdout)
        assert (about["current"]["model"], about["previous"]["model"]) == ("2", "1") and about["current"]["calibrated"]
        assert manage("rollback").returncode == 0 and ask("GET", "/info")["model"] == "1"
        wrong = manage("activate", "../x")
        assert wrong.returncode == 2 and "no export" in wrong.stderr and manage("activate").returncode == 2
    finally:
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(60) == 128 + signal.SIGTERM
