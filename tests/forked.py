"""Scripts of the project run in forks of one process that has imported paddle: the imports are paid for once.

    from forked import run
    done = run(["recall.py", "--params_path", ...], cwd=directory)  # a subprocess.CompletedProcess with its text

The first call starts a server: a Python that imports numpy, paddle and paddlenlp, computes nothing, and forks for each
command. The child takes the caller's directory, environment, streams and arguments, runs the script as __main__ and ends
as an interpreter does. What a fork cannot show: the imports themselves, a hash seed of its own (children share the
server's), and variables that are read before or while paddle is imported. Where one of those differs from the server's
(READ_EARLY) `run` starts a real process; `fresh=True` asks for one.
"""

import contextlib
import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import fork_server
import forked_python
from fork_server import ROOT

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
PYTHON = "$PYTHON"  # as a word of `shell`
CLOSED = "closed"  # as stdin, stdout or stderr: the command starts without that stream, as after `0<&-`
LIGHT = ("evaluate.py", "generate_recall.py", "keyword_recall.py", "split_data.py")  # no framework: less than a server's start
READ_EARLY = ("ARROW_", "CUDA_", "DNNL_", "FLAGS_", "GLOG_", "HF_", "HOME", "KMP_", "LANG", "LC_", "LD_", "MALLOC_",
              "MKL_", "MPL", "OMP_", "ONEDNN_", "OPENBLAS_", "PADDLE_", "PPNLP_", "PYTHON", "XDG_")
# Set by sklearn and paddlenlp as they are imported, by the server too: a test that imports one must not turn every
# later fork of its process into a real start.
SET_BY_LIBRARIES = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "HF_UPDATE_DOWNLOAD_COUNTS")


def read_early(name):
    """Tell whether a variable is one that is read before or while paddle is imported."""
    return name.startswith(READ_EARLY) and name not in SET_BY_LIBRARIES


