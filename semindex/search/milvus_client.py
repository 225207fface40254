"""A connection to Milvus: what fails is told in one line, and a server that went away is waited for."""

import contextlib
import importlib.util
import logging
import os
import random
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from semindex import runtime
from semindex.errors import UserError
from semindex.search.milvus_settings import MilvusSettings

T = TypeVar("T")
FIRST = 10.0  # seconds for the first contact: a wrong address should not cost minutes
LONGEST = 5.0  # seconds between two tries
# Of a server that starts, stops or moves what it holds (merr's codes): not ready, unavailable, too many requests,
# internal, rate limit, not loaded; replicas, channels, segments and nodes that are not there yet; anything unexpected.
PASSING = {1, 2, 4, 5, 8, 101, 103, 202, 400, 401, 500, 501, 502, 503, 600, 601, 602, 603, 901, 902, 903, 904, 905,
           65535}
NOT_LOADED = (101, 103)
SLOW = ("flush", "load_collection")  # of a large collection minutes, of a server that is well
ONE_TRY = ("insert", "upsert", "delete", "search", "query", "get")
# Some servers give such answers the code of everything unexpected, or none.
LASTING_WORDS = ("auth", "permission", "invalid", "illegal", "not support", "exceed", "must be", "should be")


class _Causes(logging.Handler):
    """What Milvus Lite logs, with a traceback, where it only says that it failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception of a record."""
        if record.exc_info and record.exc_info[1]:
            self.found.append(record.exc_info[1])


class Connection:
    """One server, or one file of Milvus Lite; made at the first call. Threads may share it."""

    def __init__(self, settings: MilvusSettings) -> None:
        settings.check()
        self.settings = settings
        self._client: Any = None
        self.troubles = 0  # tries that got no answer so far

    def __str__(self) -> str:
        return f"Milvus at {self.settings.shown}"

    def _open(self) -> Any:
        try:
            from pymilvus import MilvusClient
        except ImportError:
            raise UserError("--index_type milvus needs pymilvus; bash scripts/setup.sh --milvus installs it") from None
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # `attempt` tells what matters of it
        if not self.settings.lite:
            return MilvusClient(self.settings.uri, token=self.settings.token, timeout=FIRST)
        if importlib.util.find_spec("milvus_lite") is None:
            raise UserError(f"--milvus_uri {self.settings.uri}: a file needs milvus-lite; bash scripts/setup.sh "
                            "--milvus installs it")
        os.makedirs(os.path.dirname(os.path.abspath(self.settings.uri)), exist_ok=True)
        logging.getLogger("grpc._server").setLevel(logging.CRITICAL)  # tells with a traceback what Lite does not have
        logger, causes = logging.getLogger("milvus_lite"), _Causes()
        logger.addHandler(causes)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        try:
            return MilvusClient(self.settings.uri)
        except Exception as error:  # see `client`
            cause = causes.found[-1] if causes.found else error
            raise UserError(f"--milvus_uri {self.settings.uri}: cannot be opened ({' '.join(str(cause).split())}); one "
                            "process at a time may use a Milvus Lite file") from None
        finally:
            logger.removeHandler(causes)
            logger.setLevel(logging.CRITICAL)

    @property
    def client(self) -> Any:
        """The client of pymilvus; UserError where there is no contact."""
        if self._client is None:
            began = time.monotonic()
            while self._client is None:
                try:
                    self._client = self._open()
                except UserError:
                    raise
                except Exception as error:  # of pymilvus, gRPC or milvus_lite: they share no base
                    if lasting(error) or time.monotonic() - began > min(FIRST, self.settings.timeout):
                        raise self.failure("cannot be reached", error) from None
                    time.sleep(0.5)
        return self._client

    def failure(self, what: str, error: Exception) -> UserError:
        """Return what pymilvus says as an error of one line."""
        message = self.settings.hide(str(getattr(error, "message", "") or error))
        message = re.sub(r"\[\w+\] Retry run out of 0 retry times, (message=)?|\[Errno \d+\] ", "", message)
        return UserError(f"{self}: {what} ({' '.join(message.split())[:300] or type(error).__name__})")

    def call(self, verb: str, *args: Any, again: str = "", **options: Any) -> Any:
        """Return what a method of pymilvus's client gives; see `attempt`.

        again: the method for further tries, where the first may have been done without an answer: upsert for insert.
        """
        names = iter([verb])

        def work(client: Any) -> Any:
            name = next(names, again or verb)
            # Its own tries would send an insert twice that the server took before it went away.
            seconds = self.settings.timeout * (5 if name in SLOW else 1)
            limits = {"retry_times": 0} if name in ONE_TRY or self.settings.lite else {"timeout": seconds}
            return getattr(client, name)(*args, **limits, **options)

        return self.attempt(verb, work, str(args[0]) if args else "")

    def attempt(self, what: str, work: Callable[[Any], T], collection: str = "") -> T:
        """Return work(client), done once more, with a growing pause, where the server went away.

        what, collection: what is done to what, for the messages. Raises UserError for what further tries do not mend,
        and after settings.timeout seconds.
        """
        deadline, pause = 0.0, 0.2
        while True:
            try:
                found = work(self.client)
                if deadline:
                    runtime.say(f"{self}: answers again")
                return found
            except UserError:
                if not deadline or time.monotonic() > deadline:  # else it is about to come back
                    raise
            except Exception as error:  # of pymilvus, gRPC or milvus_lite: they share no base
                if self.settings.lite or lasting(error):  # nothing comes back in a file
                    raise self.failure(f"{what} failed", error) from None
                self.troubles += 1
                now = time.monotonic()
                if deadline and now > deadline:
                    raise self.failure(f"{what} failed for {self.settings.timeout:.0f} s", error) from None
                if not deadline:
                    deadline = now + self.settings.timeout
                    runtime.warn(f"{self.failure(f'{what} failed, trying again', error)}")
                if code_of(error) in NOT_LOADED and collection:
                    with contextlib.suppress(Exception):  # the next try tells
                        self.client.load_collection(collection, _async=True)
                else:
                    self.close()  # a new connection: the old one may wait in a back-off of its own
            time.sleep(pause * random.uniform(0.5, 1))  # many clients of one server should not come back at once
            pause = min(2 * pause, LONGEST)

    def close(self) -> None:
        """End the connection; the next call makes another."""
        if self._client is not None:
            with contextlib.suppress(Exception):  # it may be gone
                self._client.close()
            self._client = None


def code_of(error: Exception) -> int:
    """Return the server's code of an error, 2 (unavailable) of a connection that failed, -1 of none."""
    code = getattr(error, "code", -1)
    code = code() if callable(code) else code
    if isinstance(code, int):
        return code
    return 2 if getattr(code, "name", "") in ("UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "UNKNOWN") else -1


def lasting(error: Exception) -> bool:
    """Tell whether an error stays however often one tries."""
    code = code_of(error)
    if code in (5, 65535) and any(word in str(error).lower() for word in LASTING_WORDS):
        return True
    return code not in PASSING
