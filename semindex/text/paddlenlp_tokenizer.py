"""A paddlenlp tokenizer as a TextTokenizer: by the Rust tokenizers library where that gives its very ids."""

from collections.abc import Sequence
from typing import Any

from semindex.text.tokenizer import TextTokenizer
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


class PaddlenlpTokenizer(TextTokenizer):
    """Gives a paddlenlp tokenizer's ids for every text, whichever path a text takes."""

    def __init__(self, tokenizer: Any, max_seq_length: int) -> None:
        super().__init__(max_seq_length, tokenizer.pad_token_id)
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary_of(tokenizer)
        self._fast = WordPiece(self.vocabulary, max_seq_length) if self.vocabulary else None

    @property
    def separator(self) -> str:  # type: ignore[override]
        """See TextTokenizer."""
        return str(self.tokenizer.sep_token)

    def with_length(self, max_seq_length: int) -> "PaddlenlpTokenizer":
        """See TextTokenizer."""
        return PaddlenlpTokenizer(self.tokenizer, max_seq_length)

    def identity(self) -> list[Any]:
        """See TextTokenizer: vocabulary, and whether texts lose their case."""
        return [self.tokenizer.get_vocab(), bool(getattr(self.tokenizer, "do_lower_case", False))]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """See TextTokenizer."""
        if self._fast is not None:
            return self._fast.ids(texts)
        return [self.tokenizer(text, max_length=self.max_seq_length, truncation=True)["input_ids"] for text in texts]

    def as_file(self) -> TextTokenizer | None:
        """See TextTokenizer: of WordPiece alone."""
        return self._fast.as_file() if self._fast else None

    def save(self, directory: str) -> None:
        """Write the tokenizer's files as paddlenlp reads them."""
        self.tokenizer.save_pretrained(directory)

    def export(self, directory: str) -> dict[str, Any]:
        """See TextTokenizer."""
        self.save(directory)
        return self._fast.export(directory) if self._fast else {"kind": "paddlenlp"}
