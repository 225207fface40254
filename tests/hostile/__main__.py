"""Run hostile cases by hand: python -m tests.hostile [--script NAME] [--case NAME] [--jobs 2]."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from .known import KNOWN
from .material import make
from .runner import Runner, cases, choose


def main():
    """Run, print failures and counts; status 1 where something new fails or a known failure has been mended."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--script", default="*", help="cases of this one, or of a pattern")
    parser.add_argument("--case", default="*", help="cases whose name (SCRIPT/KIND/VARIANT) holds this, or fits the pattern")
    parser.add_argument("--jobs", type=int, default=2, help="at once [2]")
    parser.add_argument("--quick", action="store_true", help="only the part that CI runs")
    parser.add_argument("--list", action="store_true", help="name the cases, run none")
    parser.add_argument("--known", action="store_true", help="print known.py as it should be after this run")
    parser.add_argument("--material", type=Path, help="keep the tiny data there and use it again")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    material = make(args.material or Path(tempfile.mkdtemp(prefix="hostile-")))
    found = cases(material, args.script, args.case)
    found = choose(found) if args.quick else found
    if args.list:
        print("\n".join(case.name for case in found))
        return 0
    runner, failed, counts = Runner(material), {}, {"held": 0, "known": 0, "new": 0, "mended": 0, "not tried": 0}
    for verdict in runner.all(found, args.jobs):
        name = verdict.case.name
        known = KNOWN.get(name)
        if verdict.skipped:
            counts["not tried"] += 1
            continue
        outcome = ("known" if known else "new") if verdict.wrong else ("mended" if known else "held")
        counts[outcome] += 1
        if verdict.wrong:
            failed[name] = verdict.wrong
        if outcome != "held":
            print(f"{outcome:<7}{known or '':<4}{name}: {verdict.wrong}\n           "
                  f"{' '.join(word if word else repr(word) for word in verdict.typed)}".encode(errors="replace").decode(), flush=True)
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    runner.close()
    return 1 if counts["new"] or counts["mended"] else 0


if __name__ == "__main__":
    sys.exit(main())
