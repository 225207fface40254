"""Documents longer than the encoder reads, cut into passages."""

import numpy as np

from semindex.errors import UserError
from semindex.text.ragged import Ragged
from semindex.text.tokenizer import TextTokenizer


class Splitter:
    """Texts' tokens into passages of `length` tokens, at most `chunks` a text; each begins with the prompt.

    tokenizer: to be used for the texts: it keeps as many tokens as the passages hold. Raises UserError where the
    prompt leaves no room in a passage.
    """

    def __init__(self, tokenizer: TextTokenizer, prompt: str, length: int, chunks: int) -> None:
        self.length, self.chunks = length, chunks
        # The ids of a text without words, and how many of them begin every text, whatever follows the prompt.
        probe = tokenizer.with_length(8192).prompted(prompt)
        rows = [row.flat.tolist() for row in map(probe, ([""], ["a"], ["的"], ["1"], ["。"]))]
        self.alone = np.array(rows[0], np.int32)
        ends = [row[:-1] for row in rows]
        self.head = next((place for place, several in enumerate(zip(*ends)) if len(set(several)) > 1),
                         min(map(len, ends)))
        if length < self.head + 2:
            raise UserError(f"--max_seq_length {length}: the passage's prompt and the special tokens alone take "
                            f"{self.head + 1}")
        self.tokenizer = tokenizer.with_length(chunks * (length - self.head - 1) + self.head + 1).prompted(prompt)

    def split(self, tokens: Ragged) -> tuple[Ragged, np.ndarray]:
        """Return the passages and how many each text has, int64 [texts]; a text without words has none.

        A passage has the first tokens ([CLS] and the prompt) and the last one ([SEP]) of its text.
        """
        head, room = self.head, self.length - self.head - 1
        inner = tokens.lengths - head - 1
        counts = np.minimum(-(-np.maximum(inner, 0) // room), self.chunks)
        counts[self._without_words(tokens)] = 0
        text = np.repeat(np.arange(len(tokens)), counts)
        number = np.arange(len(text)) - np.repeat(np.cumsum(counts) - counts, counts)
        sizes = np.minimum(room, inner[text] - number * room)
        starts = np.concatenate([[0], np.cumsum(sizes + head + 1)])
        flat = np.empty(starts[-1], np.int32)
        for place in range(head):
            flat[starts[:-1] + place] = tokens.flat[tokens.starts[text] + place]
        flat[starts[1:] - 1] = tokens.flat[tokens.starts[text + 1] - 1]
        offset = np.repeat(np.cumsum(sizes) - sizes, sizes)
        step = np.arange(sizes.sum()) - offset
        source = np.repeat(tokens.starts[text] + head + number * room, sizes) + step
        flat[np.repeat(starts[:-1] + head, sizes) + step] = tokens.flat[source]
        return Ragged(flat, starts), counts

    def _without_words(self, tokens: Ragged) -> np.ndarray:
        rows = np.flatnonzero(tokens.lengths == len(self.alone))
        ids = tokens.flat[tokens.starts[rows][:, None] + np.arange(len(self.alone))]
        return rows[(ids == self.alone).all(1)]
