"""Entries of a FAQ, a question with its answer, from a table or JSON lines."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field

from semindex.errors import UserError
from semindex.runtime import warn
from semindex.text.same_text import plain
from semindex.text.tables import ReadReport, read_rows

WHAT = "question<TAB>answer, then the category (may be empty) and similar questions where there are any"
OBJECT = 'an object {"question": ..., "answer": ..., "category": ..., "similar": [...]}, the last two at will'
QUESTION = ("question", "问题", "标准问题", "标准问")  # of a header line
ANSWER = ("answer", "答案", "回答", "回复", "标准答案")
NAMES = {"question": str, "answer": str, "category": str, "similar": list}


@dataclass
class Entry:
    """A question, its answer, other ways to ask it."""

    question: str
    answer: str
    category: str = ""
    similar: list[str] = field(default_factory=list)

    @property
    def questions(self) -> list[str]:
        """Every way to ask it, the standard question first, each once."""
        return list(dict.fromkeys([self.question, *self.similar]))

    def as_row(self) -> str:
        """Return the line of a table. Only JSON lines hold answers of several lines."""
        fields = [self.question, self.answer, self.category, *self.similar]
        return "\t".join(fields if self.category or self.similar else fields[:2]) + "\n"

    def as_json(self) -> str:
        """Return the line of a JSON lines file."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"


def _from_row(fields: list[str]) -> Entry | str:
    if len(fields) < 2 or not fields[1]:
        return f"the question '{fields[0]}' has no answer"
    texts = [" ".join(text.split()) for text in fields]  # as JSON lines are read, which a FAQ is kept in
    return Entry(texts[0], fields[1].strip(), texts[2] if len(texts) > 2 else "", [text for text in texts[3:] if text])


def _from_json(line: str, unknown: set[str]) -> Entry | str:
    """Return the entry of a line, or what is wrong with it. unknown: gets the names of fields that are none."""
    try:
        content = json.loads(line)
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair (\\ud800 to \\udfff), which is no text"
    except (ValueError, RecursionError) as error:
        return f"no JSON ({error})"
    if not isinstance(content, dict):
        return "no JSON object"
    for name, value in content.items():
        if name in NAMES and not isinstance(value, NAMES[name]):
            return f"{name} is {json.dumps(value, ensure_ascii=False)[:40]}, expected " + (
                "a list of texts" if name == "similar" else "a text")
    unknown.update(content.keys() - NAMES.keys())
    similar = content.get("similar", [])
    if not all(isinstance(text, str) for text in similar):
        return "similar holds what is no text"
    texts = {name: " ".join(content.get(name, "").split()) for name in ("question", "category")}
    answer = content.get("answer", "").strip()  # which may have lines and paragraphs
    if not texts["question"] or not answer:
        return "question or answer is missing or empty"
    others = [" ".join(text.split()) for text in similar if text.strip()]
    return Entry(texts["question"], answer, texts["category"], others)


def is_json(path: str) -> bool:
    """Tell whether a file's name is that of JSON lines."""
    return path.removesuffix(".gz").endswith((".jsonl", ".json"))


def _rows(path: str, skip_bad_lines: bool, lines: ReadReport) -> Iterator[tuple[int, Entry | str]]:
    if is_json(path):
        unknown = set[str]()
        for number, fields in read_rows(path, range(1, 10_000), skip_bad_lines, lines, "a JSON object", may_lack=True):
            yield number, _from_json("\t".join(fields), unknown)
        if unknown:
            warn(f"{path}: fields that are passed over: {', '.join(sorted(unknown)[:5])}; expected {', '.join(NAMES)}")
        return
    for number, fields in read_rows(path, range(1, 10_000), skip_bad_lines, lines, WHAT, may_lack=True):
        if lines.rows == 1 and fields[0].lower() in QUESTION and "".join(fields[1:2]).lower() in ANSWER:
            continue
        yield number, _from_row(fields)


def read_faq(path: str, skip_bad_lines: bool = False, alike: bool = True) -> tuple[list[Entry], ReadReport]:
    """Read a FAQ: lines of question<TAB>answer[<TAB>category[<TAB>similar question]...], a header line passed over;
    or, where the name ends in .jsonl, objects of question, answer, category, similar.

    Raises UserError with file:line for a line without an answer and for a question that two entries ask (with
    skip_bad_lines the later entry is counted and left out). alike: a question that reads as another entry's, see
    same_text.plain, is that one: whoever types it could be given either answer.
    """
    lines = ReadReport(path)
    rows = list(_rows(path, skip_bad_lines, lines))
    every = list(dict.fromkeys(text for _, found in rows if isinstance(found, Entry) for text in found.questions))
    form = {text: read or text for text, read in zip(every, plain(every))} if alike else {text: text for text in every}
    entries, owner = list[Entry](), dict[str, tuple[int, str]]()
    for number, found in rows:
        if isinstance(found, Entry):
            taken = next((text for text in found.questions if form[text] in owner), None)
            if taken is not None:
                line, other = owner[form[taken]]
                found = (f"the question '{taken}' stands in line {line} too" if other == taken else
                         f"the question '{taken}' reads as '{other}' of line {line}")
                found += "; a question has one answer, and an entry all its similar questions"
        if isinstance(found, str):
            if not skip_bad_lines:
                what = OBJECT if is_json(path) else WHAT
                raise UserError(f"{path}:{number}: {found}; expected {what}; mend the line or pass --skip_bad_lines")
            lines.bad += 1
            continue
        owner.update((form[text], (number, text)) for text in found.questions)
        entries.append(found)
    if not entries:
        raise UserError(f"{path}: holds no question with an answer")
    return entries, lines


def questions_of(entries: Iterable[Entry]) -> tuple[list[str], list[int]]:
    """Return every question of the entries, and the entry (from 0) that each belongs to."""
    texts, owners = list[str](), list[int]()
    for number, entry in enumerate(entries):
        texts += entry.questions
        owners += [number] * len(entry.questions)
    return texts, owners
