"""Tokenise a collection once, for train_ance.py and run_ann_data_gen.py --data_dir: passages, queries, judgements."""

from semindex import cli, collection_flags, document_flags, flags
from semindex.errors import UserError


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--out_data_dir", required=True, metavar="DIR",
                        help="where it goes; what fits stays, another collection there is replaced")
    flags.add_device(parser)
    flags.add_encoder(parser)
    group = parser.add_argument_group("data in TREC's form")
    collection_flags.add_trec(group, corpus=True, judged=True)
    flags.add_bad_lines(parser)
    document_flags.add_preprocessing(parser)
    group = parser.add_argument_group("tokenising")
    group.add_argument("--init_from_ckpt", metavar="PATH",
                       help="a checkpoint that knows tokenizer and lengths, in place of --model_name_or_path")
    document_flags.add_similarity(group)
    collection_flags.add_lengths(group)
    parser.reads("corpus_file", "queries_file", "qrels_file", "dev_queries_file", "dev_qrels_file", "data_dir")
    parser.writes("out_data_dir", role="directory")
    parser.set_defaults(dropout=None, head_dropout=None)
    return parser


def main() -> None:
    """Find the files, tokenise them."""
    args = parser().parse_args()
    document_flags.set_preprocessing(args)
    for flag in ("corpus_file", "queries_file", "qrels_file"):
        if not getattr(args, flag):
            raise UserError(f"give --data_dir with MS MARCO's files, or --{flag}")
    if bool(args.dev_queries_file) != bool(args.dev_qrels_file):
        raise UserError("--dev_queries_file and --dev_qrels_file go together")
    from semindex import runtime

    runtime.warn_of(document_flags.passed_over(args))
    runtime.start(args.device, args.seed)
    from training.negatives import ance

    ance.prepare(args)


if __name__ == "__main__":
    cli.run(main)
