"""Run hostile cases by hand: python -m tests.hostile [--script NAME] [--case NAME] [--jobs 2]."""

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

from . import known
from .material import make
from .runner import Runner, cases, choose


def main():
    """Run, print failures and counts; status 1 where something new fails or a known failure has been mended."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--script", default="*", help="cases of this one, or of a pattern")
    parser.add_argument("--case", default="*", help="cases whose name (SCRIPT/KIND/VARIANT) holds this, or fits the pattern")
    parser.add_argument("--jobs", type=int, default=2, help="at once [2]")
    parser.add_argument("--quick", action="store_true", help="only the part that CI runs")
    parser.add_argument("--fast", action="store_true", help="without the cases that wait, race or start a Python of their own")
    parser.add_argument("--list", action="store_true", help="name the cases, run none")
    parser.add_argument("--known", action="store_true", help="print the lines of known.py as they should be after this run")
    parser.add_argument("--brief", action="store_true", help="do not print known failures")
    parser.add_argument("--material", type=Path, help="keep the tiny data there and use it again")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    material = make(args.material or Path(tempfile.mkdtemp(prefix="hostile-")))
    found = cases(material, args.script, args.case)
    found = choose(found) if args.quick else found
    found = [case for case in found if not (args.fast and case.slow)]
    if args.list:
        print("\n".join(case.name for case in found))
        return 0
    runner, failed, held = Runner(material), {}, set()
    counts = {"held": 0, "known": 0, "new": 0, "mended": 0, "not tried": 0}
    for verdict in runner.all(found, args.jobs):
        name = verdict.case.name
        pattern = known.known(name)
        if verdict.skipped:
            counts["not tried"] += 1
            continue
        if verdict.wrong:
            failed[name] = verdict.wrong
        else:
            held.add(name)
        outcome = ("known" if pattern else "new") if verdict.wrong else ("mended" if pattern else "held")
        if known.racy(name) and outcome in ("new", "mended"):
            outcome = "known" if verdict.wrong else "held"
        counts[outcome] += 1
        if outcome != "held" and not (args.brief and outcome == "known"):
            print(report(outcome, pattern, verdict), flush=True)
    runner.close()
    if args.known:
        failed = {name for name in failed if not known.racy(name)}
        print("\n".join(f'    "{pattern}": "{known.fault(pattern)}",' for pattern in known.compress(failed, held)))
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return 1 if counts["new"] or counts["mended"] else 0


def report(outcome, pattern, verdict):
    """Return two lines: what is wrong, and the command as it was typed."""
    number = f"fault {known.KNOWN[pattern]}" if pattern else ""
    text = f"{outcome:<8}{number:<9}{verdict.case.name}: {verdict.wrong or pattern}\n    {shlex.join(verdict.typed)}"
    return text.encode(errors="backslashreplace").decode()


if __name__ == "__main__":
    sys.exit(main())
