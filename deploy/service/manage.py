"""Run a service from a shell: take a new encoder live, go back, see what is live, fetch the thumbs.

    manage.py activate MODEL     build its generation, compare, go live; status 1 where it is refused
    manage.py rollback           back to the generation before
    manage.py generations        what is live, and how far a new one is
    manage.py feedback           thumbs for train_labelled.py, with --pairs for train_batch_neg.py
"""

import contextlib
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
# In a clone the library is two directories up; where the wheel is installed, that one is taken.
sys.path.append(os.path.join(HERE, "..", ".."))
from semindex.cli import Parser, positive_float, run  # noqa: E402
from semindex.errors import UserError  # noqa: E402
from semindex.files import atomic_file  # noqa: E402

ENDED = ("live", "refused", "failed")


def parser() -> Parser:
    """Return the command line."""
    parser = Parser(__doc__)
    parser.add_argument("command", choices=["activate", "rollback", "generations", "feedback"])
    parser.add_argument("model", nargs="?", help="of activate: the name of an export beside the live one's")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="[http://127.0.0.1:8000]")
    parser.add_argument("--key", default=os.environ.get("SEMINDEX_WRITE_KEY", ""), metavar="KEY",
                        help="of who writes [the variable SEMINDEX_WRITE_KEY]")
    parser.add_argument("--force", action="store_true", help="of activate: live even where it is worse")
    parser.add_argument("--pairs", action="store_true", help="of feedback: thumbs up alone, as pairs")
    parser.add_argument("--output_file", metavar="FILE", help="of feedback [printed]")
    parser.add_argument("--timeout", type=positive_float, default=3600.0, metavar="S",
                        help="seconds to wait for a new generation [3600]")
    parser.writes("output_file")
    return parser


def ask(args: Any, method: str, path: str, body: Any = None) -> str:
    """Return what the service answers; UserError with its error."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "X-API-Key": args.key}
    try:
        request = urllib.request.Request(args.url.rstrip("/") + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode("utf-8")
    except urllib.error.HTTPError as error:
        text = error.read().decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):  # what stands before the service may answer too
            text = str(json.loads(text)["error"])
        raise UserError(f"{args.url}{path}: {error.code}: {' '.join(text.split())[:200]}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(f"--url {args.url}: does not answer ({error})") from None


def generations(args: Any) -> dict[str, Any]:
    """Return what is live and how far a new generation is."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        about = json.loads(ask(args, "GET", "/admin/generations"))
        if isinstance(about["new"]["state"], str):
            return about
    raise UserError(f"--url {args.url}: is no service of this project")


def wait(args: Any) -> int:
    """Tell how far the new generation is until it has ended; return the status."""
    limit, told = time.monotonic() + args.timeout, ""
    while True:
        new = generations(args)["new"]
        line = json.dumps(new, ensure_ascii=False)
        if line != told:
            print(line, flush=True)
            told = line
        if new["state"] in ENDED:
            return 0 if new["state"] == "live" else 1
        if new["state"] == "idle":
            raise UserError("the service was started anew meanwhile, and the new generation is lost; begin it again")
        if time.monotonic() > limit:
            raise UserError(f"not live after {args.timeout:g} seconds; it goes on, see manage.py generations")
        time.sleep(0.5)


def main() -> int:
    """Ask the service; return the status."""
    args = parser().parse_args()
    if (args.command == "activate") != bool(args.model):
        raise UserError("activate MODEL: name one export" if not args.model else f"{args.command} takes no MODEL")
    if args.command == "generations":
        print(json.dumps(generations(args), ensure_ascii=False, indent=1))
        return 0
    if args.command == "feedback":
        rows = ask(args, "GET", f"/feedback/export?form={'pairs' if args.pairs else 'labelled'}")
        if args.output_file:
            with atomic_file(args.output_file) as file:
                file.write(rows)
        else:
            sys.stdout.write(rows)
        return 0
    body = {"model": args.model, "force": args.force} if args.model else {}
    ask(args, "POST", f"/admin/{args.command}", body)
    return wait(args)


if __name__ == "__main__":
    run(lambda: (status := main()) and sys.exit(status))
