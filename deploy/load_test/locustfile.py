"""The service under Locust: mostly searches, some vectors, now and then a thumb.

    locust -f deploy/load_test/locustfile.py --host http://127.0.0.1:8000 \\
        --headless --users 32 --spawn-rate 32 --run-time 30s

TEXTS names a file of texts, tabs or line ends between them; KEY is sent where the service asks for one.
"""

import os
import random
import sys
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant, events, task

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT))
from deploy.load_test.local import local  # noqa: E402

FILE = Path(os.environ.get("TEXTS", ROOT / "datasets" / "faq_zh" / "groups.tsv"))
TEXTS = [text for text in FILE.read_text(encoding="utf-8").replace("\n", "\t").split("\t") if text.strip()]
HEADERS = {"X-API-Key": os.environ["KEY"]} if os.environ.get("KEY") else {}


@events.init.add_listener
def _only_here(environment: Any, **_: Any) -> None:
    if environment.host:
        local(environment.host)


class Visitor(FastHttpUser):
    """Somebody who asks again as soon as the last answer is there; 429 is an answer, not a failure."""

    wait_time = constant(0)

    def _ask(self, path: str, content: dict[str, Any], wanted: int = 200) -> None:
        with self.client.post(path, json=content, headers=HEADERS, catch_response=True) as answer:
            if answer.status_code in (wanted, 429):
                answer.success()
            else:
                answer.failure(f"{answer.status_code}: {answer.text}")

    @task(16)
    def search(self) -> None:
        """One question."""
        self._ask("/search", {"query": random.choice(TEXTS)})

    @task(3)
    def encode(self) -> None:
        """Vectors of a few texts."""
        self._ask("/encode", {"texts": random.choices(TEXTS, k=8)})

    @task(1)
    def thumb(self) -> None:
        """What a user says of a hit."""
        query, question = random.choices(TEXTS, k=2)
        self._ask("/feedback", {"query": query, "question": question, "label": random.randrange(2)}, 201)
