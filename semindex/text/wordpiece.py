"""BERT's and ERNIE's WordPiece by the Rust tokenizers library, with the very ids of paddlenlp's tokenizers."""

import json
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from semindex.text.tokenizer import TextTokenizer
from semindex.text.tokenizer_file import FileTokenizer

VOCABULARY = "vocabulary.json"  # of an exported directory
# Characters that the Rust and the Python splitting treat alike. tests/test_tokenizer.py tries every one of them;
# outside they differ here and there (the Unicode tables are of different years), so such texts, emoji of the
# last years or Indic scripts for example, are split in Python.
PLAIN = (
    "\t\u0020-\u007e\u00a0-\u00b1\u00b3\u00b4\u00b6-\u00b9\u00bb-\u0149\u014c-\u024f\u2010-\u2027\u2030-\u205e"
    "\u20a0-\u20bf\u2100-\u218b\u2190-\u23ff\u2460-\u27bf\u3000-\u3006\u3008-\u3029\u3030-\u303f\u3041-\u3096"
    "\u30a0-\u30ff\u3400-\u4dbf\u4e00-\u9ffc\uff01-\uff60\uffe0-\uffe6\U0001f300-\U0001f64f"
    "\U0001f680-\U0001f6c5\U0001f900-\U0001f978\U0001f97a-\U0001f9cb\U0001f9cd-\U0001f9ff"
)
HAN = re.compile("([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf"
                 "\U0002f800-\U0002fa1f])")
# Letters that paddlenlp sets apart as if they were symbols.
SET_APART = frozenset("\u00ad\u00b2\u00ba\u3007\u00b5\u00d8\u014b\u01b1")


@dataclass
class Vocabulary:
    """What a WordPiece tokenizer is: its tokens' ids, whether it lowercases, and its special tokens.

    special: those of them that are recognised within a text.
    """

    ids: dict[str, int]
    lowercase: bool = True
    unk: str = "[UNK]"
    cls: str = "[CLS]"
    sep: str = "[SEP]"
    pad: str = "[PAD]"
    special: list[str] = field(default_factory=list)


def split_words(text: str, lowercase: bool) -> list[str]:
    """Split a text into words, symbols and Chinese characters as BERT's basic tokenizer does, accents removed."""
    clean = "".join(" " if c in "\t\n\r" or kind == "Zs" else c
                    for c, kind in ((c, unicodedata.category(c)) for c in text)
                    if c in "\t\n\r" or not (kind[0] == "C" or c == "\ufffd"))
    words: list[str] = []
    for word in HAN.sub(r" \1 ", clean).split():
        if lowercase:
            # letter by letter, as paddlenlp does: Python's own lower() knows the sigma at the end of a word
            word = unicodedata.normalize("NFD", "".join(c.lower() for c in word))
            word = "".join(c for c in word if unicodedata.category(c) != "Mn")
        pieces = "".join(f" {c} " if _stands_alone(c) else c for c in word)
        words.extend(pieces.split())
    return words


def _stands_alone(c: str) -> bool:
    ascii_mark = c.isascii() and not c.isalnum() and c.isprintable() and c != " "
    return ascii_mark or unicodedata.category(c)[0] in "PS" or c in SET_APART


class WordPiece(TextTokenizer):
    """BERT's and ERNIE's tokenizer, see TextTokenizer."""

    def __init__(self, vocabulary: Vocabulary, max_seq_length: int) -> None:
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

        super().__init__(max_seq_length, vocabulary.ids[vocabulary.pad])
        self.vocabulary, self.separator = vocabulary, vocabulary.sep
        ids = vocabulary.ids

        def tokenizer() -> Any:
            return Tokenizer(models.WordPiece(ids, unk_token=vocabulary.unk, max_input_chars_per_word=100))

        self.rust = tokenizer()
        self.rust.normalizer = normalizers.BertNormalizer(lowercase=vocabulary.lowercase)
        # paddlenlp also splits at symbols beyond ASCII, ￥ and → for example
        symbols = pre_tokenizers.Split(Regex(r"\p{S}"), "isolated")
        self.rust.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), symbols])
        ends = (vocabulary.sep, ids[vocabulary.sep]), (vocabulary.cls, ids[vocabulary.cls])
        self.rust.post_processor = processors.BertProcessing(*ends)
        self.rust.enable_truncation(max_seq_length)
        self.words = tokenizer()  # of words that are split already
        special = "|".join(re.escape(token) for token in sorted(vocabulary.special, key=len, reverse=True))
        self.special = re.compile(f"({special})") if special else None
        self.unusual = re.compile(f"[^{PLAIN}\n]" + (f"|{special}" if special else ""))

    def with_length(self, max_seq_length: int) -> "WordPiece":
        """See TextTokenizer."""
        return WordPiece(self.vocabulary, max_seq_length)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """See TextTokenizer."""
        ids = [encoding.ids for encoding in self.rust.encode_batch_fast(texts)]
        if self.unusual.search("\n".join(texts)):
            for i, text in enumerate(texts):
                if self.unusual.search(text):
                    ids[i] = self.split_in_python(text)
        return ids

    def split_in_python(self, text: str) -> list[int]:
        """Return a text's ids by the slower way, which knows every character and special tokens within the text."""
        vocabulary, found = self.vocabulary, list[int]()
        for part in self.special.split(text) if self.special else [text]:
            if part in vocabulary.special:
                found.append(vocabulary.ids[part])
            elif words := split_words(part, vocabulary.lowercase):
                found.extend(self.words.encode(words, is_pretokenized=True, add_special_tokens=False).ids)
        ids = vocabulary.ids
        return [ids[vocabulary.cls], *found[: self.max_seq_length - 2], ids[vocabulary.sep]]

    def as_file(self) -> FileTokenizer:
        """See TextTokenizer. The ids are the same for texts of PLAIN; others are split as the library does."""
        from tokenizers import AddedToken, Tokenizer

        vocabulary = self.vocabulary
        rust = Tokenizer.from_str(self.rust.to_str())
        rust.no_truncation()
        rust.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in vocabulary.special])
        special = {f"{name}_token": getattr(vocabulary, name) for name in ("unk", "cls", "sep", "pad")}
        return FileTokenizer(rust.to_str(), self.max_seq_length, self.pad_id, special)

    def export(self, directory: str) -> dict[str, Any]:
        """See TextTokenizer."""
        settings = asdict(self.vocabulary)
        with open(os.path.join(directory, VOCABULARY), "w", encoding="utf-8") as file:
            json.dump(settings.pop("ids"), file, ensure_ascii=False)
        return {"kind": "wordpiece", "vocabulary": VOCABULARY, "settings": settings}
