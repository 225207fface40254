"""From what a search found to what is answered: state, confidence, hits with the rank and score of each source."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploy.service.live import Live
from deploy.service.store import Store
from semindex.faq.confidence import Confidence, features
from semindex.faq.directory import Found
from semindex.search.methods import Method

LARGEST = 16 << 20  # characters of the answers to one request


class LargeError(Exception):
    """An answer that is too large to be one."""


@dataclass
class Hits:
    """What a search found. sure: probability that the first entry is right, NaN where nobody knows; texts: the question
    that each hit was found by, of (query, place); entries: of all hits, read with the first reply."""

    found: Found
    sure: np.ndarray
    texts: dict[tuple[int, int], str]
    entries: dict[int, Any] | None = None


def search(live: Live, queries: Sequence[str], vectors: np.ndarray | None, method: Method, k: int, temperature: float,
           confidence: Confidence | None) -> Hits:
    """Search; texts of hits are looked up here, where no change comes between. confidence: of this very method."""
    found = live.search(queries, vectors, method, k, temperature)
    sure = np.full(len(queries), np.nan)
    if confidence and vectors is not None and found.fused.ids.shape[1]:
        sure = confidence(features(found.fused, found.sources))
    texts = {(row, place): live.text[found.question(row, place)]
             for row, place in np.argwhere(found.fused.ids >= 0).tolist()}
    return Hits(found, sure, texts)


def replies(hits: Hits, queries: Sequence[str], store: Store, confidence: Confidence | None,
            start: int = 0) -> list[dict[str, Any]]:
    """Return a reply to each query; LargeError where they are too long.

    start: the row of the first query among what was searched together.
    """
    if hits.entries is None:
        ids = hits.found.fused.ids
        hits.entries = store.several(np.unique(ids[ids >= 0]).tolist())
    found, left = list[dict[str, Any]](), LARGEST
    for row, query in enumerate(queries, start):
        found.append(_reply(hits, row, query, hits.entries, confidence))
        left -= sum(len(hit["answer"]) for hit in found[-1]["hits"])
        if left < 0:
            raise LargeError(f"the answers together have more than {LARGEST} characters; ask fewer queries at once, or "
                             "for a smaller top")
    return found


def _reply(hits: Hits, row: int, query: str, entries: dict[int, Any], confidence: Confidence | None) -> dict[str, Any]:
    fused, shown, first = hits.found.fused, list[dict[str, Any]](), True
    for place, id in enumerate(fused.ids[row].tolist()):
        if id < 0:
            continue
        if id not in entries:  # removed since the search
            first = first and place > 0
            continue
        entry, ranks, scores = entries[id], fused.ranks[row, place].tolist(), fused.parts[row, place].tolist()
        about = {name: {"rank": rank, "score": round(score, 6)}
                 for name, rank, score in zip(hits.found.sources, ranks, scores) if rank}
        shown.append({"id": id, "question": entry.question, "matched": hits.texts[row, place], "answer": entry.answer,
                      "category": entry.category, "score": round(float(fused.scores[row, place]), 6),
                      "sources": about})
    state = "none" if not shown else "suggest"
    if shown and confidence:
        state = "answer" if hits.found.exact[row] >= 0 else confidence.states(hits.sure[row : row + 1])[0]
    if state == "answer" and not first:  # what it would be the answer of is gone
        state = "suggest"
    sure = None if np.isnan(hits.sure[row]) or not first else round(float(hits.sure[row]), 6)
    return {"query": query, "state": state, "confidence": sure, "hits": shown}
