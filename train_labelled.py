"""Train an encoder on labelled pairs: lines of text<TAB>text<TAB>label, 1 for a match and 0 for none, or a grade."""

from semindex import cli, flags


def parser() -> cli.Parser:
    """Return the command line."""
    parser = flags.training_parser(__doc__, learning_rate=5e-5, batch_size=32, epochs=3)
    group = parser.add_argument_group("loss")
    group.add_argument("--loss", default="contrastive",
                       choices=["contrastive", "online_contrastive", "multiple_negatives", "cosine", "hinge", "cosent"],
                       help="the first two read labels of 0 and 1, multiple_negatives and hinge 0 to 1, cosine -1 to "
                            "1, cosent any number [contrastive]")
    group.add_argument("--margin", type=cli.nonnegative,
                       help="of contrastive and online_contrastive: the distance, 1 - cosine, from which pairs that do "
                            "not match are let be; of hinge: by how much the order of two pairs must hold [0.5]")
    group.add_argument("--form", choices=["document", "sentence_transformers"],
                       help="of contrastive and online_contrastive: plain distances and means, or squared ones and the "
                            "hardest pairs; the other losses have one form [document]")
    group.add_argument("--skip_equal", action="store_true",
                       help="of hinge: leave pairs with equal labels out, which add a constant and no gradient")
    flags.add_scale(group, "20, of multiple_negatives and cosent")
    group.add_argument("--balanced", action="store_true",
                       help="as many pairs with a label above 0 as others in each batch; the rarer kind is repeated")
    return parser


def main() -> None:
    """Flags, data, head, one call."""
    args = parser().parse_args()
    from semindex import runtime

    runtime.start(args.device, args.seed)
    from training import labelled, setup

    setup.check_save_dir(args)
    head = labelled.head(args)
    samples, labels = labelled.read_samples(args, head)
    setup.train_head(args, samples, head, labels, labelled.evaluation)


if __name__ == "__main__":
    cli.run(main)
