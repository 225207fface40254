"""Texts to vectors, many: windows sorted by length, the next one tokenised meanwhile, every process its share."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from semindex import runtime
from semindex.encode.text_encoder import TextEncoder
from semindex.encode.vector_file import VectorFile
from semindex.errors import UserError
from semindex.text.corpus import Corpus
from semindex.text.counted import counted, verb
from semindex.text.ragged import Ragged
from semindex.text.tokenizer import TextTokenizer

# Texts that are tokenised and sorted by length at once. The number does not depend on the processes, so that
# every batch, and with it every vector, is the same for any number of them.
WINDOW = 1024


class Wide(Protocol):
    """What has vectors of one width: an encoder, or a model that is to become one."""

    @property
    def dimension(self) -> int:
        """Width of the vectors."""


def vector_file(path: str, encoder: Wide, texts: Sized, key: str) -> VectorFile:
    """Return the file that takes the vectors of texts. key: of the encoder, its engine and the texts."""
    return VectorFile(path, len(texts), encoder.dimension, f"{key} {WINDOW}")


def tokens_ahead(windows: Iterable[Any], tokenizer: Callable[[Any], Ragged]) -> Iterator[Ragged]:
    """Yield the tokens of each window; the next one is tokenised in a thread meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        waiting: Future[Ragged] | None = None
        for window in windows:
            coming = thread.submit(tokenizer, window)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()


def encode(encoder: TextEncoder, texts: Corpus | Ragged | Sequence[str], title: str = "encode",
           file: VectorFile | None = None) -> np.ndarray:
    """Return the vectors of all texts on rank 0, float32 [texts, dimension]; the ranks share the work.

    texts: as they are, or as token ids. Every rank must call it with the same texts; the others get an array of no
    rows. file: where given, the vectors go there, and what a killed run wrote is not computed again; they come back
    memory-mapped, still under the file's temporary name. Raises UserError for vectors that are not finite.
    """
    cut = texts.slice if isinstance(texts, (Corpus, Ragged)) else lambda start, stop: texts[start:stop]
    tokenizer = (lambda tokens: tokens) if isinstance(texts, Ragged) else encoder.tokenizer
    ranks, rank = runtime.world_size(), runtime.rank()
    windows = list(range(0, len(texts), WINDOW))
    if file is not None:
        runtime.on_rank_0(file.prepare)
        done = runtime.share(file.done() if rank == 0 else None)
        if done:
            runtime.say(f"{title}: {sum(min(start + WINDOW, len(texts)) - start for start in done)} of {len(texts)} "
                        f"texts of {file.path} are there already")
        windows = [start for start in windows if start not in done]
    vectors = np.empty([len(texts) if rank == 0 and file is None else 0, encoder.dimension], np.float32)
    own = tokens_ahead((cut(start, min(start + WINDOW, len(texts))) for start in windows[rank::ranks]),
                       tokenizer)
    with runtime.progress(len(texts), "text", title) as bar:
        bar.update(len(texts) - sum(min(WINDOW, len(texts) - start) for start in windows))
        for turn in range(0, len(windows), ranks):
            starts = windows[turn : turn + ranks]
            counts = [min(WINDOW, len(texts) - start) for start in starts] + [0] * (ranks - len(starts))
            block = np.empty([0, encoder.dimension], np.float32)
            if rank < len(starts):
                block = encoder.of_tokens(next(own))
                _check_finite(block, len(texts))
            if file is not None:
                if rank < len(starts):
                    file.write(starts[rank], block)
            else:
                for start, part in zip(starts, runtime.gather_rows(block, counts)):
                    if rank == 0:
                        vectors[start : start + len(part)] = part
            bar.update(sum(counts))
    if file is not None:
        file.flush()
        runtime.barrier()
        return file.vectors() if rank == 0 else vectors
    return vectors


def report_cut(tokenizer: TextTokenizer) -> None:
    """Say how many of the texts encoded so far were as long as max_seq_length or longer. Every rank calls it."""
    counts = runtime.gather_rows(np.array([[tokenizer.cut]], np.float32), [1] * runtime.world_size())
    cut = int(sum(count.item() for count in counts))
    if cut:
        runtime.warn(f"{counted(cut, 'text')} {verb(cut, 'reaches', 'reach')} --max_seq_length "
                     f"{tokenizer.max_seq_length}: what is longer was cut")


def _check_finite(vectors: np.ndarray, texts: int) -> None:
    bad = len(vectors) - int(np.isfinite(vectors).all(axis=1).sum())
    if bad:
        raise UserError(f"the encoder gives no finite vector for {bad} of {len(vectors)} texts (of {texts}): "
                        "the checkpoint is damaged, or its training went wrong")
