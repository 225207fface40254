"""Flags of scripts that search in several ways: which encoder, keyword search, method. Standard library only."""

from semindex.cli import Parser, fraction, nonnegative, positive_int
from semindex.flags import add_engine, add_truncation, add_trust


def add_either_encoder(parser: Parser, kept: str = "") -> None:
    """`--params_path` or `--model_dir`, and how to run it; see models.either. kept: what the help says of neither."""
    group = parser.add_mutually_exclusive_group(required=not kept)
    group.add_argument("--params_path", metavar="PATH", help=f"the encoder, a checkpoint directory{kept}")
    group.add_argument("--model_dir", metavar="DIR", help=f"the encoder, as export_model.py wrote it{kept}")
    parser.reads("params_path", "model_dir")
    add_truncation(parser)
    add_engine(parser)
    add_trust(parser)


def add_keyword(parser: Parser) -> None:
    """Flags of keyword search."""
    parser.add_argument("--tokens", choices=["bigram", "word"], default="bigram",
                        help="of keyword search; bigram: characters and pairs of neighbours; word: words by jieba "
                             "[bigram]")
    parser.add_argument("--k1", type=nonnegative, default=1.5,
                        help="of keyword search, saturation of term frequency [1.5]")
    parser.add_argument("--b", type=fraction, default=0.75, help="of keyword search, weight of text length [0.75]")


def add_keyword_dir(parser: Parser) -> None:
    """`--keyword_dir`, see search.kept_keyword."""
    parser.add_argument("--keyword_dir", metavar="DIR",
                        help="keep the keyword index there and use it again [not kept]")
    parser.writes("keyword_dir", role="directory")


def add_method(parser: Parser) -> None:
    """`--method` and its fusion; None where not given, see search.methods.method_of."""
    group = parser.add_argument_group("method")
    group.add_argument("--method", choices=["dense", "keyword", "hybrid"],
                       help="dense: by vectors; keyword: by BM25; hybrid: both, fused [what --calibration says, else "
                            "dense]")
    group.add_argument("--calibration", metavar="FILE", help="what calibrate.py chose: method, fusion and weights")
    group.add_argument("--fusion", choices=["rrf", "minmax", "zscore"],
                       help="of hybrid; rrf: reciprocal ranks; minmax, zscore: weighted sums of scores [rrf]")
    group.add_argument("--fusion_weights", type=nonnegative, nargs=2, metavar=("DENSE", "KEYWORD"),
                       help="of hybrid [1 1]")
    group.add_argument("--rrf_k", type=nonnegative, metavar="K", help="of rrf, added to each rank [60]")
    group.add_argument("--fusion_depth", type=positive_int, metavar="N",
                       help="texts asked of each source, at least [100]")
    add_keyword(parser)
    parser.reads("calibration")
