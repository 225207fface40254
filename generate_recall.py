"""Make the corpus to recall from: every training sentence and the second column of dev and test, each once."""

from semindex import cli, flags
from semindex.errors import UserError

TRAIN, HELD_OUT = "data/train.csv", ("data/dev.csv", "data/test.csv")


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--train_set_file", nargs="+", metavar="FILE",
                        help=f"training pairs, or texts: every column counts [{TRAIN}]")
    flags.add_pairs(parser, "dev and test pairs: the second column counts "
                            f"[what there is of {' and '.join(HELD_OUT)}]", nargs="+", required=False)
    parser.add_argument("--output_file", default="data/corpus.csv", metavar="FILE",
                        help="the corpus, one text a line [data/corpus.csv]")
    parser.add_argument("--shuffle", action="store_true", help="in an order drawn by --seed, not the files' own")
    parser.add_argument("--seed", type=cli.seed, default=1000, help="of --shuffle [1000]")
    flags.add_bad_lines(parser)
    parser.reads("train_set_file")
    parser.writes("output_file")
    return parser


def main() -> None:
    """Read, join, write."""
    args = parser().parse_args()
    import os

    train_files, pairs_files = args.train_set_file, args.similar_text_pair_file
    if bool(train_files) != bool(pairs_files):
        raise UserError("--train_set_file and --similar_text_pair go together; without both: data/, as split_data.py "
                        "writes it")
    if not train_files:
        train_files, pairs_files = [TRAIN], [path for path in HELD_OUT if os.path.exists(path)]
        missing = [TRAIN] * (not os.path.exists(TRAIN)) + [" or ".join(HELD_OUT)] * (not pairs_files)
        if missing:
            raise UserError(f"{' and '.join(missing)}: no such file; split_data.py writes them, or name yours with "
                            "--train_set_file and --similar_text_pair")
    import numpy as np

    from semindex.files import atomic_file
    from semindex.text.counted import counted
    from semindex.text.tables import numbers, read_pairs, read_table

    texts: dict[str, None] = {}
    for path in train_files:
        rows, lines = read_table(path, (1, 2, 3), args.skip_bad_lines)
        rows, labels = numbers(rows, lines, args.skip_bad_lines)
        width = 3 if labels is None else 2  # a label is no text
        texts.update(dict.fromkeys(text for row in rows for text in row[:width]))
        print(f"{path}: {counted(len(rows), 'line')}{lines.notes()}", flush=True)  # before anything is written
    for path in pairs_files:
        rows, lines = read_pairs(path, (2, 3), args.skip_bad_lines)
        texts.update(dict.fromkeys(row[1] for row in rows))
        print(f"{path}: {counted(len(rows), 'pair')}{lines.notes()}")
    order = list(texts)
    if args.shuffle:
        order = [order[i] for i in np.random.default_rng(args.seed).permutation(len(order))]
    os.makedirs(os.path.dirname(args.output_file) or ".", exist_ok=True)
    with atomic_file(args.output_file) as file:
        file.writelines(f"{text}\n" for text in order)
    print(f"{args.output_file}: {counted(len(order), 'text')}")


if __name__ == "__main__":
    cli.run(main)
