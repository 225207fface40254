"""A service for tests: a small encoder, its FAQ, and the server as a process on loopback."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Server:
    """deploy/service/serve.py on a free port; .ask(method, path, body) returns (status, content, headers)."""

    def __init__(self, *flags, env=None):
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115, a pipe that nobody reads would fill
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "deploy" / "service" / "serve.py"), "--port", "0", "--cpu_threads", "1", *map(str, flags)],
            stdout=subprocess.PIPE, stderr=self.log, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}))
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://"), self.logged()

    def ask(self, method, path, body=None, headers=None, raw=None):
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        kind = {} if data is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, kind | (headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, _content(answer.read()), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, _content(error.read()), error.headers

    def ready(self):
        while True:  # bounded by the test's own timeout
            assert self.process.poll() is None, self.logged()
            with contextlib.suppress(OSError):
                if self.ask("GET", "/ready")[0] == 200:
                    return self
            time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(60), self.logged()

    def logged(self):
        """What it has written to standard error."""
        return os.pread(self.log.fileno(), 1 << 30, 0).decode()


def _content(raw):
    text = raw.decode("utf-8")
    try:
        return json.loads(text)
    except ValueError:
        return text


@contextlib.contextmanager
def running(*flags, env=None):
    server = Server(*flags, env=env)
    try:
        yield server.ready()
    finally:
        if server.process.poll() is None:
            server.kill()
