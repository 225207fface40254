"""Make generations of negatives for train_ance.py --refresh async, from its newest checkpoint, until it ends."""

from semindex import cli, collection_flags, document_flags, flags
from semindex.errors import UserError


def parser() -> cli.Parser:
    """Return the command line."""
    parser = cli.Parser(__doc__)
    flags.add_device(parser)
    parser.add_argument("--training_dir", "--save_dir", dest="training_dir", metavar="DIR",
                        help="the training's --save_dir: its newest checkpoint is used")
    parser.add_argument("--init_model_dir", "--init_from_ckpt", "--params_path", dest="init_model_dir", metavar="PATH",
                        help="use this checkpoint once, and end; with --training_dir: until the training has one")
    parser.add_argument("--data_dir", metavar="DIR", help="the tokenised collection [TRAINING_DIR/collection]")
    parser.add_argument("--poll_seconds", type=cli.positive_float, default=1.0,
                        help="between looks for a new checkpoint [1]")
    parser.add_argument("--end_ann_step", type=cli.natural, default=0, metavar="N",
                        help="end after a checkpoint of step N or later; 0: when the training ends [0]")
    flags.add_engine(parser)
    collection_flags.add_guide(parser, collection_flags.add_mining(parser))
    flags.add_index(parser)
    group = parser.add_argument_group("vectors instead of negatives")
    group.add_argument("--inference", action="store_true",
                       help="write the vectors of all passages and queries with their ids into --output_dir, and end")
    group.add_argument("--output_dir", metavar="DIR",
                       help="directory of --inference, made anew; without --inference the same as --ann_dir")
    document_flags.add_generator(parser)
    flags.add_trust(parser)
    parser.reads("init_model_dir", "data_dir")
    parser.writes("output_dir", role="directory")
    return parser


def main() -> None:
    """Watch, encode, search, publish; or encode and write."""
    args = parser().parse_args()
    if not (args.training_dir or args.init_model_dir):
        raise UserError("give --training_dir, or --init_model_dir for one checkpoint")
    if args.inference and not args.output_dir:
        raise UserError("--inference and --output_dir go together")
    if not args.inference:
        args.ann_dir = args.ann_dir or args.output_dir
    if not args.training_dir and not args.data_dir:
        raise UserError("--init_model_dir needs --data_dir, or --training_dir beside it")
    from semindex import runtime

    runtime.warn_of(document_flags.passed_over(args))
    runtime.start(args.device, args.seed)
    from training.negatives import generator

    generator.write_vectors(args) if args.inference else generator.watch(args)


if __name__ == "__main__":
    cli.run(main)
