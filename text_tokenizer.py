"""Texts to token ids in batches: the Rust tokenizers library where it gives paddlenlp's very ids, else paddlenlp."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from data import Ragged

# Characters that the Rust and the Python splitting treat alike. tests/test_tokenizer.py tries every one of them;
# outside they differ here and there (the Unicode tables are of different years), so such texts, emoji of the
# last years or Indic scripts for example, go through paddlenlp's own tokenizer.
PLAIN = (
    "\t\u0020-\u007e\u00a0-\u00b1\u00b3\u00b4\u00b6-\u00b9\u00bb-\u0149\u014c-\u024f\u2010-\u2027\u2030-\u205e"
    "\u20a0-\u20bf\u2100-\u218b\u2190-\u23ff\u2460-\u27bf\u3000-\u3006\u3008-\u3029\u3030-\u303f\u3041-\u3096"
    "\u30a0-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uff01-\uff60\uffe0-\uffe6\U0001f300-\U0001f64f"
    "\U0001f680-\U0001f6c5\U0001f900-\U0001f9ff"
)


def rust_wordpiece(vocab: dict[str, int], lowercase: bool, unk: str, cls: str, sep: str, max_length: int) -> Any:
    """Build the `tokenizers.Tokenizer` that splits and truncates as paddlenlp's BERT and ERNIE tokenizers do."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    rust = Tokenizer(models.WordPiece(vocab, unk_token=unk, max_input_chars_per_word=100))
    rust.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    # paddlenlp also splits at symbols beyond ASCII, ￥ and → for example
    symbols = pre_tokenizers.Split(Regex(r"\p{S}"), "isolated")
    rust.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), symbols])
    rust.post_processor = processors.BertProcessing((sep, vocab[sep]), (cls, vocab[cls]))
    rust.enable_truncation(max_length)
    return rust


class TextTokenizer:
    """Callable from a sequence of texts to Ragged int32 ids, special tokens included, cut at max_seq_length.

    tokenizer: a paddlenlp tokenizer; its ids are given for every text, whichever path a text takes.
    """

    def __init__(self, tokenizer: Any, max_seq_length: int) -> None:
        self.tokenizer, self.max_seq_length = tokenizer, max_seq_length
        self.pad_id: int = tokenizer.pad_token_id
        self._rust = None
        # Subclasses split in ways of their own: only the two classes that were compared take the fast path.
        if type(tokenizer).__name__ in ("BertTokenizer", "ErnieTokenizer") and self._is_standard():
            vocab = dict(tokenizer.vocab.token_to_idx)
            self._rust = rust_wordpiece(vocab, tokenizer.basic_tokenizer.do_lower_case, tokenizer.unk_token,
                                        tokenizer.cls_token, tokenizer.sep_token, max_seq_length)
            specials = "|".join(re.escape(token) for token in tokenizer.all_special_tokens)
            self._unusual = re.compile(f"[^{PLAIN}\n]|{specials}")

    def _is_standard(self) -> bool:
        basic = self.tokenizer.basic_tokenizer
        return (basic.tokenize_chinese_chars and basic.strip_accents is None and not self.tokenizer.added_tokens_encoder
                and getattr(self.tokenizer, "do_basic_tokenize", True))

    def __call__(self, texts: Sequence[str]) -> Ragged:
        """Tokenise; an empty text gives the special tokens alone."""
        if self._rust is None:
            ids = [self._slow(text) for text in texts]
        else:
            ids = [encoding.ids for encoding in self._rust.encode_batch_fast(texts)]
            if self._unusual.search("\n".join(texts)):
                for i, text in enumerate(texts):
                    if self._unusual.search(text):
                        ids[i] = self._slow(text)
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(row) for row in ids], out=starts[1:])
        flat = np.fromiter(itertools.chain.from_iterable(ids), np.int32, starts[-1])
        return Ragged(flat, starts)

    def _slow(self, text: str) -> list[int]:
        return self.tokenizer(text, max_length=self.max_seq_length, truncation=True)["input_ids"]

    def save(self, directory: str) -> None:
        """Write the tokenizer's files as paddlenlp reads them."""
        self.tokenizer.save_pretrained(directory)
