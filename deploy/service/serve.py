"""Serve a FAQ over HTTP: search, vectors, entries that can be changed while it runs.

Every flag is a variable too: SEMINDEX_ and its name in capitals, SEMINDEX_PORT=9000 for --port 9000.
"""

import argparse
import json
import logging
import os
import sys
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
# In a clone the library is two directories up; where the wheel is installed, that one is taken.
sys.path.append(os.path.join(HERE, "..", ".."))
from semindex.cli import Parser, natural, number, positive_float, positive_int, run  # noqa: E402

PORT = number(int, 0, 65_535, "a whole number from 0 to 65535")
KEYS = ("read_key", "write_key")


def parser() -> Parser:
    """Return the command line; what a variable says is the default."""
    parser = Parser(__doc__)
    parser.add_argument("--faq_dir", metavar="DIR",
                        help="what build_faq.py --model_dir wrote: the first entries, and the encoder where "
                             "--model_dir names none")
    parser.add_argument("--model_dir", metavar="DIR", help="the encoder, as export_model.py wrote it")
    parser.add_argument("--data_dir", required=True, metavar="DIR",
                        help="where entries (entries.sqlite) and snapshots are kept; made where it is not there")
    parser.add_argument("--calibration", metavar="FILE",
                        help="what calibrate.py wrote; '' for none [FAQ_DIR.calibration.json, where it is there]")
    parser.add_argument("--host", default="127.0.0.1", help="[127.0.0.1: this machine alone]")
    parser.add_argument("--port", type=PORT, default=8000, metavar="N", help="0: any that is free [8000]")
    parser.add_argument("--engine", choices=["auto", "static", "onnx", "int8"], default="auto",
                        help="auto: onnx where the export has it [auto]")
    parser.add_argument("--cpu_threads", type=positive_int, default=os.cpu_count() or 1, metavar="N",
                        help="[all cores]")
    parser.add_argument("--rebuild_after", type=positive_int, default=2000, metavar="N",
                        help="questions that came or went before the index is built anew, beside the searches [2000]")
    parser.add_argument("--cache_size", type=natural, default=10_000, metavar="N",
                        help="vectors of queries to keep [10000]")
    parser.add_argument("--cache_seconds", type=positive_float, default=3600.0, metavar="S", help="how long [3600]")
    parser.add_argument("--max_waiting", type=positive_int, default=4096, metavar="N",
                        help="texts that may wait; who comes then is told 429 [4096]")
    parser.add_argument("--timeout", type=positive_float, default=10.0, metavar="S",
                        help="seconds a request may take [10]")
    parser.add_argument("--grace", type=positive_float, default=10.0, metavar="S",
                        help="seconds that a stop may take [10]")
    parser.add_argument("--max_body", type=positive_int, default=4 << 20, metavar="BYTES",
                        help="of a request [4194304]")
    parser.add_argument("--read_key", default="", metavar="KEY", help="asked of who reads [none]")
    parser.add_argument("--write_key", default="", metavar="KEY", help="asked of who changes entries [the read key]")
    parser.add_argument("--trust_files", action="store_true", help="do not compare the checksums of FAQ and export")
    parser.reads("faq_dir", "model_dir")
    parser.writes("data_dir", role="save")  # one process at a time: each would search without the other's changes
    _from_environment(parser)
    return parser


def _from_environment(parser: Parser) -> None:
    """Let variables give the defaults, checked as flags are."""
    for action in parser._actions:
        value = os.environ.get(f"SEMINDEX_{action.dest.upper()}")
        if value is None or action.dest == "help":
            continue
        action.required = False
        if isinstance(action, argparse._StoreTrueAction):
            action.default = value.lower() in ("1", "true", "yes")
        elif action.choices and value not in action.choices:  # which argparse asks of what is typed alone
            parser.error(f"SEMINDEX_{action.dest.upper()}={value}: expected one of {', '.join(action.choices)}")
        else:
            action.default = value  # argparse converts defaults that are texts as it does what is typed


def build(args: argparse.Namespace) -> Any:
    """Return the application that the flags ask for; UserError where something is not there or does not fit."""
    from deploy.service.app import Limits, create
    from deploy.service.cache import Cache
    from deploy.service.serving import Service
    from semindex import runtime
    from semindex.encode.exported import Predictor, exported_fingerprint
    from semindex.errors import UserError
    from semindex.faq.asking import open_faq

    faq = calibration = None
    if args.faq_dir:
        faq, calibration, _ = open_faq(args)
        if not args.model_dir and faq.encoder["kind"] != "export":
            raise UserError(f"{args.faq_dir}: was built with a checkpoint; the service runs an export: name it with "
                            "--model_dir, or build the FAQ with build_faq.py --model_dir")
    elif args.calibration:
        raise UserError("--calibration needs --faq_dir, the FAQ that it was made for")
    path = args.model_dir or (faq.encoder["path"] if faq else None)
    if not path:
        raise UserError("name the encoder with --model_dir, or a FAQ with --faq_dir")
    engine = args.engine
    if engine == "auto":
        engine = "onnx" if os.path.isfile(os.path.join(path, "model.onnx")) else "static"
    encoder = Predictor(path, "cpu", "paddle" if engine == "static" else "onnx", "int8" if engine == "int8" else "fp32",
                        args.cpu_threads, None, None, args.trust_files)
    fingerprint = exported_fingerprint(path) + " int8" * (engine == "int8")
    if calibration and faq and fingerprint != faq.encoder["fingerprint"]:
        runtime.warn(f"the calibration was made with another encoder than {path}; it is left out")
        calibration = None
    service = Service(args.data_dir, encoder, fingerprint, calibration, args.rebuild_after,
                      Cache(args.cache_size, args.cache_seconds), args.max_waiting, args.timeout,
                      faq.keyword.settings if faq else None)
    limits = Limits(args.timeout, args.max_body, args.read_key, args.write_key)
    return create(service, faq.entries if faq else (), limits, args.grace)


class JsonLines(logging.Formatter):
    """A line of JSON a record; texts of users stand in none."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        row = {"at": self.formatTime(record), "level": record.levelname, "from": record.name,
               "text": record.getMessage()}
        if record.exc_info:
            row["error"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False)


def main() -> None:
    """Open, listen, serve until told to stop."""
    args = parser().parse_args()
    app = build(args)
    import socket

    import uvicorn

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)  # paddle's libraries have set up their own
    logging.getLogger().handlers[0].setFormatter(JsonLines())
    listener = socket.socket(socket.AF_INET6 if ":" in args.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((args.host, args.port))
    shown = f"[{args.host}]" if ":" in args.host else args.host
    print(f"http://{shown}:{listener.getsockname()[1]}", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, server_header=False,
                                           timeout_graceful_shutdown=int(args.grace) + 1, timeout_keep_alive=15))
    server.run(sockets=[listener])


if __name__ == "__main__":
    run(main)
