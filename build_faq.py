"""Make a FAQ that can be asked: its entries with a vector index and a keyword index of their questions."""

from semindex import cli, flags, search_flags


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    parser.add_argument("--faq_file", required=True, metavar="FILE",
                        help="question<TAB>answer[<TAB>category[<TAB>similar question]...], or JSON lines (.jsonl) of "
                             "question, answer, category, similar")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="the FAQ directory; an older is replaced")
    search_flags.add_either_encoder(parser)
    search_flags.add_keyword(parser)
    flags.add_index(parser)
    flags.add_bad_lines(parser)
    parser.reads("faq_file")
    parser.writes("output_dir", role="directory")
    return parser


def main() -> None:
    """Read, encode, index, write."""
    args = parser().parse_args()
    from semindex import runtime
    from semindex.faq.directory import Faq, check_directory
    from semindex.faq.entries import questions_of, read_faq

    runtime.on_rank_0(lambda: check_directory(args.output_dir) and None)
    entries, lines = read_faq(args.faq_file, args.skip_bad_lines)
    questions, _ = questions_of(entries)
    runtime.start(args.device, args.seed)
    from models.either import open_encoder
    from semindex.encode.encoder import encode, report_cut
    from semindex.search.index import IndexSettings
    from semindex.search.keyword import KeywordSettings
    from semindex.text.counted import counted

    runtime.say(f"{args.faq_file}: {counted(len(entries), 'entry', 'entries')}, {counted(len(questions), 'question')}"
                f"{lines.notes()}")
    found = open_encoder(args, len(questions))
    encoder = found.encoder.side("passage")
    vectors = encode(encoder, questions, "encode questions")
    report_cut(encoder.tokenizer)
    if runtime.rank() == 0:
        keyword = KeywordSettings(args.tokens, args.k1, args.b)
        Faq.build(entries, vectors, found.about(), IndexSettings.from_flags(args), keyword,
                  args.faq_file).save(args.output_dir)
        runtime.say(f"{args.output_dir}: {counted(len(entries), 'entry', 'entries')}; calibrate.py sets when it has "
                    "no answer")


if __name__ == "__main__":
    cli.run(main)
