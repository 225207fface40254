"""Choose how to recall, and when a FAQ answers, from labelled queries.

With --corpus_file and --similar_text_pair: dense, keyword or hybrid recall, for recall.py --calibration. With --faq_dir
and --questions_file: that, and the thresholds of ask.py for a wanted precision.
"""

import argparse
import os

from semindex import cli, flags, search_flags


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    search_flags.add_either_encoder(parser, " [of a FAQ the one that it was built with]")
    search_flags.add_keyword(parser)
    search_flags.add_keyword_dir(parser)
    group = parser.add_argument_group("of a recall")
    group.add_argument("--corpus_file", metavar="FILE", help="texts to recall from, one a line")
    group.add_argument(*flags.PAIR_FLAGS, metavar="FILE", dest="similar_text_pair_file",
                       help="lines of query<TAB>positive")
    group.add_argument("--metric", choices=["mrr@10", "recall@1", "recall@10", "recall@50"], default="mrr@10",
                       help="what decides [mrr@10]")
    group.add_argument("--index_dir", metavar="DIR", help="keep the vector index there and use it again [not kept]")
    group = parser.add_argument_group("of a FAQ")
    group.add_argument("--faq_dir", metavar="DIR", help="what build_faq.py wrote")
    group.add_argument("--questions_file", metavar="FILE",
                       help="question<TAB>question of the FAQ, the second empty where it has no answer")
    group.add_argument("--precision", type=cli.fraction, default=0.95, help="wanted of answers [0.95]")
    group.add_argument("--suggest_precision", type=cli.fraction, default=0.5,
                       help="share of suggestions that are to hold the right question [0.5]")
    group.add_argument("--picture_file", metavar="FILE", help="draw precision against coverage (.png, .svg, .pdf)")
    parser.add_argument("--output_file", metavar="FILE",
                        help="the choice, for recall.py and ask.py [of a FAQ FAQ_DIR.calibration.json]")
    flags.add_bad_lines(parser)
    flags.add_index(parser)
    parser.reads("corpus_file", "similar_text_pair_file", "faq_dir", "questions_file")
    parser.writes("picture_file")
    parser.writes("index_dir", role="directory")
    parser.outputs.append(lambda args: [("--output_file", path)] if (path := output_of(args)) is not None else [])
    return parser


def output_of(args: argparse.Namespace) -> str | None:
    """Return where the choice goes."""
    if args.output_file is not None or not args.faq_dir:
        return args.output_file
    return f"{os.path.normpath(args.faq_dir)}.calibration.json"  # see semindex.faq.asking


def main() -> None:
    """Read, search, choose, write."""
    known = parser()
    args = known.parse_args()
    from semindex.errors import UserError

    recall, faq = (args.corpus_file, args.similar_text_pair_file), (args.faq_dir, args.questions_file)
    if any(recall) == any(faq) or not (all(recall) or all(faq)):
        raise UserError("give either --corpus_file and --similar_text_pair, or --faq_dir and --questions_file")
    if all(recall) and (args.picture_file or not args.output_file):
        raise UserError("--picture_file goes with --faq_dir" if args.picture_file else "--output_file is missing")
    if all(recall) and not (args.params_path or args.model_dir):
        raise UserError("name the encoder with --params_path or --model_dir")
    of_recall = known.changed(args, "tokens", "k1", "b", "metric", "index_dir", "keyword_dir")
    if all(faq) and of_recall:
        raise UserError(f"--{of_recall[0]}: goes with --corpus_file; a FAQ is searched as build_faq.py made it")
    from semindex import runtime

    runtime.start(args.device, args.seed)
    from models import calibrating

    (calibrating.of_recall if all(recall) else calibrating.of_faq)(args, output_of(args) or "")


if __name__ == "__main__":
    cli.run(main)
