"""Texts to vectors: length-sorted windows, batches of similar length, every process its share."""

import os
from collections.abc import Sequence

import numpy as np
import paddle

import runtime
from data import Corpus
from models.semantic_index import SemanticIndex
from text_tokenizer import TextTokenizer

# Texts that are tokenised and sorted by length at once. The number does not depend on the processes, so that
# every batch, and with it every vector, is the same for any number of them.
WINDOW = 2048
BATCH = 64  # larger batches are slower on a CPU: 512 texts at once ran at a third of the speed of 64


def encode_texts(model: SemanticIndex, tokenizer: TextTokenizer, texts: Sequence[str], batch_size: int) -> np.ndarray:
    """Return the unit vectors of some texts, float32 [texts, dimension], in their order; dropout is off."""
    vectors = np.empty([len(texts), model.dimension], np.float32)
    training = model.training
    model.eval()
    tokens = tokenizer(texts)
    with paddle.no_grad():
        chunks, order = tokens.padded_chunks(np.arange(len(texts)), batch_size, tokenizer.pad_id)
        done = [model(paddle.to_tensor(chunk)).numpy() for chunk in chunks]
    if done:
        vectors[:] = np.concatenate(done)[order]
    if training:
        model.train()
    return vectors


def encode(model: SemanticIndex, tokenizer: TextTokenizer, texts: Corpus | Sequence[str], batch_size: int,
           title: str = "encode") -> np.ndarray:
    """Return the unit vectors of all texts on rank 0, float32 [texts, dimension]; the ranks share the work.

    Every rank must call it with the same texts; the others get an array of no rows.
    """
    cut = texts.slice if isinstance(texts, Corpus) else lambda start, stop: texts[start:stop]
    ranks, rank = runtime.world_size(), runtime.rank()
    vectors = np.empty([len(texts) if rank == 0 else 0, model.dimension], np.float32)
    with runtime.progress(len(texts), "text", title) as bar:
        for start in range(0, len(texts), WINDOW * ranks):
            edges = np.minimum(start + WINDOW * np.arange(ranks + 1), len(texts))
            own = cut(edges[rank], edges[rank + 1]) if edges[rank] < edges[rank + 1] else []
            blocks = runtime.gather_rows(encode_texts(model, tokenizer, own, batch_size), np.diff(edges).tolist())
            if rank == 0:
                vectors[start : edges[-1]] = np.concatenate(blocks)
            bar.update(int(edges[-1]) - start)
    return vectors


def report_cut(tokenizer: TextTokenizer) -> None:
    """Say how many of the texts encoded so far were as long as max_seq_length or longer. Every rank calls it."""
    counts = runtime.gather_rows(np.array([[tokenizer.cut]], np.float32), [1] * runtime.world_size())
    cut = int(sum(count.item() for count in counts))
    if cut:
        runtime.warn(f"{cut} text{'s' * (cut > 1)} reach --max_seq_length {tokenizer.max_seq_length}: "
                     "what is longer was cut")


def check_finite(vectors: np.ndarray, path: str) -> None:
    """Raise UserError where an encoder gave something else than numbers."""
    from options import UserError

    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise UserError(f"{os.fspath(path)}: the encoder gives no finite vector for {len(bad)} of {len(vectors)} texts")
