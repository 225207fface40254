"""Questions to replies: an answer, up to three questions that may be meant, or an honest none."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from semindex.encode.text_encoder import TextEncoder
from semindex.faq.confidence import FEATURES, Confidence, features
from semindex.faq.directory import Faq, Found
from semindex.search.methods import SOURCES, Calibration, Method

SUGGESTIONS = 3
TEMPERATURE = 0.05  # of a FAQ that nobody calibrated, see docs/faq.md


@dataclass
class Hit:
    """An entry that was found. question: the one of its questions that is nearest; sources: of each source the rank and
    the score."""

    entry: int
    question: str
    score: float
    sources: dict[str, tuple[int, float]]


@dataclass
class Reply:
    """What is said to a question. state: answer, suggest or none; confidence: that the first hit is right, None where
    the FAQ is not calibrated; hits: best first, some with every state."""

    question: str
    state: str
    confidence: float | None
    hits: list[Hit]


class Answerer:
    """A FAQ with its encoder and, where there is one, its calibration. Callable from questions to replies."""

    def __init__(self, faq: Faq, encoder: TextEncoder, calibration: Calibration | None = None, path: str = "") -> None:
        self.faq, self.encoder = faq, encoder.side("query")
        self.method = calibration.method if calibration else Method()
        self.temperature = calibration.temperature if calibration else TEMPERATURE
        self.confidence: Confidence | None = None
        if calibration and calibration.thresholds is not None:
            self.confidence = Confidence.from_json(path, calibration.thresholds, len(FEATURES) * len(SOURCES))

    def find(self, questions: Sequence[str], k: int = SUGGESTIONS) -> Found:
        """Return the k best entries of each question."""
        return self.faq.search(questions, self.encoder(questions), self.method, k, self.temperature)

    def __call__(self, questions: Sequence[str], k: int = SUGGESTIONS) -> list[Reply]:
        """Return a reply to each question, with at most k hits."""
        found = self.find(questions, k)
        states, sure = ["suggest"] * len(questions), np.full(len(questions), np.nan)
        if self.confidence:
            sure = self.confidence(features(found.fused, found.sources))
            states = self.confidence.states(sure)
            states = ["answer" if same >= 0 else state for state, same in zip(states, found.exact.tolist())]
        nothing = (found.fused.ids < 0).all(axis=1).tolist()  # keywords may find none, however sure that looks
        states = ["none" if none else state for state, none in zip(states, nothing)]
        rows = zip(questions, states, sure.tolist())
        return [Reply(question, state, None if self.confidence is None else value, self._hits(found, row))
                for row, (question, state, value) in enumerate(rows)]

    def _hits(self, found: Found, row: int) -> list[Hit]:
        fused = found.fused
        hits = list[Hit]()
        for place, entry in enumerate(fused.ids[row].tolist()):
            if entry >= 0:
                about = {name: (int(fused.ranks[row, place, i]), float(fused.parts[row, place, i]))
                         for i, name in enumerate(SOURCES) if fused.ranks[row, place, i]}
                question = self.faq.questions[found.question(row, place)]
                hits.append(Hit(entry, question, float(fused.scores[row, place]), about))
        return hits


def as_json(reply: Reply, faq: Faq, explain: bool = False) -> dict[str, Any]:
    """Return a reply as a line of JSON has it; explain: with rank and score of each source."""
    hits = list[dict[str, Any]]()
    for hit in reply.hits:
        entry = faq.entries[hit.entry]
        row: dict[str, Any] = {"question": entry.question, "matched": hit.question, "answer": entry.answer,
                               "category": entry.category, "score": round(hit.score, 6), "similar": entry.similar}
        if explain:
            row["sources"] = {name: {"rank": rank, "score": round(score, 6)}
                              for name, (rank, score) in hit.sources.items()}
        hits.append(row)
    sure = None if reply.confidence is None else round(reply.confidence, 6)
    return {"question": reply.question, "state": reply.state, "confidence": sure, "hits": hits}


def lines_of(reply: Reply, faq: Faq, explain: bool = False) -> Iterator[str]:
    """Yield a reply as a terminal shows it: the answer first, the matched question below; or suggestions; or none."""
    sure = "" if reply.confidence is None else f"   ({reply.confidence:.0%})"
    if reply.state == "answer":
        hit = reply.hits[0]
        yield faq.entries[hit.entry].answer
        yield f"  question: {hit.question}{sure}"
    elif reply.state == "suggest" and reply.hits:
        yield f"Did you mean{sure}"
        for place, hit in enumerate(reply.hits[:SUGGESTIONS], 1):
            yield f"  {place}  {faq.entries[hit.entry].question}"
    else:
        yield f"No answer{sure}"
    if explain:
        for place, hit in enumerate(reply.hits, 1):
            parts = ", ".join(f"{name} {rank} ({score:.4f})" for name, (rank, score) in hit.sources.items())
            yield f"  {place}  {hit.question}: {parts or 'same text'}"


def write_replies(out: IO[Any], replies: Sequence[Reply], faq: Faq, explain: bool, plain: bool) -> None:
    """Write replies, plain for people (each question first, where there are several) or a line of JSON each."""
    for reply in replies:
        if plain:
            out.write("".join(f"{line}\n" for line in ([reply.question] if len(replies) > 1 else [])))
            out.write("".join(f"{line}\n" for line in lines_of(reply, faq, explain)))
        else:
            out.write(json.dumps(as_json(reply, faq, explain), ensure_ascii=False) + "\n")
    out.flush()
