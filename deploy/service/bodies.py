"""What requests hold: checked by type, size and range before anything is done."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
)

from semindex.faq.entries import Entry

MOST_TEXTS, LONGEST = 1024, 8192  # of a request; characters of a text
MOST_TOKENS, LONGEST_TOKEN = 512, 64  # of a text that comes as tokens; characters of one
NO_NUL = r"^[^\x00]*$"  # behind which SQLite's LIKE reads nothing
SAID = r"^[^\x00]*[^\s\x00\x1c-\x1f\x85][^\x00]*$"  # and more than what split() takes for white space


def _said(text: str) -> str:
    """Return a text that is more than what split() takes for white space, control characters among it."""
    if not text.split():
        raise ValueError("holds white space alone")
    return text


def _number(value: Any) -> Any:
    """Return a value that is a number in JSON; true and "3" are none."""
    if isinstance(value, (bool, str)):
        raise ValueError("is no number")
    return value


Whole = Annotated[int, BeforeValidator(_number)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST, strip_whitespace=True, pattern=SAID),
                 AfterValidator(_said)]
Name = Annotated[str, StringConstraints(max_length=255, pattern=NO_NUL)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]


class Body(BaseModel):
    """A request's content: a field that nobody knows is an error."""

    model_config = ConfigDict(extra="forbid")


class Search(Body):
    """What /search takes: one query or several."""

    query: Text | Texts
    top: Whole = Field(3, ge=1, le=100)
    method: Literal["dense", "keyword", "hybrid"] | None = None


Pair = Annotated[list[Text], Field(min_length=2, max_length=2)]


class Pairs(Body):
    """What /similarity takes."""

    pairs: Annotated[list[Pair], Field(min_length=1, max_length=MOST_TEXTS)]


class EntryBody(Body):
    """An entry of the FAQ."""

    question: Text
    answer: Annotated[str, StringConstraints(min_length=1, max_length=65_536, pattern=SAID), AfterValidator(_said)]
    category: Annotated[str, StringConstraints(max_length=LONGEST, pattern=NO_NUL)] = ""
    similar: Annotated[list[Text], Field(max_length=MOST_TEXTS)] = []

    def entry(self) -> Entry:
        """Return the entry, white space of its questions as single spaces."""
        one = " ".join(self.question.split())
        return Entry(one, self.answer.strip(), self.category.strip(), [" ".join(text.split()) for text in self.similar])


class Entries(Body):
    """What /entries/import takes."""

    entries: Annotated[list[EntryBody], Field(min_length=1, max_length=100_000)]


class Feedback(Body):
    """A thumb: whether a question that was found is the one that was meant."""

    query: Text
    question: Text
    label: Whole = Field(ge=0, le=1)


class Embeddings(BaseModel):
    """What OpenAI's clients send to /v1/embeddings; what it does not know is passed over, as there."""

    input: Text | Texts
    model: Name = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[Whole, Field(ge=1, le=65_536)] | None = None
    user: Name | None = None
    input_type: Literal["query", "passage"] = "query"  # which prompt an encoder that has two puts before a text


Token = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TOKEN, pattern=SAID), AfterValidator(_said)]
Tokens = Annotated[list[Token], Field(min_length=1, max_length=MOST_TOKENS)]


class Bert(Body):
    """What bert-as-service takes."""

    id: Any = None
    texts: Annotated[list[Text | Tokens], Field(min_length=1, max_length=MOST_TEXTS)]
    is_tokenized: StrictBool = False


_TEXT = {"type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": SAID}
_TOKENS = {"type": "array", "minItems": 1, "maxItems": MOST_TOKENS,
           "items": {"type": "string", "minLength": 1, "maxLength": LONGEST_TOKEN, "pattern": SAID}}
# What /encode reads from a body of either form, for the OpenAPI page.
BERT: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": [
    {"type": "object", "required": ["texts"], "additionalProperties": False, "properties": {
        "id": {}, "is_tokenized": {"const": tokenized},
        "texts": {"type": "array", "minItems": 1, "maxItems": MOST_TEXTS, "items": items}}}
    | ({"required": ["texts", "is_tokenized"]} if tokenized else {})
    for tokenized, items in ((False, _TEXT), (True, _TOKENS))]}}}}}


class Activate(Body):
    """What /admin/activate takes: the name of an export beside the live one's."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    force: StrictBool = False
