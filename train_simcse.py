"""Train an encoder on texts alone with SimCSE, a text a line; or on pairs, or text, entailed and contradicting text."""

from semindex import cli, flags
from semindex.errors import UserError


def parser() -> cli.Parser:
    """Return the command line."""
    parser = flags.training_parser(__doc__, learning_rate=5e-5, batch_size=32, epochs=1, max_seq_length=128)
    parser.usual("dropout", 0.1)  # the two views differ by it alone, whatever the encoder was made with
    group = parser.add_argument_group("loss")
    group.add_argument("--margin", type=cli.real, default=0.0, help="taken off the positive's cosine [0]")
    flags.add_scale(group, "20")
    group.add_argument("--infer_with_fc_pooler", action="store_true",
                       help="vectors go through the pooler's layer at inference too; left out, it serves training only "
                            "and [CLS] is taken as it is (with a linear layer behind, in training as well)")
    return parser


def main() -> None:
    """Flags, data, head, one call."""
    args = parser().parse_args()
    from semindex import runtime

    runtime.start(args.device, args.seed)
    from models.heads.simcse import SimCSE
    from training import setup

    setup.check_save_dir(args)
    samples = setup.read_samples(args, columns=(1, 2, 3))
    if len(samples[0]) == 1 and not (args.dropout or args.head_dropout):
        raise UserError("--dropout 0: the two views of a text would be the same; 0.1 is usual")
    setup.train_head(args, samples, SimCSE(args.margin, flags.scale_of(args, 20.0)))


if __name__ == "__main__":
    cli.run(main)
