"""Rank a collection's documents for its queries, or given candidates, into a TREC run."""

from semindex import cli, collection_flags, flags
from semindex.errors import UserError


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    flags.add_checkpoint(parser)
    collection_flags.add_collection(parser, training=False)
    parser.add_argument("--candidates_file", metavar="FILE",
                        help="rank these only: lines of query<TAB>document (ids), or a TREC run [all documents]")
    parser.add_argument("--run_file", required=True, metavar="FILE", help="the TREC run to write")
    parser.add_argument("--depth", type=cli.positive_int, default=1000, metavar="N",
                        help="documents a query [1000]")
    flags.add_engine(parser)
    flags.add_bad_lines(parser)
    flags.add_index(parser)
    parser.reads("candidates_file")
    parser.writes("run_file")
    return parser


def main() -> None:
    """Tokenise, encode, rank, write."""
    args = parser().parse_args()
    if not (args.corpus_file and args.queries_file):
        raise UserError("give --corpus_file and --queries_file")
    from semindex import runtime

    runtime.start(args.device, args.seed)
    import contextlib
    import os

    import numpy as np

    from models import loading
    from models.encoders import fast_encoder
    from semindex.collection import sources, store
    from semindex.collection.ranking import check_candidates, make_ranker
    from semindex.directories import temporary_directory
    from semindex.measure.trec import ordered
    from semindex.search.index import IndexSettings
    from semindex.search.recall_files import check_outputs
    from semindex.text import trec
    from semindex.text.counted import counted

    runtime.on_rank_0(lambda: check_outputs(args.run_file))
    model, tokenizer = loading.load(args.params_path, vars(args))
    runtime.say(f"Loaded parameters from {args.params_path}")
    args.qrels_file = args.dev_queries_file = args.dev_qrels_file = None
    candidates = None
    if args.candidates_file:
        candidates = trec.read_candidates(args.candidates_file, args.skip_bad_lines)
    material = sources.of_trec(args)
    if candidates is not None:
        runtime.on_rank_0(lambda: check_candidates(material, candidates, args.candidates_file))
    data_from = sources.tokenised_as(material, args, model.settings)
    with contextlib.ExitStack() as stack:
        directory = args.data_dir
        if not directory:
            directory = runtime.share(stack.enter_context(temporary_directory()) if runtime.rank() == 0 else "")
            directory = os.path.join(directory, "collection")
        collection = store.prepare(directory, data_from, tokenizer)
        encoder, _ = fast_encoder(model, tokenizer, args.engine, collection.about.passages, args.batch_size)
        queries = np.arange(collection.about.queries)
        ranker = make_ranker(collection, encoder, queries, IndexSettings.from_flags(args))

        def write() -> None:
            run = ranker.run(queries, min(args.depth, collection.about.documents), candidates)
            shown = ((query, dict(zip(row, encoder.scores(np.array(list(row.values()))).tolist())))
                     for query, row in run.items())
            rows = ((query, [(name, row[name]) for name in ordered(row)]) for query, row in shown)
            lines = trec.write_run(args.run_file, rows, "semantic_index")
            runtime.say(f"{args.run_file}: {counted(lines, 'line')}")

        ranker.on_rank_0(write)


if __name__ == "__main__":
    cli.run(main)
