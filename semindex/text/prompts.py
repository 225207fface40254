"""What stands before a text, by its side: a query's or a passage's prompt."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from semindex.errors import UserError

if TYPE_CHECKING:
    from semindex.text.tokenizer import TextTokenizer

SIDES = ("query", "passage")


@dataclass(frozen=True)
class Prompts:
    """The prompts of an encoder, as E5's `query: ` and `passage: ` (Wang et al. 2022, arXiv 2212.03533).

    query_on_both: both sides are of one kind, questions for example, and take the query's.
    """

    query: str = ""
    passage: str = ""
    query_on_both: bool = False

    def of(self, side: str) -> str:
        """Return the prompt of a side, one of SIDES."""
        return self.query if side == "query" or self.query_on_both else self.passage

    @property
    def differ(self) -> bool:
        """Whether a text gives other tokens as a query than as a passage."""
        return self.of("query") != self.of("passage")

    def check_room(self, tokenizer: "TextTokenizer") -> None:
        """Raise UserError where a prompt leaves no token to the text: all texts would have the same vector."""
        for side in SIDES:
            prompt = self.of(side)
            taken = int(tokenizer.with_length(8192).prompted(prompt)([""]).lengths[0]) if prompt else 0
            if taken >= tokenizer.max_seq_length:
                raise UserError(f"--max_seq_length {tokenizer.max_seq_length}: the {side} prompt {prompt!r} and the "
                                f"special tokens alone take {taken}")

    def identity(self) -> list[str]:
        """Return what decides vectors; empty without prompts, so that older fingerprints stay."""
        return [self.of(side) for side in SIDES] if self.of("query") or self.of("passage") else []


NO_PROMPTS = Prompts()
