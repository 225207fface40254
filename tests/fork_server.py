"""The server of forked.py: imports what is slow to import, and forks for each command.

A request comes through a socket as four descriptors at most: a connection for this request, then the command's standard
streams. The connection carries the request (JSON after its length) one way, the process's number and later its status
the other way, a line each. forked_python.py asks at a socket with a name; if it goes first, its fork is killed.
"""

import atexit
import contextlib
import gc
import io
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import struct
import sys
import tempfile
import threading
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def import_libraries():
    """Import what is slow to import, as the scripts do, but none of the project's modules."""
    sys.path[0] = str(ROOT)
    with contextlib.suppress(ImportError):  # what must be set before paddle is imported
        from semindex.environment import prepare_environment
        prepare_environment()
        import models  # noqa: F401
    import hnswlib  # noqa: F401
    import numpy  # noqa: F401
    import paddle
    import paddle.inference  # noqa: F401
    import paddlenlp.transformers  # noqa: F401
    import scipy.sparse
    import scipy.stats  # noqa: F401
    import tokenizers  # noqa: F401
    with contextlib.suppress(ImportError):  # of some scripts alone
        import ir_measures  # noqa: F401
        import jieba  # noqa: F401
        import matplotlib
        import sklearn.cluster
        import sklearn.manifold  # noqa: F401
        import visualdl  # noqa: F401
        matplotlib.use("Agg")
        import matplotlib.pyplot
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name != "__main__" and file and Path(file).is_relative_to(ROOT) \
                and not Path(file).is_relative_to(sys.prefix):  # the environment may lie within the project
            del sys.modules[name]


def tell(connection, text):
    """Send a line to the client, who may be gone."""
    with contextlib.suppress(OSError):
        connection.sendall(text.encode() + b"\n")


def receive(control):
    """Return a request, its connection and its streams by number; None at the end."""
    message, fds, _, _ = socket.recv_fds(control, 1, 4)
    if not message:
        return None
    connection = socket.socket(fileno=fds[0])
    with connection.makefile("rb") as file:
        request = json.loads(file.read(struct.unpack("!I", file.read(4))[0]))
    return request, connection, dict(zip(request["streams"], fds[1:]))


def asked_at(listener):
    """Return a request, its connection and its streams, of one that has just connected; None where it has gone again."""
    with listener.accept()[0] as other:
        try:
            return receive(other)
        except (OSError, struct.error, IndexError):
            return None


def serve(control, listener):
    """Fork for each request. Returns the request and its streams in the child, None where the client is gone."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children, watched = {}, {}
    with selectors.DefaultSelector() as selector:
        for one in (control, listener, woken):
            selector.register(one, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            for connection in [one for one in ready if one in watched]:
                selector.unregister(connection)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(watched.pop(connection), signal.SIGKILL)
            if woken in ready:
                os.read(woken, 4096)
                for pid in list(children):
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        connection = children.pop(pid)
                        if watched.pop(connection, None):
                            selector.unregister(connection)
                        tell(connection, str(os.waitstatus_to_exitcode(status)))
                        connection.close()
            if control in ready:
                received = receive(control)
                if received is None:
                    break
            elif listener not in ready or not (received := asked_at(listener)):
                continue
            request, connection, streams = received
            pid = os.fork()
            if pid == 0:
                for other in (*children.values(), connection, control, listener):
                    other.close()
                selector.close()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(woken)
                os.close(wake)
                return request, streams
            for fd in streams.values():
                os.close(fd)
            children[pid] = connection
            if "executable" in request:
                watched[connection] = pid
                selector.register(connection, selectors.EVENT_READ)
            tell(connection, str(pid))
    for pid in children:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    return None


def open_stream(old, number, name, mode, unbuffered):
    """Return a standard stream as an interpreter makes it at its start, names and all."""
    raw = io.FileIO(number, mode, closefd=False)
    raw.name = f"<{name}>"
    if mode == "r":
        stream = io.TextIOWrapper(io.BufferedReader(raw), old.encoding, old.errors)
    else:
        stream = io.TextIOWrapper(raw if unbuffered else io.BufferedWriter(raw), old.encoding, old.errors, "\n",
                                  write_through=unbuffered, line_buffering=number == 2)
    stream.mode = mode
    return stream


def become(request, streams):
    """Give this fork the directory, environment, streams and arguments of a request."""
    os.setsid()
    for number in (0, 1, 2):
        if number in streams:
            os.dup2(streams[number], number)
            os.close(streams[number])
        else:
            os.close(number)
    names = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
    for number, (name, mode) in enumerate(names):
        stream = open_stream(getattr(sys, f"__{name}__"), number, name, mode, request["unbuffered"]) \
            if number in streams else None
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    limit(request["limits"])
    sys.argv = request["words"]
    sys.path[0] = os.path.dirname(request["words"][0])
    tempfile.tempdir = None
    sys.modules["numpy"].random.seed()


def limit(limits):
    """Set resource limits by name."""
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))


def run_main():
    """Run what sys.argv names as __main__."""
    if sys.argv[0] == "-m":
        module, sys.argv = sys.argv[1], sys.argv[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


def end_quickly(run):
    """Run, then end as an interpreter does but for taking its modules apart, which copies every page of them: 0.4 s.

    Threads are waited for, exit functions run, streams flushed. What goes wrong there, an exception that nobody caught
    and a status that is no number are left to the interpreter's own end.
    """
    status = 0
    try:
        run()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        status = end.code or 0
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream and not stream.closed:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(status)
    os._exit(status & 0xFF)


if __name__ == "__main__":
    filters = warnings.filters[:]
    import_libraries()
    gc.collect()
    gc.freeze()  # a child's collector would touch, and so copy, all of it
    asked = serve(*(socket.socket(fileno=int(number)) for number in sys.argv[1:]))
    if asked:
        warnings.filters[:] = filters
        become(*asked)
        sys.executable = asked[0].get("executable", sys.executable)  # what it starts are forks too
        end_quickly(run_main)
