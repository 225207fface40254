"""A script in a fork of the server does what it does in a process of its own."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from forked import CLOSED, run, server, start

PROBE = """
import atexit, json, os, sys
atexit.register(lambda: os.write(2, b"atexit\\n"))
print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), "path": sys.path[0], "name": __name__, "env": os.environ.get("X"),
    "gone": os.environ.get("TERM"), "file": __file__, "in": sys.stdin and sys.stdin.read(), "session": os.getsid(0) == os.getpid(),
    "names": [s and [s.name, s.mode, type(s.buffer).__name__] for s in (sys.stdin, sys.stdout, sys.stderr)],
    "out": [sys.stdout.encoding, sys.stdout.errors], "err": [sys.stderr.encoding, sys.stderr.errors]}))
"""

pytestmark = pytest.mark.slow


def script(tmp_path, text):
    (tmp_path / "script.py").write_text(text)
    return tmp_path / "script.py"


@pytest.mark.parametrize("options", [{"input": "卡\n"}, {"stdin": CLOSED}, {}])
def test_a_fork_sees_what_a_process_sees(tmp_path, options):
    words = [script(tmp_path, PROBE), "--text", "卡丢了", "\udcff", ""]
    one, other = (run(words, cwd=tmp_path, env={"X": "1", "TERM": None}, fresh=fresh, **options) for fresh in (False, True))
    assert json.loads(one.stdout) == json.loads(other.stdout) and json.loads(one.stdout)["argv"][1:] == ["卡丢了", "\udcff", ""]
    assert (one.stderr, one.returncode, one.args[-4:]) == (other.stderr, 0, other.args[-4:])


@pytest.mark.parametrize("text", [
    "import sys; sys.exit(2)", "raise SystemExit('bye')", "1/0", "import os; os._exit(7)", "import os; os.abort()",
    "print('a' * 100000)", "import os; os.kill(os.getpid(), 9)", "open('x', 'wb', 0).write(bytes(100)); print(open('x', 'rb').seek(0, 2))",
    "f = open('y', 'wb', 0)\nfor _ in range(3): f.write(bytes(50))"])
def test_a_fork_ends_as_a_process_ends(tmp_path, text):
    one, other = (run([script(tmp_path, text)], cwd=tmp_path, fresh=fresh, limits={"RLIMIT_FSIZE": 100}) for fresh in (False, True))
    last = [done.stderr.splitlines()[-1:] for done in (one, other)]
    assert (one.returncode, one.stdout, last[0]) == (other.returncode, other.stdout, last[1])


@pytest.mark.parametrize("fresh", [False, True])
def test_a_late_command_is_killed_with_what_it_started(tmp_path, fresh):
    words = [script(tmp_path, "import os, time\nchild = os.fork()\nif child: print(child, flush=True)\ntime.sleep(60)")]
    with pytest.raises(subprocess.TimeoutExpired) as error:
        run(words, fresh=fresh, idle=1)
    state = Path(f"/proc/{int(error.value.output)}/stat")
    while state.exists() and state.read_text().split()[2] != "Z":  # killed, and perhaps nobody's to bury
        time.sleep(0.05)


def test_an_idle_command_is_late_and_a_working_one_is_not(tmp_path):
    with pytest.raises(subprocess.TimeoutExpired) as error:
        run([script(tmp_path, "print('asleep', flush=True)\nimport time\ntime.sleep(60)")], idle=1)
    assert error.value.output == "asleep\n" and error.value.timeout == 1
    assert run([script(tmp_path, "import time\nwhile time.process_time() < 2: pass")], idle=1).returncode == 0


def test_commands_in_the_background_end_in_any_order(tmp_path):
    words = [script(tmp_path, "import sys, time\ntime.sleep(60)")]
    first, second = start(words), start(words)
    assert first.poll() is None and first.pid != second.pid
    second.send_signal(signal.SIGTERM)
    assert second.wait(10) == -signal.SIGTERM and first.poll() is None
    first.kill()
    assert first.wait(10) == -signal.SIGKILL and first.poll() == -signal.SIGKILL


def test_what_a_test_imports_does_not_end_the_forks(tmp_path):
    """One of them did: every later script of that test process took a start of its own, seconds instead of a tenth."""
    import paddlenlp.transformers  # noqa: F401
    import pymilvus  # noqa: F401
    import sklearn.cluster  # noqa: F401
    assert run([script(tmp_path, "import sys; print('paddle' in sys.modules)")]).stdout == "True\n"


def test_what_is_read_early_takes_a_process(tmp_path):
    words = [script(tmp_path, "import sys; print('paddle' in sys.modules)")]
    assert run(words).stdout == "True\n"
    for env in ({"HOME": "/nowhere"}, {"OMP_NUM_THREADS": "2"}, {"PYTHONHASHSEED": "1"}):
        assert run(words, env=env).stdout == "False\n"


def test_the_server_has_none_of_the_projects_modules(tmp_path):
    text = "import sys\nprint([n for n, m in sys.modules.items() if (getattr(m, '__file__', '') or '').startswith(sys.argv[1]) and 'site-packages' not in m.__file__])"
    assert run([script(tmp_path, text), os.path.dirname(os.path.dirname(__file__))]).stdout in ("['__main__']\n", "[]\n")


def test_a_server_that_is_gone_is_told(monkeypatch, tmp_path):
    other = type(server())()
    monkeypatch.setattr("forked._server", other)
    other._process.kill()
    other._process.wait()
    with pytest.raises(RuntimeError, match="ended with status -9"):
        run([script(tmp_path, "")], fresh=False)
