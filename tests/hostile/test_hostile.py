"""The part of the hostile cases that CI runs: each kind of case somewhere, each script with each kind."""

from fnmatch import fnmatchcase

import pytest
from forked import ROOT, run

from .commands import KINDS, TABLE
from .known import KNOWN, known
from .material import make
from .runner import Runner, cases, choose
from .sandbox import Sandbox

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def material(tmp_path_factory, request):
    """The tiny data and artefacts, made once for all test processes."""
    parallel = hasattr(request.config, "workerinput")
    base = tmp_path_factory.getbasetemp()
    return make((base.parent if parallel else base) / "hostile-material")


@pytest.fixture(scope="session")
def runner(material):
    """One for all: it keeps the ordinary results."""
    made = Runner(material)
    yield made
    made.close()


@pytest.mark.parametrize("script", [command.name for command in TABLE])
def test_hostile_cases_hold(script, material, runner):
    """What is known to fail fails: a mend removes its line from known.py."""
    wrong = []
    for verdict in runner.all(case for case in choose(cases(material)) if case.command.name == script):
        name, pattern = verdict.case.name, known(verdict.case.name)
        if verdict.wrong and not pattern:
            wrong.append(f"{name}: {verdict.wrong}\n    {verdict.typed}")
        if pattern and not verdict.wrong and not verdict.skipped:
            wrong.append(f"{name} holds now: narrow or remove {pattern} (fault {KNOWN[pattern]}) in tests/hostile/known.py")
    assert not wrong, "\n".join(wrong)


def test_every_script_is_in_the_table():
    scripts = {path.name for path in ROOT.glob("*.py") if "cli.run(main)" in path.read_text()}
    assert scripts <= {command.words[0] for command in TABLE}


def test_flags_of_the_table_are_flags(material):
    """A flag that was renamed would be refused in every case, and nothing would be tried."""
    helps = {script: run([script, "--help"]).stdout for script in {command.words[0] for command in TABLE}}
    for command in TABLE:
        for flag in (*command.whole.split(), *command.real.split(), *(slot.flag for slot in command.slots)):
            assert flag in helps[command.words[0]], f"{command.words[0]} {flag}"


def test_known_failures_are_cases(material):
    names = [case.name for case in cases(material)]
    assert not [pattern for pattern in KNOWN if not any(fnmatchcase(name, pattern) for name in names)]
    assert all(slot.kind in KINDS for command in TABLE for slot in command.slots)


@pytest.mark.parametrize("command", [command for command in TABLE if not command.paddle], ids=lambda command: command.name)
def test_scripts_without_paddle_run_where_there_is_none(command, material, tmp_path):
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "paddle.py").write_text("raise ImportError('there is no paddle here')")
    box = Sandbox(command, material, tmp_path / "box")
    box.env["PYTHONPATH"] = str(tmp_path / "shadow")
    done = box.run()
    assert done.returncode == 0, done.stderr
