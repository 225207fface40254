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

Texts = Corpus | Ragged | Sequence[str]
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


def share_of(count: int, part: int, parts: int) -> slice:
    """Return the rows of a part of `count` texts: whole windows, one part behind the other, about as many each."""
    windows = -(-count // WINDOW)
    first, last = (min(WINDOW * (windows * number // parts), count) for number in (part, part + 1))
    return slice(first, last)


def _windows(encoder: TextEncoder, texts: Texts, starts: Sequence[int], stop: int) -> Iterator[np.ndarray]:
    """Yield the vectors of the window at each start. Raises UserError for vectors that are not finite."""
    cut = texts.slice if isinstance(texts, (Corpus, Ragged)) else lambda start, stop: texts[start:stop]
    tokenizer = (lambda tokens: tokens) if isinstance(texts, Ragged) else encoder.tokenizer
    for tokens in tokens_ahead((cut(start, min(start + WINDOW, stop)) for start in starts), tokenizer):
        block = encoder.of_tokens(tokens)
        _check_finite(block, len(texts))
        yield block


def _without(starts: Sequence[int], done: set[int], stop: int, title: str, file: VectorFile) -> list[int]:
    """Return the windows that are still to be encoded, and say how many texts a killed run has encoded."""
    there = sum(min(WINDOW, stop - start) for start in starts if start in done)
    if there:
        runtime.say(f"{title}: {there} of {file.count} texts of {file.path} are there already")
    return [start for start in starts if start not in done]


def encode_rows(encoder: TextEncoder, texts: Texts, rows: slice, title: str = "encode",
                file: VectorFile | None = None) -> np.ndarray:
    """Return the vectors of some of the texts, float32 [rows, dimension]; this process alone, whatever others do.

    rows: from a window's beginning, see share_of. file: of these rows alone, see encode.
    """
    starts, size = list(range(rows.start, rows.stop, WINDOW)), rows.stop - rows.start
    if file is not None:
        file.prepare()
        starts = _without(starts, {rows.start + start for start in file.done()}, rows.stop, title, file)
    vectors = np.empty([size if file is None else 0, encoder.dimension], np.float32)
    with runtime.progress(size, "text", title) as bar:
        bar.update(size - sum(min(WINDOW, rows.stop - start) for start in starts))
        for start, block in zip(starts, _windows(encoder, texts, starts, rows.stop)):
            place = start - rows.start
            if file is None:
                vectors[place : place + len(block)] = block
            else:
                file.write(place, block)
            bar.update(len(block))
    if file is None:
        return vectors
    file.flush()
    return file.vectors()


def encode(encoder: TextEncoder, texts: Texts, title: str = "encode", file: VectorFile | None = None) -> np.ndarray:
    """Return the vectors of all texts on rank 0, float32 [texts, dimension]; the ranks share the work.

    texts: as they are, or as token ids. Every rank must call it with the same texts; the others get an array of no
    rows. file: where given, the vectors go there, and what a killed run wrote is not computed again; they come back
    memory-mapped, still under the file's temporary name. Ranks that do not see rank 0's file, on boxes with disks of
    their own, send it their vectors. Raises UserError for vectors that are not finite.
    """
    ranks, rank = runtime.world_size(), runtime.rank()
    windows, sent = list(range(0, len(texts), WINDOW)), file is None
    if file is not None:
        runtime.on_rank_0(file.prepare)
        sent = not _all_see(file)
        done = runtime.share(file.done() if rank == 0 else None)
        windows = _without(windows, done, len(texts), title, file)
    vectors = np.empty([len(texts) if rank == 0 and file is None else 0, encoder.dimension], np.float32)
    own = _windows(encoder, texts, windows[rank::ranks], len(texts))
    with runtime.progress(len(texts), "text", title) as bar:
        bar.update(len(texts) - sum(min(WINDOW, len(texts) - start) for start in windows))
        for turn in range(0, len(windows), ranks):
            starts = windows[turn : turn + ranks]
            counts = [min(WINDOW, len(texts) - start) for start in starts] + [0] * (ranks - len(starts))
            block = next(own) if rank < len(starts) else np.empty([0, encoder.dimension], np.float32)
            if file is not None and not sent:
                if rank < len(starts):
                    file.write(starts[rank], block)
            else:
                for start, part in zip(starts, runtime.gather_rows(block, counts)):
                    if rank > 0:
                        break
                    if file is not None:
                        file.write(start, part)
                    else:
                        vectors[start : start + len(part)] = part
            bar.update(sum(counts))
    if file is not None:
        if rank == 0 or not sent:
            file.flush()
        runtime.barrier()
        return file.vectors() if rank == 0 else vectors
    return vectors


def _all_see(file: VectorFile) -> bool:
    """Tell whether every process sees rank 0's file: whether they have one file system."""
    if runtime.world_size() == 1:
        return True
    name = runtime.on_rank_0(file.mark)
    seen = runtime.gather_rows(np.array([[file.has_mark(name)]], np.float32), [1] * runtime.world_size())
    runtime.on_rank_0(lambda: file.remove_mark(name))
    return all(bool(one.item()) for one in seen)


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
