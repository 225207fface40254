"""Split pairs, or groups of texts that mean the same, into train, dev and test, each sentence on one side only.

Writes DIR/train.csv, DIR/dev.csv and DIR/test.csv, tab-separated pairs. A file of two columns holds pairs: pairs
that share a sentence, directly or over others, go to one side together. With --groups a line holds a group of two
texts or more: some sentences of each group go to dev and test, so that these ask for known topics in words not seen in
training; --hold_out topics keeps whole groups out instead.
"""

import itertools
import os
from typing import Any

import options

Sides = tuple[list[list[str]], ...]  # pairs for train, dev and test


def parser() -> options.Parser:
    """Return the command line."""
    parser = options.Parser(__doc__)
    parser.add_argument("--input_file", required=True, metavar="FILE", help="pairs, or a group a line")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="where the three files go")
    parser.add_argument("--dev", type=options.fraction, default=0.1,
                        help="share of the pairs for dev; of groups: the share that gives dev a pair [0.1]")
    parser.add_argument("--test", type=options.fraction, default=0.1, help="the same for test [0.1]")
    parser.add_argument("--groups", action="store_true", help="a line holds a group of texts, not a pair")
    parser.add_argument("--hold_out", choices=["sentences", "topics"], default="sentences",
                        help="what of a group dev and test hold: some sentences, or whole groups [sentences]")
    parser.add_argument("--positives", type=options.positive_int, default=1, metavar="N",
                        help="of a group: texts held out for a dev or test query to find [1]")
    parser.add_argument("--seed", type=options.seed, default=1000, help="of the split [1000]")
    options.add_bad_lines(parser)
    return parser


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


def main() -> None:
    """Read, split, check, write."""
    args = parser().parse_args()
    import numpy as np

    import data
    from deploy.python.serving.whole import whole_file

    lines = data.Lines(args.input_file)
    shape = (range(2, 10_000), "two texts or more") if args.groups else ((2,), "text<TAB>text, or groups with --groups")
    read = data.read_rows(args.input_file, shape[0], args.skip_bad_lines, lines, shape[1])
    rows = [list(dict.fromkeys(fields)) for _, fields in read]
    same = sum(len(row) < 2 for row in rows)
    rows = [list(row) for row in dict.fromkeys(tuple(row) for row in rows if len(row) > 1)]
    if not rows:
        raise options.UserError(f"{args.input_file}: every line pairs a text with itself")
    rng, shares = np.random.default_rng(args.seed), (args.dev, args.test)
    if sum(shares) >= 1 and (not args.groups or args.hold_out == "topics"):
        raise options.UserError(f"--dev {args.dev} and --test {args.test} leave nothing to train on")
    if not args.groups:
        sides = deal(components(rows), shares, rng)
    else:
        owner: dict[str, int] = {}
        for number, row in enumerate(rows):
            for text in row:
                if owner.setdefault(text, number) != number:
                    raise options.UserError(f"{args.input_file}: '{text}' stands in two groups; "
                                            "a sentence has one topic")
        if args.hold_out == "topics":
            sides = deal_topics(rows, shares, rng)
        else:
            sides = deal_sentences(rows, shares, args.positives, rng)
    seen = [{text for pair in side for text in pair} for side in sides]
    leaks = len(seen[0] & seen[1]) + len(seen[0] & seen[2]) + len(seen[1] & seen[2])
    for name, side, share in zip(("dev", "test"), sides[1:], shares):
        if share and not side:
            raise options.UserError(f"{name}.csv would be empty: {args.input_file} has too few lines, or pairs that "
                                    f"hang together over shared sentences; raise --{name}")
    os.makedirs(args.output_dir, exist_ok=True)
    for name, side in zip(("train", "dev", "test"), sides):
        with whole_file(os.path.join(args.output_dir, f"{name}.csv")) as file:
            file.writelines("\t".join(pair) + "\n" for pair in side)
    counts = ", ".join(f"{name} {len(side)}" for name, side in zip(("train", "dev", "test"), sides))
    extra = f", {same} lines of one text with itself left out" if same else ""
    print(f"{args.output_dir}: {counts} pairs; sentences on two sides: {leaks}{lines.notes()}{extra}")


if __name__ == "__main__":
    options.run(main)
