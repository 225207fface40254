"""Ask a FAQ: one question, a file of them, or at the terminal. It answers, suggests what may be meant, or says none."""

from typing import Any

from semindex import cli, flags, milvus_flags, search_flags


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    parser.add_argument("--faq_dir", required=True, metavar="DIR", help="what build_faq.py wrote")
    parser.add_argument("question", nargs="*", metavar="QUESTION", help="questions [typed at the terminal]")
    parser.add_argument("--questions_file", metavar="FILE",
                        help="a question a line, what stands behind a TAB is passed over; - is standard input")
    parser.add_argument("--output_file", metavar="FILE", help="write a JSON line a question there [printed]")
    parser.add_argument("--calibration", metavar="FILE",
                        help="what calibrate.py wrote; '' for none [FAQ_DIR.calibration.json, where it is there]")
    parser.add_argument("--top", type=cli.positive_int, default=3, metavar="N", help="entries looked at a question [3]")
    parser.add_argument("--explain", action="store_true", help="show rank and score of each source")
    search_flags.add_either_encoder(parser, " [the one that the FAQ was built with]")
    flags.add_bad_lines(parser)
    milvus_flags.add_milvus(parser)
    parser.reads("faq_dir", "questions_file")
    parser.reads("calibration", optional=True)
    parser.writes("output_file")
    return parser


def main() -> None:
    """Open, ask, print or write."""
    args = parser().parse_args()
    from semindex.errors import UserError
    from semindex.files import atomic_file
    from semindex.text.streams import given_texts, standard_output

    if args.question and args.questions_file:
        raise UserError("give questions as words or as --questions_file, not both")
    if args.output_file and not args.questions_file:
        raise UserError("--output_file goes with --questions_file")
    out: Any = None if args.output_file else standard_output()
    from semindex import runtime
    from semindex.faq.answering import write_replies
    from semindex.faq.asking import open_faq, read_questions, typed_questions
    from semindex.text.counted import counted

    given = given_texts("QUESTION", args.question)
    asked = read_questions(args.questions_file, args.skip_bad_lines) if args.questions_file else given
    faq, calibration, path = open_faq(args)
    runtime.start(args.device, args.seed)
    from models.either import open_encoder
    from semindex.faq.answering import Answerer

    answerer = Answerer(faq, open_encoder(args, len(asked), faq.encoder).encoder, calibration, path)
    if args.output_file:
        with atomic_file(args.output_file) as file:
            write_replies(file, answerer(asked, args.top), faq, args.explain, plain=False)
        runtime.say(f"{args.output_file}: {counted(len(asked), 'line')}")
    elif asked:
        write_replies(out, answerer(asked, args.top), faq, args.explain, plain=not args.questions_file)
    else:
        for question in typed_questions(args.skip_bad_lines):
            write_replies(out, answerer([question], args.top), faq, args.explain, plain=True)


if __name__ == "__main__":
    cli.run(main)
