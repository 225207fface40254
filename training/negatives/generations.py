"""Generations of negatives: directories generation_N that one job publishes by rename and another takes up."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from semindex import manifest
from semindex.directories import atomic_directory, remove_directory
from semindex.errors import UserError
from semindex.fields import mapping_of, one_of, read_fields, real, text, whole

FIELDS = {"number": whole(0, 2**40), "step": whole(0, 2**40), "collection": text(),
          "source": one_of("bm25", "triples", "in_batch", "ann", "init"),
          "weights": text().optional(), "counts": mapping_of(whole(0, 2**60)).optional(),
          "metrics": mapping_of(real(-1e30, 1e30).or_none()).optional(),
          "seconds": mapping_of(real(0, 1e12)).optional()}
ABOUT, NEGATIVES = "generation.json", "negatives.npy"


def _older(path: str) -> set[str] | None:
    """Return the files of a generation from before manifests, see directories.Older."""
    return {ABOUT, NEGATIVES} if os.path.isfile(os.path.join(path, ABOUT)) else None


@dataclass
class Generation:
    """Where the negatives of a generation come from.

    step: of the weights that found them; source: bm25, triples, in_batch (none at all), ann, or init, of a checkpoint
    that the training was to start from; collection: its key; weights: the checkpoint's fingerprint, '' where none was
    used; counts: mining.Mined's; metrics: of the dev queries with the same weights; seconds: what each part of making
    it took.
    """

    number: int
    step: int
    source: str
    collection: str
    weights: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Generations:
    """The generations below a directory. The newest is the one of the largest number."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path(self, number: int) -> str:
        """Return the directory of a generation."""
        return os.path.join(self.directory, f"generation_{number}")

    def numbers(self) -> list[int]:
        """Return the generations there are, ascending."""
        names = os.listdir(self.directory) if os.path.isdir(self.directory) else []
        found = [re.fullmatch(r"generation_(\d+)", name) for name in names]
        return sorted(int(match[1]) for match in found if match)

    def read(self, number: int) -> Generation:
        """Return what is known of a generation; UserError where it is damaged."""
        path = os.path.join(self.path(number), ABOUT)
        manifest.check(self.path(number), "generation")
        advice = f"remove {self.path(number)}"
        try:
            return Generation(**read_fields(path, FIELDS, advice=advice))
        except OSError as error:
            raise UserError(f"{path}: damaged ({error}); {advice}") from None

    def newest(self) -> Generation | None:
        """Return the newest generation, None where there is none."""
        numbers = self.numbers()
        return self.read(numbers[-1]) if numbers else None

    def negatives(self, number: int) -> np.ndarray:
        """Return the negatives of a generation, int32 [pairs, negatives], read whole: its files may be removed."""
        return np.load(os.path.join(self.path(number), NEGATIVES), allow_pickle=False)

    def publish(self, generation: Generation, negatives: np.ndarray, keep: int = 3) -> str:
        """Write a generation under a temporary name and rename it; remove all but the newest `keep`. Returns its path.

        A kill at any moment leaves it whole or absent. Raises UserError where there is no room.
        """
        path = self.path(generation.number)
        try:
            os.makedirs(self.directory, exist_ok=True)
            with atomic_directory(path, "generation", _older) as partial:
                np.save(os.path.join(partial, NEGATIVES), negatives)
                with open(os.path.join(partial, ABOUT), "w", encoding="utf-8") as file:
                    json.dump(asdict(generation), file, indent=2)
                manifest.write(partial, "generation")
        except OSError as error:
            raise UserError(f"{path}: could not be written ({error.strerror or error})") from None
        for number in self.numbers()[:-keep]:
            remove_directory(self.path(number), "generation", _older)
        return path

    def clear(self, keep: Callable[[Generation], bool] = lambda _: False) -> None:
        """Remove all generations, but for a first one that `keep` is true of."""
        for number in self.numbers():
            if number or not keep(self.read(0)):
                remove_directory(self.path(number), "generation", _older)
