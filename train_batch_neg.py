"""Train an encoder on text pairs with in-batch negatives: lines of text<TAB>text, optionally <TAB>hard negative."""

from semindex import cli, collection_flags, flags


def parser() -> cli.Parser:
    """Return the command line."""
    parser = flags.training_parser(__doc__, learning_rate=5e-5, batch_size=32, epochs=10)
    group = parser.add_argument_group("loss")
    group.add_argument("--margin", type=cli.real, default=0.2, help="taken off the positive's cosine [0.2]")
    flags.add_scale(group, "30")
    group.add_argument("--symmetric", action="store_true", help="recall queries from positives as well")
    group.add_argument("--false_negative_gap", type=cli.real, metavar="G",
                       help="mask negatives whose cosine is above the positive's by more than G [off]")
    collection_flags.add_guide(parser, group)
    return parser


def main() -> None:
    """Flags, data, head, one call."""
    args = parser().parse_args()
    from semindex import runtime

    runtime.start(args.device, args.seed)
    from models.heads.in_batch_negative import InBatchNegative
    from training import setup

    setup.check_save_dir(args)
    samples = setup.read_samples(args, columns=(2, 3))
    setup.train_head(args, samples, InBatchNegative(args.margin, flags.scale_of(args, 30.0), args.symmetric,
                                                    args.false_negative_gap))


if __name__ == "__main__":
    cli.run(main)
