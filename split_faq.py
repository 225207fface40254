"""Split a FAQ for training, calibration and test: some similar questions of each entry are held out.

Writes DIR/faq.tsv (the entries without them; faq.jsonl where they come as JSON lines), DIR/train.csv (pairs of one
entry's questions, for training), DIR/dev.tsv and DIR/test.tsv: lines of question<TAB>standard question, the second
field empty where the FAQ has no answer.
"""

import os

from semindex import cli, flags

PARTS = ("train.csv", "dev.tsv", "test.tsv")


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--faq_file", required=True, metavar="FILE",
                        help="question<TAB>answer[<TAB>category[<TAB>similar question]...], or JSON lines (.jsonl)")
    parser.add_argument("--no_answer_file", nargs="+", metavar="FILE",
                        help="questions without an answer in the FAQ, one a line: half to dev, half to test [none]")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="where the four files go")
    parser.add_argument("--dev", type=cli.natural, default=2, metavar="N",
                        help="similar questions of an entry for dev, where it has enough [2]")
    parser.add_argument("--test", type=cli.natural, default=2, metavar="N", help="the same for test [2]")
    parser.add_argument("--seed", type=cli.seed, default=1000, help="of the split [1000]")
    parser.add_argument("--overwrite", action="store_true", help="replace files of these names of another making")
    flags.add_bad_lines(parser)
    parser.reads("faq_file", "no_answer_file")
    parser.outputs.append(lambda args: [("--output_dir", os.path.join(args.output_dir, name))
                                        for name in files_of(args.faq_file)])
    return parser


def files_of(faq_file: str) -> tuple[str, ...]:
    """Return the names of what is written."""
    from semindex.faq.entries import is_json

    return ("faq.jsonl" if is_json(faq_file) else "faq.tsv", *PARTS)


def main() -> None:
    """Read, split, write."""
    args = parser().parse_args()
    from semindex.errors import UserError
    from semindex.faq.entries import is_json, read_faq
    from semindex.faq.split import read_unanswered, split_faq
    from semindex.text.counted import counted
    from semindex.text.split import write_parts

    if os.path.exists(os.path.join(args.output_dir, "manifest.json")):
        raise UserError(f"--output_dir {args.output_dir}: holds what another script made; name one of its own")
    entries, lines = read_faq(args.faq_file, args.skip_bad_lines)
    unanswered = read_unanswered(args.no_answer_file or [], entries, args.skip_bad_lines)
    parts = split_faq(entries, unanswered, args.dev, args.test, args.seed, is_json(args.faq_file))
    names = files_of(args.faq_file)
    print(f"{args.faq_file}: {counted(len(entries), 'entry', 'entries')}{lines.notes()}", flush=True)
    write_parts(args.output_dir, dict(zip(names, parts)), args.overwrite, "split_faq.py")
    counts = ", ".join(f"{name} {len(part)}" for name, part in zip(names, parts))
    print(f"{args.output_dir}: lines of {counts}")


if __name__ == "__main__":
    cli.run(main)
