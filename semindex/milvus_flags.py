"""Flags of an index that is kept in Milvus. Standard library only."""

from semindex.cli import Parser, number


def add_milvus(parser: Parser) -> None:
    """`--milvus_uri` and what goes with it; see search.milvus_settings."""
    group = parser.add_argument_group("milvus (an index in a vector database; docs/milvus.md)")
    group.add_argument("--milvus_uri", metavar="URI",
                       help="a file that ends in .db (Milvus Lite), or http://HOST:PORT of a server [$MILVUS_URI]")
    group.add_argument("--milvus_token", metavar="TOKEN",
                       help="user:password or a key; better in the environment, where no list of processes shows it "
                            "[$MILVUS_TOKEN]")
    group.add_argument("--milvus_collection", metavar="NAME",
                       help="the alias that the index is found under; its collections begin with it [semindex]")
    group.add_argument("--milvus_timeout", type=number(float, 0.001, 86_400, "a number of seconds up to 86400"),
                       metavar="SECONDS",
                       help="how long a server that went away is waited for [120]")
    group.add_argument("--milvus_full_text", choices=["auto", "never"],
                       help="auto: the keyword part of --method hybrid is Milvus's own BM25 where it has one (Lite, "
                            "2.5 and later), else ours [auto]")
    parser.writes("milvus_uri", role="shared")
