"""Train an encoder on text pairs with margin ranking: lines of text<TAB>text, optionally <TAB>mined negative."""

from semindex import cli, collection_flags, flags
from semindex.errors import UserError


def parser() -> cli.Parser:
    """Return the command line."""
    parser = flags.training_parser(__doc__, learning_rate=5e-5, batch_size=32, epochs=10)
    group = parser.add_argument_group("loss")
    group.add_argument("--margin", type=cli.real, default=0.2,
                       help="by which the positive's cosine should exceed a negative's [0.2]")
    group.add_argument("--negatives", choices=["hardest", "semi_hard", "random"], default="hardest",
                       help="hardest: the most similar texts of other pairs; semi_hard: the most similar one below "
                            "the positive; random: any one, the recipe's Baseline [hardest]")
    group.add_argument("--hardest", type=cli.positive_int, default=1, metavar="K",
                       help="how many of the hardest to rank against [1]")
    collection_flags.add_guide(parser, group)
    return parser


def main() -> None:
    """Flags, data, head, one call."""
    args = parser().parse_args()
    if args.hardest > 1 and args.negatives != "hardest":
        raise UserError(f"--hardest {args.hardest} contradicts --negatives {args.negatives}; leave one out")
    from semindex import runtime

    runtime.start(args.device, args.seed)
    from models.heads.hardest_negative import HardestNegative
    from training import setup

    setup.check_save_dir(args)
    samples = setup.read_samples(args, columns=(2, 3))
    setup.train_head(args, samples, HardestNegative(args.margin, args.negatives, args.hardest))


if __name__ == "__main__":
    cli.run(main)
