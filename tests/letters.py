"""A tokenizer whose ids can be read: a letter a token."""

from semindex.text.tokenizer import TextTokenizer


class Letters(TextTokenizer):
    """Ids are code points, between 1 and 2."""

    def __init__(self, max_seq_length=99):
        super().__init__(max_seq_length, 0)

    def with_length(self, max_seq_length):
        return Letters(max_seq_length)

    def ids(self, texts):
        return [[1, *map(ord, text[: self.max_seq_length - 2]), 2] for text in texts]

    def identity(self):
        return ["letters"]


def rows_of(tokens):
    """The ids of each text."""
    return [tokens.flat[a:b].tolist() for a, b in zip(tokens.starts, tokens.starts[1:])]
