"""Metrics of TREC runs against graded judgements, through ir-measures (trec_eval). No paddle here."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from semindex.errors import UserError
from semindex.text.trec import Qrels, Run

# Our names, and those of ir-measures; what stands behind @ is passed on.
THEIRS = {"mrr": "RR", "recall": "R", "ndcg": "nDCG", "map": "AP", "precision": "P"}


def _parse(name: str) -> tuple[str, int | None]:
    kind, at, depth = name.partition("@")
    if kind not in (*THEIRS, "hole") or at and not re.fullmatch("0*[1-9][0-9]{0,8}", depth) or not at and kind in (
            "recall", "precision"):
        raise UserError(f"--metrics {name}: unknown; known are {', '.join(f'{kind}@K' for kind in (*THEIRS, 'hole'))} "
                        "with K from 1 to 999999999, and mrr, ndcg, map and hole without @K")
    return kind, int(depth) if at else None


def check(names: Sequence[str]) -> None:
    """Raise UserError for a metric that is not known."""
    for name in names:
        _parse(name)


def ordered(row: Mapping[str, float]) -> list[str]:
    """Return the documents, best first; equal scores by falling id, as trec_eval ranks them."""
    return [document for document, _ in sorted(row.items(), key=lambda item: (item[1], item[0]), reverse=True)]


def per_query(run: Run, qrels: Qrels, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return {metric: {query id: value from 0 to 1}} over all queries of the qrels; 0 for those the run lacks.

    names: mrr@K, recall@K, ndcg@K (Jarvelin and Kekalainen 2002, gain = grade), map, map@K, precision@K: relevant is a
    grade above 0. hole@K: the share of the first K documents that nobody judged, hole: of all that are ranked.
    """
    import ir_measures

    measures = {}
    for name in names:
        kind, depth = _parse(name)
        if kind != "hole":
            measures[ir_measures.parse_measure(THEIRS[kind] + (f"@{depth}" if depth else ""))] = name
    # Ranks for scores: trec_eval holds scores as 32-bit floats and would see ties where there are none.
    ranked = {query: ordered(run[query]) for query in qrels if query in run}
    scored = {query: {document: float(len(row) - i) for i, document in enumerate(row)} for query, row in ranked.items()}
    found = {name: dict.fromkeys(qrels, 0.0) for name in names if not name.startswith("hole")}
    if measures:
        for value in ir_measures.iter_calc(list(measures), qrels, scored):
            found[measures[value.measure]][value.query_id] = value.value
    for name in names:
        kind, depth = _parse(name)
        if kind == "hole":
            found[name] = dict.fromkeys(qrels, 0.0) | {
                query: sum(document not in qrels[query] for document in row[:depth]) / len(row[:depth])
                for query, row in ranked.items()}
    return {name: found[name] for name in names}


def means(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over its queries."""
    return {name: float(np.mean(list(row.values()))) if row else 0.0 for name, row in values.items()}
