"""An encoder without a file, for tests of what stands around one: a character a token, vectors of the tokens alone."""

import numpy as np

from semindex.encode.text_encoder import TextEncoder
from semindex.text.ragged import Ragged

WIDTH = 8


class Characters:
    """A tokenizer: a character a token."""

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
