"""The directories of a training run: whole or absent, latest and best, what a resume needs."""

import json
import os
import re
import shutil
from typing import Any

import paddle

from models import loading
from models.heads.head import Head
from models.semantic_index import SemanticIndex
from semindex import manifest
from semindex.directories import atomic_directory, remove_directory
from semindex.environment import probe
from semindex.errors import UserError
from semindex.locks import own_path, remove_left_over
from semindex.text.tokenizer import TextTokenizer

RECORD = "training.json"  # how the weights came to be, for people; it stays where a newer checkpoint is there
STATE, OPTIMIZER, HEAD, SCALER = "training_state.json", "optimizer.pdopt", "head.pdparams", "loss_scaler"
LOG = "visualdl"  # curves of the training, in its directory


class Checkpoints:
    """Checkpoints model_STEP below a directory, with the links `latest` and `best`. For rank 0."""

    def __init__(self, save_dir: str, keep: int = 0) -> None:
        self.save_dir, self.keep = save_dir, keep

    def check(self, resume: bool, overwrite: bool) -> None:
        """Refuse to mix two runs, and a directory that cannot be written. Changes nothing, so that it may come first.

        Raises UserError.
        """
        try:
            probe(self.save_dir)
            steps = self.steps()
        except OSError as error:
            raise UserError(f"--save_dir {self.save_dir}: cannot be written ({error.strerror})") from None
        if steps and not (resume or overwrite):
            raise UserError(f"--save_dir {self.save_dir}: holds checkpoints of an earlier run (model_{steps[-1]}); "
                            "--resume goes on with it, --overwrite removes it")

    def prepare(self, resume: bool, overwrite: bool, size: int = 0) -> None:
        """Make the directory and see that a checkpoint can be written; with overwrite, remove an earlier run's.

        size: bytes of a checkpoint. Raises UserError where there is no room for one, and as check() does.
        """
        self.check(resume, overwrite)
        os.makedirs(self.save_dir, exist_ok=True)
        steps = self.steps()
        free = shutil.disk_usage(self.save_dir).free
        if free < size and not (steps and overwrite):  # hours later it would be too late
            raise UserError(f"--save_dir {self.save_dir}: a checkpoint takes {size / 1e6:.0f} MB, and "
                            f"{free / 1e6:.0f} MB are free there; make room, or name another directory")
        if overwrite:
            for link in ("latest", "best"):
                if os.path.islink(os.path.join(self.save_dir, link)):
                    os.unlink(os.path.join(self.save_dir, link))
            for step in steps:
                remove_directory(self.path(step), "checkpoint", loading.older_files)
            self._remove_log()

    def _remove_log(self) -> None:
        """Remove the curves of an earlier run: VisualDL's own files alone."""
        log = os.path.join(self.save_dir, LOG)
        for name in os.listdir(log) if os.path.isdir(log) else []:
            if re.fullmatch(r"vdlrecords\.\d+\.log", name):
                os.unlink(os.path.join(log, name))

    def path(self, step: int) -> str:
        """Return the directory of a step's checkpoint."""
        return os.path.join(self.save_dir, f"model_{step}")

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, ascending."""
        names = os.listdir(self.save_dir) if os.path.isdir(self.save_dir) else []
        found = [re.fullmatch(r"model_(\d+)", name) for name in names]
        return sorted(int(match[1]) for match in found if match)

    def latest(self) -> str | None:
        """Return the newest checkpoint that a run can resume from."""
        whole = [self.path(step) for step in self.steps() if os.path.isfile(os.path.join(self.path(step), STATE))]
        return whole[-1] if whole else None

    def best(self) -> str | None:
        """Return what `best` points at."""
        link = os.path.join(self.save_dir, "best")
        return os.path.join(self.save_dir, os.readlink(link)) if os.path.islink(link) else None

    def save(self, model: SemanticIndex, head: Head, tokenizer: TextTokenizer, step: int,
             optimizer: dict[str, Any], state: dict[str, Any], best: bool, about: dict[str, Any]) -> str:
        """Write a checkpoint under a temporary name, rename it, point latest (and best) at it; return its path.

        state: what a resume needs; about: what else a reader wants to know of the training.

        Raises UserError, and leaves nothing half written, where the weights are not finite.
        """
        bad = [name for name, value in [*model.state_dict().items(), *head.state_dict().items()]
               if not bool(paddle.isfinite(value).all())]
        if bad:
            raise UserError(f"step {step}: the weights are not finite ({bad[0]}), nothing is saved; "
                            f"last good checkpoint: {self.latest() or 'none'}; lower --learning_rate")
        try:
            with atomic_directory(self.path(step), "checkpoint", loading.older_files) as partial:
                loading.save(model, tokenizer, partial)
                if head.state_dict():
                    paddle.save(head.state_dict(), os.path.join(partial, HEAD))
                paddle.save(optimizer, os.path.join(partial, OPTIMIZER))
                with open(os.path.join(partial, STATE), "w", encoding="utf-8") as file:
                    json.dump(state, file, indent=2)
                with open(os.path.join(partial, RECORD), "w", encoding="utf-8") as file:
                    json.dump(state | about, file, indent=2)
                manifest.write(partial, "checkpoint")
        except OSError as error:
            raise UserError(f"--save_dir {self.save_dir}: the checkpoint of step {step} could not be written "
                            f"({error.strerror or error}); last whole one: {self.latest() or 'none'}; make room and "
                            "go on with --resume") from None
        self._point("latest", step)
        if best:
            self._point("best", step)
        self._prune(step)
        return self.path(step)

    def mark_best(self, step: int) -> None:
        """Point `best` at a step's checkpoint."""
        self._point("best", step)

    def _point(self, link: str, step: int) -> None:
        path = os.path.join(self.save_dir, link)
        if os.path.isdir(path) and not os.path.islink(path):
            raise UserError(f"{path}: is a directory of its own; --save_dir wants to make a link there")
        remove_left_over(path, "link")
        partial = own_path(path, "link")
        os.symlink(f"model_{step}", partial)
        os.replace(partial, path)

    def _prune(self, newest: int) -> None:
        """Remove what --keep_checkpoints lets go, and of all but the newest what a resume alone needs."""
        best = self.best()
        older = [step for step in self.steps() if step < newest]
        gone = older[: max(0, len(older) + 1 - self.keep)] if self.keep else []
        for step in older:
            if step in gone and self.path(step) != best:
                remove_directory(self.path(step), "checkpoint", loading.older_files)
                continue
            names = [name for name in (OPTIMIZER, STATE) if os.path.exists(os.path.join(self.path(step), name))]
            if names:
                manifest.forget(self.path(step), names)
            for name in names:
                os.unlink(os.path.join(self.path(step), name))


def rename_optimizer(state: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Rename the optimizer's entries between paddle's parameter names, which differ from process to process, and ours.

    names: old parameter name to new. Entries are a parameter's name with a suffix such as _moment1_0.
    """
    by_length = sorted(names, key=len, reverse=True)
    renamed = {}
    for key, value in state.items():
        old = next((name for name in by_length if key.startswith(name + "_")), None)
        renamed[key if old is None else names[old] + key[len(old):]] = value
    return renamed
