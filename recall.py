"""Recall the nearest texts of a corpus for each query, through a vector index."""

from typing import Any

from semindex import cli, flags


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    flags.add_checkpoint(parser)
    flags.add_recall_inputs(parser)
    flags.add_typed(parser)
    flags.add_result_file(parser)
    flags.add_engine(parser)
    flags.add_bad_lines(parser)
    parser.add_argument("--recall_num", type=cli.positive_int, default=10, metavar="N",
                        help="texts to recall a query [10]")
    flags.add_index(parser)
    parser.add_argument("--index_dir", metavar="DIR", help="keep the index there and use it again [not kept]")
    parser.add_argument("--rebuild_index", action="store_true", help="replace the index of --index_dir")
    parser.add_argument("--report_index_recall", action="store_true",
                        help="compare the index with exact search on up to 1,000 queries")
    parser.writes("index_dir", role="directory")
    return parser


def main() -> None:
    """Encode, index, search, write."""
    args = parser().parse_args()
    flags.check_recall_inputs(args)
    from semindex import runtime

    runtime.start(args.device, args.seed)
    from ann_util import IndexSettings, check_directory, open_index, recall_of_index
    from models import loading
    from models.encoders import fast_encoder
    from semindex.encode.encoder import encode, report_cut, vector_file
    from semindex.search.by_hand import answer, read_typed
    from semindex.search.recall_files import pairs_of, read_inputs, write_results
    from semindex.text.counted import counted

    by_hand = bool(args.query or args.interactive)
    inputs = read_typed(args) if by_hand else None if args.queries_file else read_inputs(args)
    if args.index_dir:
        runtime.on_rank_0(lambda: check_directory(args.index_dir))
    model, tokenizer = loading.load(args.params_path, vars(args))
    runtime.say(f"Loaded parameters from {args.params_path}")
    inputs = inputs or read_inputs(args, tokenizer.separator)  # which the parts of a document are joined by
    queries, corpus = inputs.queries, inputs.corpus
    settings = IndexSettings.from_flags(args)
    fingerprint = loading.fingerprint(args.params_path, model, tokenizer)
    if args.engine == "int8":
        fingerprint += " int8"  # its vectors are not those of the other engines
    file = encoder = None
    if args.index_dir:
        file = vector_file(args.index_dir, model, corpus, f"{fingerprint} {corpus.fingerprint}")

    def encode_corpus() -> Any:
        nonlocal encoder
        encoder, _ = fast_encoder(model, tokenizer, args.engine, len(corpus) + len(queries), args.batch_size)
        return encode(encoder.side("passage"), corpus, "encode corpus", file)

    index = open_index(args.index_dir, corpus, encode_corpus, settings, fingerprint, args.corpus_file, len(queries),
                       args.rebuild_index, args.trust_files, file, model.dimension)
    if encoder is None:  # the index is used again: only the queries are to be encoded, which may pay for no export
        encoder, _ = fast_encoder(model, tokenizer, args.engine, len(queries), args.batch_size)
    if by_hand:
        answer(index, encoder, queries, args)
        return
    vectors = encode(encoder.side("query"), queries, "encode queries")
    report_cut(tokenizer)
    if index is None:
        return
    ids, scores = index.index.search(vectors, args.recall_num)
    write_results(args, inputs, pairs_of(ids, encoder.scores(scores)), "semantic_index")
    if args.report_index_recall:
        some = vectors[:1000]
        share = recall_of_index(index.index, some, args.recall_num)
        runtime.say(f"index recall@{args.recall_num} against exact search, {counted(len(some), 'query', 'queries')}: "
                    f"{share:.4f}")


if __name__ == "__main__":
    cli.run(main)
