"""What must hold after a hostile command, in general terms. Each function returns what is wrong, '' where nothing is."""

import re

# What a case expects beside the rules that hold for all: no traceback, no signal, no hang, nothing lost, nothing left.
ERROR = "error"    # status 2
SAME = "same"      # status 0 and the ordinary result
EITHER = "either"  # one of the two
SOUND = "sound"    # status 2, or status 0 with any result


def of_status(done, expect):
    """Judge the status and standard error."""
    said = done.stderr.strip().splitlines() if done.stderr else []
    last = said[-1][:160] if said else ""
    if done.returncode is None and last.startswith("waiting for "):
        return ""  # whoever sees it knows why: a pipe's other side may come yet
    if done.returncode is None:
        return f"hangs (said last: {last})"
    if done.returncode < 0 or done.returncode >= 129:
        return f"signal, status {done.returncode} ({last})"
    if done.stderr and "Traceback (most recent call last)" in done.stderr:
        return f"traceback: {last}"
    if done.returncode == 0:
        return "status 0 where an error is due" if expect == ERROR else ""
    if done.returncode != 2:
        return f"status {done.returncode} ({last})"
    if expect == SAME:
        return f"refused: {last}"
    if done.stderr is not None:
        errors = [line for line in said if line.startswith("error: ")]
        if len(errors) != 1 or said[-1] != errors[0]:
            return f"status 2, but {len(errors)} lines `error: ...`, last line: {last}"
        if re.search(r"Errno|object at 0x|<class|Error\(|std::", errors[0]):
            return f"an error of the machinery's: {last}"
    return ""


def of_files(box, before, after, failed):
    """Judge what became of the files: on an error nothing may change, else only the declared outputs."""
    # A database of Milvus Lite is no file that is written as a whole: rows come and go in it, also of a run that fails.
    before, after = ({path: content for path, content in some.items() if not (".db/" in path and box.is_output(path))}
                     for some in (before, after))
    for path, content in before.items():
        if path not in after:
            if failed or not box.is_output(path) or path.startswith(tuple(box.guarded)):
                return f"{path} is gone"
            continue
        if after[path] != content and (failed or not box.is_output(path) or path.startswith(tuple(box.guarded))):
            return f"{path} was overwritten"
        if after[path][0] != content[0]:
            return f"{path} was a {content[0]}, is a {after[path][0]}"
    left = [path for path in after if path not in before and (failed or not box.is_output(path))
            and not ("/visualdl/" in path and box.is_output(path))  # the log of a training may tell of its failure
            and not path.startswith(("home/", "tmp/semindex-home-"))]  # caches of libraries, at home or instead of it
    return f"left {', '.join(sorted(left)[:3])}" if left else ""


def of_result(result, ordinary):
    """Judge the result against the ordinary one."""
    for name, content in ordinary.items():
        if result.get(name) != content:
            return f"another result: {name}" if name in result else f"status 0 without {name}"
    return ""


def judge(box, done, before, after, expect, ordinary):
    """Return what is wrong with a finished command, '' where nothing is."""
    if done.returncode is None:  # killed: what it left, its next run removes
        return of_status(done, expect)
    failed = done.returncode != 0
    wrong = of_status(done, expect) or of_files(box, before, after, failed)
    if not wrong and not failed and expect in (SAME, EITHER):
        wrong = of_result(box.result(done), ordinary)
    return wrong
