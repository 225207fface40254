"""What the service is deployed with, as far as it can be checked without running it: containers are not run here."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from deploy.service.serve import parser

DEPLOY = ROOT / "deploy"
UNIT, NGINX, CONTAINER = DEPLOY / "systemd/semindex.service", DEPLOY / "nginx/semindex.conf", DEPLOY / "service/Containerfile"
COMPOSE = DEPLOY / "compose.yaml"


@pytest.mark.parametrize("path", [UNIT, CONTAINER, COMPOSE], ids=lambda path: path.name)
def test_every_variable_is_a_flag_of_the_service(path):
    flags = {f"SEMINDEX_{action.dest.upper()}" for action in parser()._actions}
    named = set(re.findall(r"SEMINDEX_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8")))
    assert named and named <= flags


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_the_unit_is_what_systemd_reads(tmp_path):
    text = UNIT.read_text(encoding="utf-8")
    assert "/opt/semindex/.venv/bin/python /opt/semindex/deploy/service/serve.py\n" in text
    text = text.replace("/opt/semindex/.venv/bin/python", sys.executable).replace("/opt/semindex", str(ROOT))
    (tmp_path / "semindex.service").write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / "semindex.service")], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "semindex.service" in line]
    assert not ours, done.stderr
    (tmp_path / "wrong.service").write_text(text.replace("Restart=always", "Restart=allways\nNoSuchKey=1"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / "wrong.service")], capture_output=True, text=True)
    assert "allways" in done.stderr and "NoSuchKey" in done.stderr  # it does look


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not here: apt-get install nginx-light")
def test_nginx_takes_its_file(tmp_path):
    text = NGINX.read_text(encoding="utf-8").replace("listen 80;", f"listen unix:{tmp_path}/socket;")

    def check(text):
        (tmp_path / "semindex.conf").write_text(text, encoding="utf-8")
        (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; "
                                             f"include {tmp_path}/semindex.conf; }}", encoding="utf-8")
        return subprocess.run(["nginx", "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True)

    assert check(text).returncode == 0, check(text).stderr
    assert check(text.replace("proxy_read_timeout", "proxy_reed_timeout")).returncode != 0


def test_the_compose_file_fits_the_rest():
    compose = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    service, prometheus = compose["services"]["service"], compose["services"]["prometheus"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == CONTAINER
    for one in (service, prometheus):
        assert all(port.startswith("127.0.0.1:") for port in one["ports"])  # nobody else reaches them
        for volume in one["volumes"]:
            source = volume.split(":")[0] if not volume.startswith("$") else ""
            assert not source or source in compose["volumes"] or (DEPLOY / source).is_file()
    scrape = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"][0]
    assert scrape["static_configs"][0]["targets"] == ["service:8000"] and scrape["metrics_path"] == "/metrics"
    lines = CONTAINER.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for line in lines:
        words = line.split()
        if words[:1] == ["COPY"] and not words[1].startswith("--from"):
            assert all((ROOT / word).exists() for word in words[1:-1]), line
    mounted = {volume.rsplit(":", 2)[1] if volume.endswith(":ro") else volume.rsplit(":", 1)[1] for volume in service["volumes"]}
    assert mounted == {"/model", "/faq", "/data"}
