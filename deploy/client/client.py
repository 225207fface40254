"""A client of the service: bert-as-service's encode, and search. One file, standard library only: copy it.

    from client import Client
    vectors = Client("http://127.0.0.1:8000").encode(["卡丢了怎么办", "忘记密码"])
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

PART = 256  # texts a request; the service takes 1024


class ServiceError(Exception):
    """The service refused a request, or did not answer. status: of the answer, 0 where there was none."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}" if status else text)
        self.status = status


class Client:
    """The service at a url. key: where it asks for one; tries: how often to ask where it has too much to do."""

    def __init__(self, url: str, key: str | None = None, timeout: float = 30.0, tries: int = 5) -> None:
        self.url, self.timeout, self.tries = url.rstrip("/"), timeout, tries
        self.headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})

    def encode(self, texts: Sequence[str] | Sequence[list[str]], is_tokenized: bool = False) -> list[list[float]]:
        """Return a vector a text, as many numbers each as the encoder is wide; numpy.array() makes a matrix of them.

        is_tokenized: each text is a list of its tokens. Raises ValueError for what is no list of texts, ServiceError.
        """
        kind = list if is_tokenized else str
        if isinstance(texts, str) or not texts or not all(isinstance(text, kind) and text for text in texts):
            raise ValueError(f"texts: a list of {'lists of tokens' if is_tokenized else 'texts'}, none of them empty")
        found = list[list[float]]()
        for start in range(0, len(texts), PART):
            part = list(texts[start : start + PART])
            answer = self.call("POST", "/encode", {"id": start, "texts": part, "is_tokenized": is_tokenized})
            if not isinstance(answer, dict) or not isinstance(answer.get("result"), list):
                raise ServiceError(200, f"{self.url}/encode: does not answer as bert-as-service does")
            found += answer["result"]
        return found

    def search(self, query: str | Sequence[str], top: int = 3, method: str | None = None) -> Any:
        """Return the reply to a query, or of a list of them a list: state, confidence, hits, best first.

        method: dense, keyword or hybrid; None for the one that was calibrated. Raises ServiceError.
        """
        body = {"query": query if isinstance(query, str) else list(query), "top": top}
        answer = self.call("POST", "/search", body | ({"method": method} if method else {}))
        if not isinstance(answer, dict) or not isinstance(answer.get("replies"), list):
            raise ServiceError(200, f"{self.url}/search: is no service of this project")
        return answer["replies"][0] if isinstance(query, str) else answer["replies"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON that the service answers; asked again after Retry-After where it has too much to do, or is
        about to start. Raises ServiceError."""
        data = None if body is None else json.dumps(body).encode()
        for turn in range(self.tries):
            try:
                request = urllib.request.Request(self.url + path, data, self.headers, method=method)
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                wait = error.headers.get("Retry-After")
                if error.code not in (429, 503) or not wait or turn == self.tries - 1:
                    raise ServiceError(error.code, _said(error)) from None
                time.sleep(min(60.0, float(wait)) if wait.isdigit() else 1.0)
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = getattr(error, "reason", error)
                raise ServiceError(0, f"{self.url}{path}: no answer of the service ({reason})") from None
        raise AssertionError("unreachable: the last turn returns or raises")


def _said(error: urllib.error.HTTPError) -> str:
    text = error.read().decode("utf-8", "replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text[:200] or str(error.reason)
