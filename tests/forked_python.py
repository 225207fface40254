"""A `python` for shells and launchers: what it is to run goes to the server of forked.py, where a fork can show the same.

The project's scripts and paddle.distributed.launch run in forks, all else in the real Python. It stands for the fork: it
hands on the signals it gets and ends as the fork does; if it is killed, so is the fork.
"""

import json
import os
import signal
import socket
import struct
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
LAUNCH = ["-m", "paddle.distributed.launch"]


def told_by_a_launcher(name):
    """Tell whether a launcher tells its workers a variable, which is read once they run."""
    return name.startswith("PADDLE_") and os.environ.get("PADDLE_DISTRI_BACKEND") == "gloo"


def words_of(given, known):
    """Return (the words to run, whether unbuffered); no words where it takes a real process."""
    unbuffered = given[:1] == ["-u"]
    words = given[unbuffered:]
    for name in {*os.environ, *known["early"]}:
        if name.startswith(tuple(known["prefixes"])) and name not in ("PYTHON", *known["passed"]) and not told_by_a_launcher(name) \
                and os.environ.get(name) != known["early"].get(name):
            return [], unbuffered
    if words[:2] == LAUNCH:
        return words, unbuffered
    path = os.path.realpath(words[0]) if words else ""
    ours = path.endswith(".py") and path.startswith(known["root"] + os.sep)
    return [path, *words[1:]] if ours else [], unbuffered


def main():
    """Run it; end as it does."""
    known = json.loads(os.environ["FORKED"])
    words, unbuffered = words_of(sys.argv[1:], known)
    if not words:
        os.execv(known["real"], [known["real"], *sys.argv[1:]])
    streams = [number for number in (0, 1, 2) if is_open(number)]
    env = dict(os.environ)
    request = json.dumps({"words": words, "env": env, "cwd": os.getcwd(), "streams": streams, "unbuffered": unbuffered,
                          "limits": {}, "executable": known["python"]}).encode()
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.connect(known["socket"])
    ours, theirs = socket.socketpair()
    # Held back until there is a fork to hand them to.
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    socket.send_fds(control, [b"."], [theirs.fileno(), *streams])
    theirs.close()
    ours.sendall(struct.pack("!I", len(request)) + request)
    lines = ours.makefile("r")
    pid = int(lines.readline())
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    status = int(lines.readline())
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status if status >= 0 else 128 - status)


def is_open(number):
    """Tell whether a descriptor is open."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
