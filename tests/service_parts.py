"""Parts of the service for tests: an encoder without files, and what is built on it."""

from types import SimpleNamespace

import numpy as np

from deploy.service import live as lives
from deploy.service.serving import Service
from semindex.encode.text_encoder import TextEncoder
from semindex.text.ragged import Ragged

WIDTH = 8


class Characters:
    """A tokenizer without a file: a character a token."""

    pad_id, max_seq_length, prompt, cut = 0, 64, "", 0

    def __call__(self, texts):
        rows = [[1 + ord(c) % 997 for c in text] for text in texts]
        return Ragged(np.array([i for row in rows for i in row], np.int32), np.cumsum([0, *map(len, rows)]))

    def prompted(self, _):
        return self


def run(ids):
    """Vectors that depend on the tokens alone, not on the batch."""
    rows = np.where(ids[:, :, None] > 0, np.sin(ids[:, :, None] * np.arange(1, WIDTH + 1)), 0).sum(axis=1).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def encoder(run=run, **more):
    return TextEncoder(run, Characters(), WIDTH, **more)


def index_of(entries):
    """An index built at once."""
    live = lives.Live.empty("f", WIDTH)
    changes = [SimpleNamespace(number=n, id=id, entry=entry) for n, (id, entry) in enumerate(sorted(entries.items()), 1)]
    live.apply(changes, run(Characters()([t for _, e in sorted(entries.items()) for t in e.questions]).pad(
        np.arange(sum(len(e.questions) for e in entries.values())), 0)) if entries else np.empty([0, WIDTH], np.float32))
    return live


def found(live, queries, method):
    vectors = run(Characters()(queries).pad(np.arange(len(queries)), 0))
    fused, _, _ = live.search(queries, vectors, method, 5)
    return [[(int(i), round(float(s), 5)) for i, s in zip(row, scores) if i >= 0] for row, scores in zip(fused.ids, fused.scores)]


def service_of(tmp_path, run=run, **more):
    return Service(str(tmp_path / "data"), encoder(run), "f", **more)
