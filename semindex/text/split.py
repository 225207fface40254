"""Pairs, or groups of texts that mean the same, dealt into train, dev and test, each sentence on one side only."""

import itertools
from typing import Any

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
