"""What is known to fail, by pattern of SCRIPT/KIND/VARIANT, with the fault's number in the issue, or new.

Every case that a pattern fits must fail: a mend narrows or removes the line. `python -m tests.hostile --known` prints the
table as it is after a run over everything. RACY cases fail at some times only: they are listed, never insisted on.
"""

from fnmatch import fnmatchcase

RACY = ("*/interrupted/*",)
KNOWN: dict[str, str] = {
}


def known(name):
    """Return the pattern that fits a case, None where it is to hold."""
    return next((pattern for pattern in KNOWN if fnmatchcase(name, pattern)), None)


def racy(name):
    """Tell whether a case may hold and fail by turns."""
    return any(fnmatchcase(name, pattern) for pattern in RACY)


# Where a failure belongs when it is entered: the first that fits.
FAULTS = {
    "*/contents/labels*": "29", "*/contents/*zero_column": "10", "*/contents/weights*": "6", "*/contents/optimizer*": "6",
    "*/contents/blank*": "15", "*/contents/four*": "15", "*/contents/metrics*": "20", "*/contents/grades*": "20",
    "*/texts/*-pipe": "30", "*-pipe": "30", "*/texts/*dash*": "21", "*/over_inputs/*": "19", "*/output_files/*full": "22",
    "*/output_files/*-null": "27", "*/output_files/*-link": "12", "*/output_files/*-gz": "30", "*/output_files/*": "27",
    "*-neighbours": "2", "*/output_directories/*": "27", "*/numbers/*": "20", "*/arguments/*": "21",
    "*/streams/reader*": "14", "*/streams/stdout_full": "14", "*/streams/*": "21", "*/surroundings/home*": "26",
    "*/surroundings/*": "23", "*/no_room/*": "30", "*/altered/*": "24", "*/settings/*": "25", "*/interrupted/twice*": "28",
    "*/interrupted/*": "30", "*": "new"}


def fault(name):
    """Return the number of the fault that a new failure is likely to belong to."""
    return next(number for pattern, number in FAULTS.items() if fnmatchcase(name, pattern))


def generalisations(name):
    """Return patterns that fit a case: of its kind, in its script or all."""
    script, kind, variant = name.split("/", 2)
    parts = variant.split("-")
    first, last = parts[0], parts[-1]
    middle = "-".join(parts[:2])
    tails = [f"*-{last}", f"{first}-*", f"{middle}-*", f"{first}-*-{last}", variant]
    patterns = [f"{where}/{kind}/{tail}" for where in ("*", script) for tail in ("*", *tails)]
    return [pattern for pattern in patterns if fnmatchcase(name, pattern)]


def compress(failed, held):
    """Return patterns that fit all that failed and nothing that held, as few as a greedy choice finds."""
    candidates = {}
    for name in failed:
        for pattern in generalisations(name):
            candidates.setdefault(pattern, set()).add(name)
    usable = {pattern: names for pattern, names in candidates.items()
              if not any(fnmatchcase(name, pattern) for name in held)}
    left, chosen = set(failed), []
    while left:
        best = max(usable, key=lambda pattern: (len(usable[pattern] & left), -len(pattern)))
        if not usable[best] & left:
            break
        chosen.append(best)
        left -= usable[best]
    return sorted(chosen) + sorted(left)
