"""What requests hold: checked by type, size and range before anything is done."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from semindex.faq.entries import Entry

MOST_TEXTS, LONGEST = 1024, 8192  # of a request; characters of a text


def _said(text: str) -> str:
    """Return a text that is more than what split() takes for white space, control characters among it."""
    if not text.split():
        raise ValueError("holds white space alone")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST, strip_whitespace=True, pattern=r"\S"),
                 AfterValidator(_said)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
TEXTS: TypeAdapter[list[str]] = TypeAdapter(Texts)


class Body(BaseModel):
    """A request's content: a field that nobody knows is an error."""

    model_config = ConfigDict(extra="forbid")


class Search(Body):
    """What /search takes: one query or several."""

    query: Text | Texts
    top: int = Field(3, ge=1, le=100)
    method: Literal["dense", "keyword", "hybrid"] | None = None


Pair = Annotated[list[Text], Field(min_length=2, max_length=2)]


class Pairs(Body):
    """What /similarity takes."""

    pairs: Annotated[list[Pair], Field(min_length=1, max_length=MOST_TEXTS)]


class EntryBody(Body):
    """An entry of the FAQ."""

    question: Text
    answer: Annotated[str, StringConstraints(min_length=1, max_length=65_536, pattern=r"\S"), AfterValidator(_said)]
    category: Annotated[str, StringConstraints(max_length=LONGEST)] = ""
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
    label: Literal[0, 1]


class Embeddings(BaseModel):
    """What OpenAI's clients send to /v1/embeddings; what it does not know is passed over, as there."""

    input: Text | Texts
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, le=65_536)
    user: str | None = None
    input_type: Literal["query", "passage"] = "query"  # which prompt an encoder that has two puts before a text


class Bert(Body):
    """What bert-as-service takes."""

    id: Any = None
    texts: Annotated[list[Any], Field(min_length=1, max_length=MOST_TEXTS)]
    is_tokenized: bool = False


class Activate(Body):
    """What /admin/activate takes: the name of an export beside the live one's."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    force: bool = False
