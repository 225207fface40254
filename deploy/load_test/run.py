"""Put a service on this machine under load; print and draw what it answers.

    python deploy/load_test/run.py --faq_dir output/faq/served              rates at 1 to 128 users, cache on and off
    python deploy/load_test/run.py --faq_dir output/faq/served --overload   what a service must show beside them

It starts deploy/service/serve.py itself, with data of its own; variables SEMINDEX_* reach it. --url asks one that runs
on this machine for rates as it is.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.append(ROOT)
from semindex.cli import Parser, positive_float, positive_int, run  # noqa: E402

SHOW = {"overload": "twice the sustainable rate for --seconds: what is answered 200, 429, otherwise; p99",
        "memory": "--requests of mixed length: memory at the end against that after the first 10,000",
        "first": "the first request once ready against the median",
        "batching": "32 users, in batches against one by one",
        "search_cost": "--entries synthetic entries: /search against /encode of the same texts"}
SECONDS = {"overload": 600.0}


def parser() -> Parser:
    """Return the command line."""
    parser = Parser(__doc__)
    parser.add_argument("--faq_dir", metavar="DIR", help="what build_faq.py --model_dir wrote")
    parser.add_argument("--model_dir", metavar="DIR", help="an exported encoder [the FAQ's]")
    parser.add_argument("--url", help="a service on this machine that runs already")
    parser.add_argument("--texts", metavar="FILE", default=os.path.join(ROOT, "datasets", "faq_zh", "groups.tsv"),
                        help="what is asked: every column of every line is a text [datasets/faq_zh/groups.tsv]")
    parser.add_argument("--distinct", type=positive_int, default=1000, metavar="N",
                        help="how many of them: a cache holds them all, or none [1000]")
    parser.add_argument("--endpoint", choices=["search", "encode", "embeddings"], default="search",
                        help="which one gets the rates [search]")
    parser.add_argument("--users", type=positive_int, nargs="+", default=[1, 8, 32, 128], metavar="N",
                        help="[1 8 32 128]")
    parser.add_argument("--seconds", type=positive_float, metavar="S", help="of each figure [10; overload: 600]")
    parser.add_argument("--repeats", type=positive_int, default=5, metavar="N", help="turns of what is compared [5]")
    parser.add_argument("--requests", type=positive_int, default=200_000, metavar="N", help="of --memory [200000]")
    parser.add_argument("--samples", type=positive_int, default=200, metavar="N", help="of --first's median [200]")
    parser.add_argument("--entries", type=positive_int, default=100_000, metavar="N", help="of --search_cost [100000]")
    parser.add_argument("--keep_dir", metavar="DIR",
                        help="where --search_cost keeps its entries for another run [they are imported each time]")
    parser.add_argument("--picture", metavar="FILE", help="where to draw the rates: .png .svg .pdf")
    parser.add_argument("--output_file", metavar="FILE", help="where to write the figures as JSON")
    parser.add_argument("--log", default="", metavar="FILE", help="where the service's log goes [nowhere]")
    shown = parser.add_mutually_exclusive_group()
    for name, text in SHOW.items():
        shown.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=text)
    parser.reads("faq_dir", "model_dir", "texts")
    parser.writes("picture", "output_file")
    parser.writes("log", role="append")
    parser.writes("keep_dir", role="save")
    return parser


def rates(args: argparse.Namespace, flags: list[Any], texts: list[str]) -> list[dict[str, Any]]:
    """Return a row for each number of users, with the cache and without."""
    from deploy.load_test import driver
    from deploy.load_test.local import local

    rows = []

    def measure(address: str, cache: str) -> None:
        for users in args.users:
            asks = driver.forever(texts, args.endpoint)
            outcome = asyncio.run(driver.closed(address, asks, users, args.seconds))
            p50, p95, p99 = (round(value, 1) for value in outcome.milliseconds(50, 95, 99))
            rows.append({"users": users, "cache": cache, "requests/s": round(outcome.rate, 1), "p50, ms": p50,
                         "p95, ms": p95, "p99, ms": p99, "failures": outcome.others.total(),
                         "client, cores": round(outcome.client, 2)})
            print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)

    if args.url:
        measure(local(args.url), "as it is")
        return rows
    for cache, more in (("off", ["--cache_size", 0]), ("on", ["--cache_size", len(texts) + 1])):
        with driver.started(*flags, *more, log=args.log) as (address, _):
            if cache == "on":  # each text once, so that all are in it
                asks = driver.forever(texts, args.endpoint)
                asyncio.run(driver.closed(address, asks, 32, count=len(texts), steady=0))
            measure(address, cache)
    return rows


def main() -> None:
    """Ask, print, draw."""
    args = parser().parse_args()
    from semindex import pictures
    from semindex.errors import UserError
    from semindex.files import atomic_file
    from semindex.text.tables import read_rows

    if bool(args.url) == bool(args.faq_dir or args.model_dir):
        raise UserError("name either --faq_dir, --model_dir or both, or the --url of a service that runs")
    if args.url and args.mode:
        raise UserError(f"--{args.mode} starts services itself: give --faq_dir instead of --url")
    if args.picture:
        pictures.check_name(args.picture)
    rows = read_rows(args.texts, range(1, 1000), what="texts, tabs between them", may_lack=True)
    texts = list(dict.fromkeys(text for _, row in rows for text in row if text))[: args.distinct]
    if args.keep_dir and args.mode != "search_cost":
        raise UserError("--keep_dir goes with --search_cost alone: what else is measured begins without entries")
    args.seconds = args.seconds or SECONDS.get(args.mode, 10.0)
    with tempfile.TemporaryDirectory() as args.scratch:
        # A name of our own: the entries of a service that somebody uses are not added to.
        flags = ["--data_dir", os.path.join(args.keep_dir or args.scratch, "load_test")]
        flags += [word for name in ("faq_dir", "model_dir") for word in (f"--{name}", getattr(args, name)) if
                  getattr(args, name)]
        if args.mode:
            from deploy.load_test.modes import MODES

            found: Any = MODES[args.mode](args, flags, texts)
            print("\n".join(f"{name}: {value}" for name, value in found.items()))
        else:
            found = rates(args, flags, texts)
    if args.picture and not args.mode:
        pictures.load(found, args.picture)
    if args.output_file:
        with atomic_file(args.output_file) as file:
            file.write(json.dumps(found, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
