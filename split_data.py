"""Split pairs, or groups of texts that mean the same, into train, dev and test, each sentence on one side only.

Writes DIR/train.csv, DIR/dev.csv and DIR/test.csv, tab-separated pairs. A file of two columns holds pairs: pairs
that share a sentence, directly or over others, go to one side together. With --groups a line holds a group of two
texts or more: some sentences of each group go to dev and test, so that these ask for known topics in words not seen in
training; --hold_out topics keeps whole groups out instead.
"""

import os

from semindex import cli, flags
from semindex.errors import UserError


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--input_file", default="pairs.tsv", metavar="FILE",
                        help="pairs, or a group a line [pairs.tsv]")
    parser.add_argument("--output_dir", default="data", metavar="DIR", help="where the three files go [data]")
    parser.add_argument("--dev", type=cli.fraction, default=0.1,
                        help="share of the pairs for dev; of groups: the share that gives dev a pair [0.1]")
    parser.add_argument("--test", type=cli.fraction, default=0.1, help="the same for test [0.1]")
    parser.add_argument("--groups", action="store_true", help="a line holds a group of texts, not a pair")
    parser.add_argument("--hold_out", choices=["sentences", "topics"], default="sentences",
                        help="what of a group dev and test hold: some sentences, or whole groups [sentences]")
    parser.add_argument("--positives", type=cli.positive_int, default=1, metavar="N",
                        help="of a group: texts held out for a dev or test query to find [1]")
    parser.add_argument("--seed", type=cli.seed, default=1000, help="of the split [1000]")
    parser.add_argument("--overwrite", action="store_true",
                        help="replace train.csv, dev.csv and test.csv of another making")
    flags.add_bad_lines(parser)
    parser.reads("input_file")
    parser.outputs.append(lambda args: [("--output_dir", os.path.join(args.output_dir, name))
                                        for name in ("train.csv", "dev.csv", "test.csv")])
    return parser


def main() -> None:
    """Read, split, check, write."""
    args = parser().parse_args()
    if args.input_file == parser().get_default("input_file") and not os.path.exists(args.input_file):
        raise UserError(f"{args.input_file}: no such file; put your pairs there, lines of text<TAB>text, or name them "
                        "with --input_file")
    import numpy as np

    from semindex.text.counted import counted
    from semindex.text.split import components, deal, deal_sentences, deal_topics, write_split
    from semindex.text.tables import ReadReport, read_rows

    lines = ReadReport(args.input_file)
    shape = (range(2, 10_000), "two texts or more") if args.groups else ((2,), "text<TAB>text, or groups with --groups")
    read = read_rows(args.input_file, shape[0], args.skip_bad_lines, lines, shape[1])
    rows = [list(dict.fromkeys(fields)) for _, fields in read]
    same = sum(len(row) < 2 for row in rows)
    rows = [list(row) for row in dict.fromkeys(tuple(row) for row in rows if len(row) > 1)]
    if not rows:
        raise UserError(f"{args.input_file}: every line pairs a text with itself")
    rng, shares = np.random.default_rng(args.seed), (args.dev, args.test)
    if sum(shares) >= 1 and (not args.groups or args.hold_out == "topics"):
        raise UserError(f"--dev {args.dev} and --test {args.test} leave nothing to train on")
    if not args.groups:
        sides = deal(components(rows), shares, rng)
    else:
        owner: dict[str, int] = {}
        for number, row in enumerate(rows):
            for text in row:
                if owner.setdefault(text, number) != number:
                    raise UserError(f"{args.input_file}: '{text}' stands in two groups; a sentence has one topic")
        if args.hold_out == "topics":
            sides = deal_topics(rows, shares, rng)
        else:
            sides = deal_sentences(rows, shares, args.positives, rng)
    seen = [{text for pair in side for text in pair} for side in sides]
    leaks = len(seen[0] & seen[1]) + len(seen[0] & seen[2]) + len(seen[1] & seen[2])
    for name, side, share in zip(("dev", "test"), sides[1:], shares):
        if share and not side:
            raise UserError(f"{name}.csv would be empty: {args.input_file} has too few lines, or pairs that "
                                    f"hang together over shared sentences; raise --{name}")
    extra = f", {counted(same, 'line')} of one text with itself left out" if same else ""
    # Said before anything is written, as by the other scripts: a full standard output must not fail after the work.
    print(f"{args.input_file}: {counted(len(rows), 'line')}{lines.notes()}{extra}", flush=True)
    write_split(args.output_dir, sides, args.overwrite)
    counts = ", ".join(f"{name} {len(side)}" for name, side in zip(("train", "dev", "test"), sides))
    print(f"{args.output_dir}: {counts} pairs; sentences on two sides: {leaks}")


if __name__ == "__main__":
    cli.run(main)
