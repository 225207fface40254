"""A directory in which one hostile command runs: in/ holds its inputs, out/ takes its outputs, tmp/ is its TMPDIR."""

import hashlib
import os
import shutil
import stat
import subprocess
from fnmatch import fnmatch
from pathlib import Path

from forked import DEVNULL, run

from .commands import INPUTS, OUTPUTS

IDLE, TIMEOUT, MEMORY = 3, 60, 8 << 30  # seconds without work, seconds in all, bytes: beyond them a command has failed

# Files that tell the time or a path, or are drawn: not compared.
VARIES = ("*/visualdl/*", "*/result.tsv", "*/manifest.json", "*/training_state.json", "*/training.json", "*/generation.json", "*/collection.json", "*/index.json",
          "*/tokenizer_config.json", "*.png", "*.svg", "*.db/*")


def describe(path):
    """Return what stands at a path: kind, then content, target or device number."""
    status = os.lstat(path)
    if stat.S_ISREG(status.st_mode):
        return "file", hashlib.sha256(path.read_bytes()).hexdigest()
    if stat.S_ISLNK(status.st_mode):
        return "link", os.readlink(path)
    return stat.filemode(status.st_mode)[0], status.st_rdev


def tree(directory):
    """Return what stands at each path below a directory, directories themselves left out."""
    return {str(path.relative_to(directory)): describe(path)
            for root, names, files in os.walk(os.fsencode(directory)) for name in (*names, *files)
            if not (path := Path(os.fsdecode(root), os.fsdecode(name))).is_dir() or path.is_symlink()}


class Sandbox:
    """A command in a directory of its own. What cases.py alters: words (what is typed), env, options (of forked.run).

    guarded: beginnings of paths below which nothing that was there may change, outputs or not.
    """

    def __init__(self, command, material, root):
        self.command, self.root = command, Path(root)
        shutil.rmtree(root, ignore_errors=True)
        for name in ("in", "out", "tmp"):
            os.makedirs(self.root / name)
        names = [slot.word for slot in command.of(*INPUTS, "both") if "/" not in slot.value]
        for name in (*names, *(f"in/{name}" for name in command.needs)):
            source = material / Path(name).name
            if source.is_dir():
                shutil.copytree(source, self.root / name, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy(source, self.root / name)
        self.words = command.words
        self.env = {"TMPDIR": str(self.root / "tmp")}
        self.options = {}
        self.guarded = {"in/"}
        self.given = set(tree(self.root))
        self.mounts = []

    def path(self, slot):
        """Return where an input lies or an output goes, as the ordinary command has it."""
        return self.root / slot.word

    def set(self, slot, word):
        """Type another word in a slot's place."""
        self.words[slot.place] = str(word)

    def add(self, *words):
        """Type more words at the end."""
        self.words.extend(map(str, words))

    def mount(self, path, size):
        """Mount a tiny tmpfs; False where this machine does not allow it."""
        os.makedirs(path, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True)
        self.mounts += [path] * (done.returncode == 0)
        return done.returncode == 0

    def unmount(self):
        """Take the mounted file systems away."""
        while self.mounts:
            subprocess.run(["umount", "-l", str(self.mounts.pop())], capture_output=True, check=False)

    def run(self):
        """Run the command as it stands; returns a CompletedProcess, with returncode None where it hung."""
        options = {"timeout": TIMEOUT, "idle": IDLE, "unbuffered": False, "stdin": DEVNULL} | self.options
        options["limits"] = {"RLIMIT_DATA": MEMORY} | options.get("limits", {})
        try:
            return run(self.words, cwd=self.root, env=self.env, **options)
        except subprocess.TimeoutExpired as error:
            return subprocess.CompletedProcess(self.words, None, error.output or "", error.stderr or "")

    def is_output(self, path):
        """Tell whether a path, relative to the sandbox, is a declared output as it is typed now, or lies in one."""
        for slot in self.command.of(*OUTPUTS):
            word = self.words[slot.place]
            for place in word and (os.path.normpath(word), os.path.relpath(os.path.realpath(self.root / word), self.root.resolve())):
                if path == place or (slot.kind != "out" and (place == "." or path.startswith(place + "/"))):
                    return True
        return False

    def result(self, done):
        """Return what the command made: content by path of output slots, and what it printed where that counts."""
        found = {path: content for path, content in tree(self.root).items() if path not in self.given
                 and self.is_output(path) and not any(fnmatch(path, pattern) for pattern in VARIES)}
        return found | ({"stdout": done.stdout} if self.command.prints else {})

    def remove(self):
        """Remove the directory."""
        self.unmount()
        shutil.rmtree(self.root, ignore_errors=True)
