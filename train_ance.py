"""Train an encoder by ANCE: against negatives that a search with the newest encoder ranks high."""

from semindex import cli, collection_flags, document_flags, flags


def parser() -> cli.Parser:
    """Return the command line."""
    parser = flags.training_parser(__doc__, learning_rate=1e-5, batch_size=32, epochs=10, needs_texts=False)
    collection_flags.add_collection(parser)
    group = collection_flags.add_mining(parser)
    collection_flags.add_guide(parser, group)
    group.add_argument("--train_negatives", type=cli.positive_int, default=1, metavar="N",
                       help="of them a pair meets in one step, drawn anew each time [1]")
    group.add_argument("--warmup", choices=["none", "bm25", "triples", "in_batch"], default="none",
                       help="the first generation: bm25, what keyword search finds; triples, the third column or grade "
                            "0; in_batch, other pairs' texts alone; none, what the encoder finds as it starts [none]")
    group.add_argument("--refresh_steps", type=cli.natural, default=1000, metavar="N",
                       help="steps between generations; 0: the first one stays, a warm-up alone [1000]")
    group.add_argument("--refresh", choices=["sync", "async"], default="sync",
                       help="sync: training pauses and makes the next generation itself; async: run_ann_data_gen.py "
                            "makes them from its checkpoints meanwhile [sync]")
    group = parser.add_argument_group("loss")
    document_flags.add_similarity(group)
    flags.add_scale(group, "20 for cosine, 1 for dot")
    group.add_argument("--in_batch", action="store_true", help="other pairs' texts are negatives too")
    document_flags.add_training(parser)
    return parser


def main() -> None:
    """Flags, data, head, one call."""
    args = parser().parse_args()
    document_flags.set_training(args)
    collection_flags.check_collection(args)
    from semindex import runtime

    runtime.warn_of(document_flags.passed_over(args))
    runtime.start(args.device, args.seed)
    from training.negatives import ance

    ance.run(args)


if __name__ == "__main__":
    cli.run(main)
