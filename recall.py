"""Recall the nearest texts of a corpus for each query, through a vector index."""

import os

import options


def parser() -> options.Parser:
    """Return the command line."""
    parser = options.Parser(__doc__)
    options.add_device(parser)
    options.add_checkpoint(parser)
    parser.add_argument("--corpus_file", required=True, metavar="FILE", help="texts to recall from, one a line")
    options.add_pairs(parser)
    options.add_result_file(parser)
    options.add_batch_size(parser, 32)
    options.add_bad_lines(parser)
    parser.add_argument("--recall_num", type=options.positive_int, default=10, metavar="N",
                        help="texts to recall a query [10]")
    options.add_index(parser)
    parser.add_argument("--index_dir", metavar="DIR", help="keep the index there and use it again [not kept]")
    parser.add_argument("--rebuild_index", action="store_true", help="replace the index of --index_dir")
    parser.add_argument("--report_index_recall", action="store_true",
                        help="compare the index with exact search on up to 1,000 queries")
    parser.add_argument("--trec_run_file", metavar="FILE",
                        help="write a TREC run too; ids are line numbers of the queries and texts, from 1")
    return parser


def main() -> None:
    """Encode, index, search, write."""
    args = parser().parse_args()
    import data
    import runtime
    from ann_util import HnswIndex, IndexSettings, recall_of_index

    runtime.start(args.device, args.seed)
    import metrics
    from encoder import check_finite, encode
    from models import semantic_index
    from retrieval import open_index, ranked

    pairs, lines = data.read_table(args.similar_text_pair_file, (1, 2, 3), args.skip_bad_lines)
    queries = list(data.group_pairs(pairs))
    corpus, corpus_lines = data.read_corpus(args.corpus_file, args.skip_bad_lines)
    runtime.say(f"{args.similar_text_pair_file}: {len(queries)} queries{lines.notes()}")
    doubles = len(corpus.inverse) - len(corpus)
    runtime.say(f"{args.corpus_file}: {len(corpus)} texts" + f", {doubles} duplicates left out" * (doubles > 0)
                + corpus_lines.notes())
    if len(corpus) < args.recall_num:
        runtime.warn(f"--recall_num {args.recall_num}: the corpus has only {len(corpus)} texts, all are recalled")
    model, tokenizer = semantic_index.load(args.params_path, vars(args))
    runtime.say(f"Loaded parameters from {args.params_path}")
    settings = IndexSettings.from_flags(args)
    index = open_index(args.index_dir, corpus,
                       lambda: encode(model, tokenizer, corpus, args.batch_size, "encode corpus"), settings,
                       semantic_index.fingerprint(args.params_path), args.corpus_file, args.rebuild_index)
    vectors = encode(model, tokenizer, queries, args.batch_size, "encode queries")
    if index is None:
        return
    check_finite(vectors, args.params_path)
    ids, scores = index.index.search(vectors, args.recall_num)
    os.makedirs(args.recall_result_dir, exist_ok=True)
    path = os.path.join(args.recall_result_dir, args.recall_result_file)
    count = metrics.write_recall_result(path, ranked(queries, ids, scores, index.corpus))
    runtime.say(f"{path}: {count} lines, {ids.shape[1]} a query")
    if args.trec_run_file:
        metrics.write_trec_run(args.trec_run_file, index.corpus.first_rows()[ids], scores)
    if args.report_index_recall and isinstance(index.index, HnswIndex):
        some = vectors[:1000]
        share = recall_of_index(index.index, index.index.exact(), some, args.recall_num)
        runtime.say(f"index recall@{args.recall_num} against exact search, {len(some)} queries: {share:.4f}")


if __name__ == "__main__":
    options.run(main)