class Forked:
    """A command in a fork of the server, with what a subprocess.Popen has: pid, poll, wait, send_signal, kill."""

    def __init__(self, words, connection, died):
        self.args, self.returncode = words, None
        self._connection, self._died, self._rest = connection, died, b""
        self.pid = self._number(None)

    def _number(self, timeout):
        ends = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._rest:
            if ends is not None:
                self._connection.settimeout(max(ends - time.monotonic(), 0.001))
            try:
                received = self._connection.recv(64)
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout) from None
            except ConnectionResetError:
                received = b""
            finally:
                self._connection.settimeout(None)
            if not received:
                self._died()
            self._rest += received
        line, self._rest = self._rest.split(b"\n", 1)
        return int(line)

    def wait(self, timeout=None):
        """Return the status, negative for a signal; raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self.returncode = self._number(timeout)
            self._connection.close()
        return self.returncode

    def poll(self):
        """Return the status, None while the command runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number):
        """Send a signal unless the command has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that forks; it ends with the process that started it."""

    def __init__(self):
        self.env = os.environ | {"OMP_NUM_THREADS": "1"}
        self._lock = threading.Lock()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._folder = tempfile.TemporaryDirectory()
        self.socket = os.path.join(self._folder.name, "socket")
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self.socket)
            listener.listen(64)
            numbers = [other.fileno(), listener.fileno()]
            self._process = subprocess.Popen(
                [sys.executable, fork_server.__file__, *map(str, numbers)], pass_fds=numbers, stdin=DEVNULL,
                stdout=DEVNULL, stderr=self._log, start_new_session=True, env=self.env)
        self.python = os.path.join(self._folder.name, "python")
        with open(self.python, "w") as file:
            # Not as its interpreter: the kernel cuts a long path there.
            file.write(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -SEs {shlex.quote(forked_python.__file__)} "$@"\n')
        os.chmod(self.python, 0o755)

    def known(self):
        """Return what forked_python.py must know."""
        early = {name: value for name, value in self.env.items() if read_early(name)}
        return {"real": sys.executable, "python": self.python, "root": str(ROOT), "socket": self.socket, "early": early,
                "prefixes": READ_EARLY, "passed": SET_BY_LIBRARIES}

    def _died(self):
        status = self._process.wait(10)
        self._log.seek(0)
        raise RuntimeError(f"the server of tests/forked.py ended with status {status}: {self._log.read().decode(errors='replace')[-2000:]}")

    def start(self, words, env, cwd, streams, unbuffered, limits):
        """Start a command. streams: open files by number. Returns a Forked."""
        request = json.dumps({"words": words, "env": env, "cwd": cwd, "streams": list(streams),
                              "unbuffered": unbuffered, "limits": limits}).encode()
        ours, theirs = socket.socketpair()
        try:
            with theirs, self._lock:
                socket.send_fds(self._control, [b"."], [theirs.fileno(), *streams.values()])
                ours.sendall(struct.pack("!I", len(request)) + request)
        except (BrokenPipeError, ConnectionResetError):
            self._died()
        return Forked(words, ours, self._died)

    def reads_early(self, env):
        """Tell whether an environment differs from the server's in what only a start can read."""
        return any(env.get(name) != self.env.get(name) for name in {*env, *self.env} if read_early(name))


_server = None
_starting = threading.Lock()


def server():
    """Return this process's server, started by the first call."""
    global _server
    with _starting:
        if _server is None:
            _server = Server()
    return _server


def start(words, cwd=None, env=None, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, unbuffered=True, limits=None,
          fresh=None):
    """Start a script in the background.

    words: the script, from the root of the project, and its arguments. env: what differs from this process's, None for
    a name that is to be missing. stdin, stdout, stderr: a file, its number, DEVNULL or CLOSED. unbuffered: as
    `python -u`. limits: of resources, as {"RLIMIT_FSIZE": bytes}. fresh: True for a real process, False for a fork
    whatever env says; None: a fork where it can show the same. Returns a Forked or a subprocess.Popen.
    """
    script, words = ROOT / str(words[0]), [str(ROOT / str(words[0])), *map(str, words[1:])]
    changed = {"OMP_NUM_THREADS": "1"} | (env or {})
    env = {name: str(value) for name, value in (os.environ | changed).items() if value is not None}
    cwd = os.path.abspath(cwd or os.getcwd())
    with contextlib.ExitStack() as stack:
        streams = {}
        for number, stream in enumerate((stdin, stdout, stderr)):
            if stream == DEVNULL:
                stream = stack.enter_context(open(os.devnull, "rb" if number == 0 else "wb"))
            if stream != CLOSED:
                streams[number] = stream if isinstance(stream, int) else stream.fileno()
        if fresh is None:
            fresh = _server is None and script.name in LIGHT or server().reads_early(env)
        if not fresh:
            return server().start(words, env, cwd, streams, unbuffered, limits or {})

        def prepare():
            for number in {0, 1, 2} - set(streams):
                os.close(number)
            fork_server.limit(limits or {})

        return subprocess.Popen(
            [sys.executable, *["-u"] * unbuffered, *words], cwd=cwd, env=env, start_new_session=True,
            preexec_fn=prepare, stdin=streams.get(0), stdout=streams.get(1), stderr=streams.get(2))


def python_env():
    """Return the variables that make forked_python.py the `python` and the $PYTHON of a shell."""
    path = f"{os.path.dirname(server().python)}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    return {"PATH": path, "PYTHON": server().python, "FORKED": json.dumps(server().known()), "OMP_NUM_THREADS": "1"}


def shell(words, cwd=None, env=None, timeout=900):
    """Run words whose `python` is forked_python.py; returns a CompletedProcess with its text. env: what is added."""
    return subprocess.run([server().python if word == PYTHON else str(word) for word in words], cwd=cwd, text=True,
                          env=os.environ | python_env() | (env or {}), capture_output=True, timeout=timeout)


def is_idle(pid, ticks):
    """Tell whether a process sleeps and has used no more than these ticks of processor time; returns its ticks too."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False, 0
    used = int(fields[11]) + int(fields[12])
    return fields[0] == "S" and used <= ticks, used


def wait(process, timeout, idle):
    """Wait for a process; raises subprocess.TimeoutExpired after timeout seconds, or idle seconds without any work."""
    ends, ticks, since = time.monotonic() + timeout, 0, time.monotonic()
    while True:
        now = time.monotonic()
        try:
            return process.wait(ends - now if idle is None else max(0, min(idle / 8, ends - now)))
        except subprocess.TimeoutExpired as error:
            still, ticks = is_idle(process.pid, ticks)
            since = since if still else now
            if now >= ends or (idle is not None and now - since >= idle):
                raise subprocess.TimeoutExpired(error.cmd, timeout if now >= ends else idle) from None


def run(words, cwd=None, env=None, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, timeout=300, idle=None, input=None, **options):
    """Run a script to its end, its output caught as text unless stdout or stderr say otherwise; options: see start.

    input: text or bytes for standard input. Returns a subprocess.CompletedProcess. Raises subprocess.TimeoutExpired
    after `timeout` seconds, or `idle` seconds in which it did nothing, with it and all that it started killed.
    """
    caught, threads, kept = [b"", b"", b""], [], []

    def drain(number, fd):
        with open(fd, "rb") as file:
            caught[number] = file.read()

    def feed(fd):
        with contextlib.suppress(BrokenPipeError), open(fd, "wb") as file:
            file.write(input.encode() if isinstance(input, str) else input)

    if input is not None:
        stdin, writing = os.pipe()
        kept.append(stdin)
        threads.append(threading.Thread(target=feed, args=[writing], daemon=True))
    ends = [stdin, stdout, stderr]
    for number in (1, 2):
        if ends[number] == PIPE:
            reading, ends[number] = os.pipe()
            kept.append(ends[number])
            threads.append(threading.Thread(target=drain, args=[number, reading], daemon=True))
    try:
        process = start(words, cwd, env, *ends, **options)
    finally:
        for fd in kept:
            os.close(fd)
        for thread in threads:
            thread.start()
    late = None
    try:
        wait(process, timeout, idle)
    except subprocess.TimeoutExpired as error:
        late = error
    with contextlib.suppress(ProcessLookupError):  # what it started and left, or all of it where it is late
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for thread in threads:
        thread.join(10)
    out, err = (text.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
                if ends[number] in kept else None for number, text in enumerate(caught) if number)
    if late:
        raise subprocess.TimeoutExpired(process.args, late.timeout, out, err)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
