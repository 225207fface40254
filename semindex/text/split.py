"""Pairs, or groups of texts that mean the same, dealt into train, dev and test, each sentence on one side only."""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from semindex.errors import UserError
from semindex.files import atomic_file, checksum, named
from semindex.locks import own_path, remove_left_over

Sides = tuple[list[list[str]], ...]  # pairs for train, dev and test


def components(pairs: list[list[str]]) -> list[list[list[str]]]:
    """Return the pairs in groups connected by shared sentences, in order of first appearance."""
    leader: dict[str, str] = {}

    def find(text: str) -> str:
        while leader.setdefault(text, text) != text:
            leader[text] = leader[leader[text]]
            text = leader[text]
        return text

    for first, second in pairs:
        leader[find(second)] = find(first)
    groups: dict[str, list[list[str]]] = {}
    for pair in pairs:
        groups.setdefault(find(pair[0]), []).append(pair)
    return list(groups.values())


def deal(units: list[list[list[str]]], shares: tuple[float, float], rng: Any) -> Sides:
    """Deal units of pairs into train, dev and test until dev and test hold their share of all pairs.

    A unit larger than what dev or test still lack goes to train: one large component must not be the test set.
    """
    total = sum(map(len, units))
    sides: Sides = ([], [], [])
    for i in rng.permutation(len(units)):
        side = next((n for n in (1, 2) if len(sides[n]) + len(units[i]) <= shares[n - 1] * total), 0)
        sides[side].extend(units[i])
    return sides


def deal_topics(groups: list[list[str]], shares: tuple[float, float], rng: Any) -> Sides:
    """Deal whole groups: all pairs of a group to train, or each of its texts with its first one to dev or test."""
    sides: Sides = ([], [], [])
    places = rng.permutation(len(groups))
    for side, start, stop in ((1, 0.0, shares[0]), (2, shares[0], sum(shares)), (0, sum(shares), 1.0)):
        for i in places[round(start * len(groups)) : round(stop * len(groups))]:
            first, *others = groups[i]
            pairs = itertools.combinations(groups[i], 2) if side == 0 else ((text, first) for text in others)
            sides[side].extend(list(pair) for pair in pairs)
    return sides


def deal_sentences(groups: list[list[str]], shares: tuple[float, float], positives: int,
                   rng: Any) -> Sides:
    """Deal each group's sentences: of some a dev or test query and its positives, all pairs of the rest to train."""
    sides: Sides = ([], [], [])
    for group in groups:
        texts = [group[i] for i in rng.permutation(len(group))]
        for side in (1, 2):
            # a group keeps at least one pair for training
            if len(texts) >= positives + 3 and rng.random() < shares[side - 1]:
                query = texts.pop()
                sides[side].extend([query, texts.pop()] for _ in range(positives))
        sides[0].extend(list(pair) for pair in itertools.combinations(texts, 2))
    return sides


FILES, RECORD = ("train.csv", "dev.csv", "test.csv"), "split.json"


def write_split(directory: str, sides: Sides, overwrite: bool = False) -> None:
    """Write train.csv, dev.csv and test.csv; see write_parts."""
    lines = (["\t".join(pair) + "\n" for pair in side] for side in sides)
    write_parts(directory, dict(zip(FILES, lines)), overwrite, "split_data.py")


def write_parts(directory: str, parts: Mapping[str, Sequence[str]], overwrite: bool, script: str) -> None:
    """Write the lines of each file, never two of different splits: a kill leaves the old, the new, or fewer.

    split.json beside them tells their checksums. script: named where files of these names are there that no split of
    this project wrote: a UserError that changes nothing, unless overwrite is true.
    """
    contents = ["".join(lines).encode() for lines in parts.values()]
    paths = [os.path.join(directory, name) for name in parts]
    new = {name: [hashlib.sha256(content).hexdigest()] for name, content in zip(parts, contents)}
    known: dict[str, list[str]] = {}
    with contextlib.suppress(OSError, ValueError), open(os.path.join(directory, RECORD), encoding="utf-8") as file:
        known = json.load(file)
    for name, path in zip(parts, paths):
        if os.path.lexists(path) and not overwrite and checksum(path) not in known.get(name, []) + new[name]:
            raise UserError(f"{path}: is there, and no {script} wrote it as it is; name another --output_dir, or "
                            "pass --overwrite")
    os.makedirs(directory, exist_ok=True)
    partial = []
    try:
        for path, content in zip(paths, contents):
            remove_left_over(path, "partial")
            partial.append(own_path(path, "partial"))
            with named(path), open(partial[-1], "wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
        _record(directory, {name: known.get(name, []) + new[name] for name in parts})
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        for path, written in zip(paths, partial):
            os.rename(written, path)
        _record(directory, new)
    finally:
        for written in partial:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(written)


def _record(directory: str, files: dict[str, list[str]]) -> None:
    with atomic_file(os.path.join(directory, RECORD)) as out:
        json.dump(files, out, indent=2)
