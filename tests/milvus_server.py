"""A Milvus server on loopback for tests, of scripts/milvus_server.sh: started, killed with -9, started again."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Server:
    """A server with its data in a directory. uri: its address."""

    def __init__(self, directory):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        self.directory, self.uri = str(directory), f"http://127.0.0.1:{self.port}"

    def _run(self, *words):
        return subprocess.run(["bash", str(ROOT / "scripts/milvus_server.sh"), *words], text=True, capture_output=True,
                              env=os.environ | {"PYTHON": sys.executable}, timeout=400)

    def start(self):
        done = self._run("start", self.directory, str(self.port))
        assert done.returncode == 0 and done.stdout == f"{self.uri}\n", done.stderr

    def stop(self):
        self._run("stop", self.directory)

    def kill(self):
        os.kill(int(Path(self.directory, "server.pid").read_text()), signal.SIGKILL)

    def killed_and_started(self):
        """Kill it now, and start it again beside the caller; returns the thread that does."""
        self.kill()
        thread = threading.Thread(target=self.start)
        thread.start()
        return thread


@contextmanager
def running(directory):
    """Yield a server that was just started; skips where the package cannot be had."""
    venv = Path(os.environ.get("MILVUS_VENV", ROOT / ".venv-milvus"))
    server = Server(directory)
    with open(f"{venv}.lock", "w") as lock:  # several processes of pytest make the environment once
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = server._run("start", server.directory, str(server.port))
    if "could not be installed" in done.stderr and "CI" not in os.environ:
        pytest.skip(f"no Milvus server: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)  # its log of what it does is large
