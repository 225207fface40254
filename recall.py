"""Recall texts of a corpus for each query: by vectors, by keyword, or by both."""

from semindex import cli, flags, search_flags
from semindex.errors import UserError


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    flags.add_checkpoint(parser, required=False)
    flags.add_recall_inputs(parser)
    flags.add_typed(parser)
    flags.add_result_file(parser)
    flags.add_engine(parser)
    flags.add_bad_lines(parser)
    parser.add_argument("--recall_num", type=cli.positive_int, default=10, metavar="N",
                        help="texts to recall a query [10]")
    search_flags.add_method(parser)
    parser.add_argument("--explain", action="store_true",
                        help="print rank and score of each source: behind the texts of --query, else lines of "
                             "query<TAB>text<TAB>score<TAB>source<TAB>rank<TAB>score")
    flags.add_index(parser)
    parser.add_argument("--index_dir", metavar="DIR",
                        help="keep the vector index there and use it again [not kept]")
    search_flags.add_keyword_dir(parser)
    parser.add_argument("--rebuild_index", action="store_true",
                        help="replace the index of --index_dir, and that of --keyword_dir")
    parser.add_argument("--vectors_dir", metavar="DIR",
                        help="the corpus' vectors by encode_corpus.py --output_dir [encoded here]")
    parser.add_argument("--report_index_recall", action="store_true",
                        help="compare the index with exact search on up to 1,000 queries")
    parser.reads("vectors_dir")
    parser.writes("index_dir", role="directory")
    return parser


def main() -> None:
    """Encode, index, search, write."""
    known = parser()
    args = known.parse_args()
    flags.check_recall_inputs(args)
    from semindex.search.methods import check_calibration, method_of

    method = method_of(args)
    if "dense" in method.sources and not args.params_path:
        raise UserError(f"--params_path is missing: --method {method.name} needs an encoder")
    of_vectors = known.changed(args, "index_dir", "vectors_dir", "report_index_recall")
    if "dense" not in method.sources and of_vectors:
        raise UserError(f"--{of_vectors[0]}: is of the vector index, which --method {method.name} has not")
    of_keyword = known.changed(args, "keyword_dir", "tokens", "k1", "b")
    if "keyword" not in method.sources and of_keyword and not args.calibration:  # which may choose either
        raise UserError(f"--{of_keyword[0]}: is of keyword search, which --method {method.name} has not")
    from semindex import runtime

    runtime.start(args.device, args.seed)
    from models.recalling import DenseSource, Recaller
    from semindex.search.by_hand import answer, read_typed
    from semindex.search.recall_files import explain, pairs_of, read_inputs, write_results

    by_hand = bool(args.query or args.interactive)
    inputs = read_typed(args) if by_hand else None if args.queries_file else read_inputs(args)
    dense = DenseSource(args) if "dense" in method.sources else None
    inputs = inputs or read_inputs(args, dense.separator if dense else " ")
    recaller = Recaller(args, method, dense, inputs.corpus, len(inputs.queries))
    if dense and dense.index and args.calibration:
        check_calibration(args.calibration, dense.index.encoder, inputs.corpus.fingerprint)
    if by_hand:
        answer(recaller, inputs.corpus, inputs.queries, args)
        return
    found = recaller(inputs.queries, args.recall_num, "encode queries")
    if found is None:
        return
    write_results(args, inputs, pairs_of(found.ids, found.scores),
                  "semantic_index" if method.name == "dense" else method.name)
    if args.explain:
        explain(inputs, found, method.sources)
    if dense and args.report_index_recall:
        dense.report(args.recall_num)


if __name__ == "__main__":
    cli.run(main)
