"""Texts to token ids in batches: the Rust tokenizers library where it gives paddlenlp's very ids, else paddlenlp."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from semindex.text.ragged import Ragged
from semindex.text.wordpiece import Vocabulary, WordPiece


def vocabulary_of(tokenizer: Any) -> Vocabulary | None:
    """Return what WordPiece needs to know of a paddlenlp tokenizer, None for one that splits in ways of its own."""
    # Subclasses may do so: only the two classes that were compared take the fast path.
    if type(tokenizer).__name__ not in ("BertTokenizer", "ErnieTokenizer"):
        return None
    basic = tokenizer.basic_tokenizer
    standard = (basic.tokenize_chinese_chars and basic.strip_accents is None and not tokenizer.added_tokens_encoder
                and getattr(tokenizer, "do_basic_tokenize", True))
    if not standard:
        return None
    return Vocabulary(dict(tokenizer.vocab.token_to_idx), basic.do_lower_case, tokenizer.unk_token,
                      tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token,
                      list(tokenizer.unique_no_split_tokens))


class TextTokenizer:
    """Callable from a sequence of texts to Ragged int32 ids, special tokens included, cut at max_seq_length.

    tokenizer: a paddlenlp tokenizer; its ids are given for every text, whichever path a text takes.
    """

    def __init__(self, tokenizer: Any, max_seq_length: int) -> None:
        self.tokenizer, self.max_seq_length = tokenizer, max_seq_length
        self.pad_id: int = tokenizer.pad_token_id
        self.vocabulary = vocabulary_of(tokenizer)
        self._fast = WordPiece(self.vocabulary, max_seq_length) if self.vocabulary else None
        self._cut = 0

    @property
    def lowercase(self) -> bool:
        """Whether texts lose their case."""
        return bool(getattr(self.tokenizer, "do_lower_case", False))

    @property
    def separator(self) -> str:
        """What stands between the parts of a text, as [SEP]; inside a text it is the special token."""
        return str(self.tokenizer.sep_token)

    @property
    def cut(self) -> int:
        """Texts seen so far that were as long as max_seq_length or longer."""
        return self._fast.cut if self._fast else self._cut

    def __call__(self, texts: Sequence[str]) -> Ragged:
        """Tokenise; an empty text gives the special tokens alone."""
        if self._fast is not None:
            return self._fast(texts)
        ids = [self.tokenizer(text, max_length=self.max_seq_length, truncation=True)["input_ids"] for text in texts]
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(row) for row in ids], out=starts[1:])
        self._cut += int((np.diff(starts) >= self.max_seq_length).sum())
        return Ragged(np.fromiter(itertools.chain.from_iterable(ids), np.int32, starts[-1]), starts)

    def save(self, directory: str) -> None:
        """Write the tokenizer's files as paddlenlp reads them."""
        self.tokenizer.save_pretrained(directory)
