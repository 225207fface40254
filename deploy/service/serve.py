"""Serve a FAQ over HTTP: search, vectors, entries that can be changed while it runs.

Every flag is a variable too: SEMINDEX_ and its name in capitals, SEMINDEX_PORT=9000 for --port 9000.
"""

import argparse
import contextlib
import json
import logging
import logging.handlers
import os
import queue
import signal
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# In a clone the library is two directories up; where the wheel is installed, that one is taken.
sys.path.append(os.path.join(HERE, "..", ".."))
from deploy.service.workers import Supervisor, Worker, address, listening  # noqa: E402
from semindex import flags  # noqa: E402
from semindex.cli import Parser, fraction, natural, nonnegative, number, positive_float, positive_int, run  # noqa: E402
from semindex.errors import UserError  # noqa: E402

PORT = number(int, 0, 65_535, "a whole number from 0 to 65535")

REQUESTS = 2 / 3  # of the grace: for requests; the rest is for what is being computed
TRUE, FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


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
    parser.add_argument("--cpu_threads", type=positive_int, metavar="N", help="of a worker [its share of all cores]")
    parser.add_argument("--batch_size", type=positive_int, metavar="N",
                        help="texts encoded at once [as many as a budget of tokens holds]")
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
    parser.add_argument("--cors_origins", nargs="*", default=[], metavar="URL",
                        help="pages of other hosts that may ask, http://host:port each [none]")
    parser.add_argument("--allowed_hosts", nargs="*", default=[], metavar="NAME",
                        help="names that a service without keys may be asked by, of a proxy before it for instance "
                             "[where --host is this machine: localhost, 127.0.0.1, ::1; else any]")
    parser.add_argument("--log_texts", action="store_true", help="log what is asked, with state and hits [no texts]")
    parser.add_argument("--workers", type=positive_int, default=1, metavar="N",
                        help="processes behind the port; more than one imply --supervise [1]")
    parser.add_argument("--supervise", action="store_true", help="start the service again whenever it dies")
    flags.add_truncation(parser)
    flags.add_index(parser)
    group = parser.add_argument_group("new encoders")
    group.add_argument("--dev_file", metavar="FILE",
                       help="question<TAB>question of the FAQ: what a new encoder is compared and calibrated on")
    group.add_argument("--precision", type=fraction, default=0.95, help="wanted of a new encoder's answers [0.95]")
    group.add_argument("--models_dir", metavar="DIR", help="exports that may go live [where --model_dir lies]")
    group.add_argument("--watch_models", type=nonnegative, default=0.0, metavar="S",
                       help="look for a new export there every so many seconds; 0: wait for /admin/activate [0]")
    parser.add_argument("--trust_files", action="store_true", help="do not compare the checksums of FAQ and export")
    parser.reads("faq_dir", "model_dir", "dev_file", "models_dir")
    if not Worker.from_environment():  # whose parent holds it
        parser.writes("data_dir", role="save")  # one service at a time: each would search without the other's changes
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
            if value.lower() not in (*TRUE, *FALSE):
                parser.error(f"SEMINDEX_{action.dest.upper()}={value}: expected true or false")
            action.default = value.lower() in TRUE
        elif action.choices and value not in action.choices:  # which argparse asks of what is typed alone
            parser.error(f"SEMINDEX_{action.dest.upper()}={value}: expected one of {', '.join(action.choices)}")
        elif action.nargs == "*":
            action.default = value.split()
        else:
            action.default = value  # argparse converts defaults that are texts as it does what is typed


class JsonLines(logging.Formatter):
    """A line of JSON a record; texts of users stand in none."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        row = {"at": self.formatTime(record), "level": record.levelname, "from": record.name,
               "text": record.getMessage()} | getattr(record, "fields", {})
        if record.exc_info:
            row["error"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False)


class Waiting(logging.handlers.QueueHandler):
    """Hands records to a thread that writes them: who reads the log slowly holds no request up, and loses lines."""

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record, unless too many wait."""
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(record)


def start_log() -> logging.handlers.QueueListener:
    """Have every logger write JSON lines to standard error; return what is stopped at the end."""
    writer = logging.StreamHandler(sys.stderr)
    writer.setFormatter(JsonLines())
    waiting = Waiting(queue.Queue(10_000))
    waiting.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[waiting], force=True)  # paddle's libraries have set up their own
    logging.getLogger("httpx").setLevel(logging.WARNING)
    listener = logging.handlers.QueueListener(waiting.queue, writer)
    listener.start()
    return listener


def main() -> None:
    """Open, listen, serve until told to stop."""
    args, worker = parser().parse_args(), Worker.from_environment()
    for name in ("read_key", "write_key"):
        if not all("!" <= sign <= "~" for sign in getattr(args, name)):
            raise UserError(f"--{name}: not every header carries such characters; take ASCII letters, digits and signs")
    if worker is None and (args.workers > 1 or args.supervise):
        listener = listening(args.host, args.port)
        print(address(listener, args.host), flush=True)
        sys.exit(Supervisor(os.path.abspath(__file__), args.workers, listener, args.grace).run())
    sockets = worker.sockets() if worker else [listening(args.host, args.port)]  # before what takes a while
    from deploy.service.opening import build

    args.cpu_threads = args.cpu_threads or max(1, (os.cpu_count() or 1) // args.workers)
    service, app = build(args, worker)
    import uvicorn
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    from deploy.service.guard import hasty

    log = start_log()
    if not worker:
        print(address(sockets[0], args.host), flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, server_header=False, backlog=2048,
                                           http=hasty(AutoHTTPProtocol, args.timeout), timeout_keep_alive=15,
                                           timeout_graceful_shutdown=max(1, int(args.grace * REQUESTS))))
    try:
        server.run(sockets=sockets)
    finally:
        log.stop()
        if service.rebuilding:  # a snapshot that is half written is nobody's; its thread would hold up the end
            sys.stderr.flush()
            os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    run(main)
