"""Mine negatives for pairs, by a dense search, BM25 or both, or at random: lines of query, positive, negative."""

from semindex import cli, collection_flags, flags
from semindex.errors import UserError


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    parser.add_argument("--params_path", metavar="PATH", help="the encoder of a dense search, a checkpoint directory")
    parser.add_argument("--train_set_file", required=True, metavar="FILE", help="lines of query<TAB>positive")
    parser.add_argument("--corpus_file", metavar="FILE", help="texts to mine from [the training texts]")
    parser.add_argument("--output_file", required=True, metavar="FILE",
                        help="lines of query<TAB>positive<TAB>negative, which every training script reads")
    parser.add_argument("--report_file", metavar="FILE",
                        help="what was left out as likely positive: query, positive, text, score, reason, search")
    parser.add_argument("--by", choices=["dense", "bm25", "both", "global", "local"],
                        help="both: half of each, the same text once; global: any text; local: any text of the query's "
                             "cluster, by k-means over the vectors of --params_path, and where that is too small the "
                             "nearest others [dense with --params_path, else bm25]")
    parser.add_argument("--distribution", choices=["uniform", "normal"],
                        help="of global: any text alike, or normal round the query's own place in the corpus, or its "
                             "positive's, with a sixth of the corpus as standard deviation [uniform]")
    parser.add_argument("--n_clusters", type=cli.positive_int, metavar="N",
                        help="of local [the square root of half the texts]")
    group = parser.add_argument_group("which")
    group.add_argument("--negatives", "--num_negatives", dest="negatives", type=cli.positive_int, default=1,
                       metavar="N", help="of each pair at most, a line each [1]")
    group.add_argument("--max_per_query", type=cli.natural, default=0, metavar="N",
                       help="lines of each query at most; 0: any number [0]")
    group.add_argument("--rank_max", type=cli.positive_int, default=200, metavar="N",
                       help="look at the first N ranked [200]")
    group.add_argument("--sampling", choices=["random", "top"], default="top",
                       help="the best ranked that are left, or any of them [top]")
    collection_flags.add_likely_positives(group)
    collection_flags.add_guide(parser, group)
    group.add_argument("--keep_all", action="store_true",
                       help="pairs that find no negative get one at random; left out otherwise")
    flags.add_truncation(parser)
    flags.add_engine(parser)
    flags.add_bad_lines(parser)
    flags.add_index(parser)
    flags.add_trust(parser)
    parser.reads("params_path", "train_set_file", "corpus_file")
    parser.writes("output_file", "report_file")
    return parser


def main() -> None:
    """Read, search, choose, write."""
    args = parser().parse_args()
    args.by = args.by or ("dense" if args.params_path else "bm25")
    if args.by in ("dense", "both", "local") and not args.params_path:
        raise UserError(f"--by {args.by} needs --params_path")
    for flag, way in (("distribution", "global"), ("n_clusters", "local")):
        if getattr(args, flag) and args.by != way:
            raise UserError(f"--{flag} goes with --by {way}")
    unread = ("margin", "relative_margin", "rank_min") if args.by == "global" else ("rank_min",) * (args.by == "local")
    for flag in unread:
        if getattr(args, flag):
            raise UserError(f"--{flag}: --by {args.by} draws at random and ranks nothing; leave it out")
    if args.by in ("global", "local"):
        args.sampling = "top"  # what is drawn is in random order already; the nearest others come last
    if args.rank_min >= args.rank_max:
        raise UserError(f"--rank_min {args.rank_min} leaves nothing of --rank_max {args.rank_max}")
    from semindex import runtime

    runtime.start(args.device, args.seed)
    from training.negatives import offline

    offline.run(args)


if __name__ == "__main__":
    cli.run(main)
