"""Keyword search: this project's index beside bm25s, tantivy, SQLite's FTS5 and rank_bm25, and characters beside words.

    python benchmarks/keyword_search.py --data_dir DIR

DIR holds corpus.csv and test.csv (pairs), or corpus.tsv, test.queries.tsv and test.qrels. All libraries get the same
terms, one thread and the same k; what is not installed is left out (pip install bm25s numba tantivy rank_bm25). A
search includes splitting the queries. Queries a second are the median of --repeats rounds, in each of which all are
asked in turn. Memory is what the process gained by building and searching. After --changes deletions and as many
additions, scores are compared with those of an index built anew by the same library.
"""

import argparse
import importlib
import multiprocessing
import os
import re
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import numpy as np

from semindex.measure.hits import hit_ranks, recalls
from semindex.search.keyword import KeywordIndex, KeywordSettings
from semindex.text.tables import group_pairs, read_pairs
from semindex.text.trec import read_documents, read_qrels, read_queries

UNIT = re.compile(r"[a-z0-9]+|\w")


def terms_of(text: str) -> list[str]:
    """Return characters and pairs of neighbours, as KeywordIndex takes them."""
    units = UNIT.findall(text.lower())
    return units + [a + b for a, b in zip(units, units[1:])]


class Own:
    """This project's index."""

    changes = True

    def __init__(self, texts: Sequence[str]) -> None:
        self.index = KeywordIndex()
        self.index.add(texts)

    def search(self, queries: Sequence[str], k: int) -> np.ndarray:
        """Return scores [queries, k]."""
        return self.index.search(queries, k)[1]

    def change(self, gone: Sequence[int], ids: Sequence[int], texts: Sequence[str]) -> None:
        """Remove some texts and add others."""
        self.index.remove(np.array(gone))
        self.index.add(texts, np.array(ids))


class Bm25s:
    """Lu 2024, arXiv 2407.03618: all weights are computed when the index is built, so there are no changes."""

    changes, backend = False, "numpy"

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self.index = bm25s.BM25(method="lucene", k1=1.5, b=0.75, backend=self.backend)
        self.index.index([terms_of(text) for text in texts], show_progress=False)

    def search(self, queries: Sequence[str], k: int) -> np.ndarray:
        """Return scores [queries, k]."""
        asked = [list(dict.fromkeys(terms_of(query))) for query in queries]
        return self.index.retrieve(asked, k=k, show_progress=False, n_threads=int(self.backend == "numba"))[1]


class Bm25sNumba(Bm25s):
    """The same, compiled."""

    backend = "numba"

    def __init__(self, texts: Sequence[str]) -> None:
        importlib.import_module("numba")
        super().__init__(texts)


class Tantivy:
    """Lucene's design in Rust; k1 = 1.2 and b = 0.75 are fixed."""

    changes = True

    def __init__(self, texts: Sequence[str]) -> None:
        import tantivy

        builder = tantivy.SchemaBuilder()
        builder.add_integer_field("id", stored=True, indexed=True)
        builder.add_text_field("text", tokenizer_name="whitespace", index_option="freq")
        self.module, self.schema = tantivy, builder.build()
        self.index = tantivy.Index(self.schema)
        self.writer = self.index.writer(num_threads=1)
        self._add(range(len(texts)), texts)

    def _add(self, ids: Sequence[int], texts: Sequence[str]) -> None:
        for number, text in zip(ids, texts):
            self.writer.add_document(self.module.Document(id=number, text=" ".join(terms_of(text))))
        self.writer.commit()
        self.index.reload()

    def search(self, queries: Sequence[str], k: int) -> np.ndarray:
        """Return scores [queries, k]."""
        searcher, found = self.index.searcher(), np.zeros([len(queries), k])
        make, should = self.module.Query, self.module.Occur.Should
        for row, query in enumerate(queries):
            terms = dict.fromkeys(terms_of(query))
            asked = make.boolean_query([(should, make.term_query(self.schema, "text", term)) for term in terms])
            scores = [score for score, _ in searcher.search(asked, k, count=False).hits]
            found[row, : len(scores)] = scores
        return found

    def change(self, gone: Sequence[int], ids: Sequence[int], texts: Sequence[str]) -> None:
        """Remove some texts and add others."""
        for number in gone:
            self.writer.delete_documents_by_query(self.module.Query.term_query(self.schema, "id", number))
        self._add(ids, texts)


class Fts5:
    """SQLite's full-text index; k1 = 1.2, b = 0.75, and Robertson's idf, which is 0 for a term in half of all texts."""

    changes = True

    def __init__(self, texts: Sequence[str]) -> None:
        self.base = sqlite3.connect(":memory:")
        self.base.execute("create virtual table t using fts5(x)")
        self._add(range(len(texts)), texts)

    def _add(self, ids: Sequence[int], texts: Sequence[str]) -> None:
        rows = ((number + 1, " ".join(terms_of(text))) for number, text in zip(ids, texts))
        self.base.executemany("insert into t(rowid, x) values (?, ?)", rows)

    def search(self, queries: Sequence[str], k: int) -> np.ndarray:
        """Return scores [queries, k]."""
        found = np.zeros([len(queries), k])
        for row, query in enumerate(queries):
            asked = " OR ".join(f'"{term}"' for term in dict.fromkeys(terms_of(query)))
            rows = self.base.execute("select -rank from t where t match ? order by rank limit ?", (asked, k)).fetchall()
            found[row, : len(rows)] = [score for score, in rows]
        return found

    def change(self, gone: Sequence[int], ids: Sequence[int], texts: Sequence[str]) -> None:
        """Remove some texts and add others."""
        self.base.executemany("delete from t where rowid = ?", [(number + 1,) for number in gone])
        self._add(ids, texts)


class RankBm25:
    """A dictionary a text, in Python."""

    changes = False

    def __init__(self, texts: Sequence[str]) -> None:
        import rank_bm25

        self.index = rank_bm25.BM25Okapi([terms_of(text) for text in texts])

    def search(self, queries: Sequence[str], k: int) -> np.ndarray:
        """Return scores [queries, k]."""
        return np.stack([-np.sort(-self.index.get_scores(terms_of(query)))[:k] for query in queries])


ENGINES: dict[str, Any] = {"this index": Own, "bm25s, numba": Bm25sNumba, "bm25s, numpy": Bm25s, "tantivy": Tantivy,
                           "SQLite FTS5": Fts5, "rank_bm25": RankBm25}
SLOW = {"bm25s, numpy": 4, "tantivy": 2, "SQLite FTS5": 16, "rank_bm25": 64}  # so many times fewer queries


def seconds(work: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def memory() -> float:
    """Return the resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def alone(name: str, texts: list[str], queries: list[str], changes: int, k: int, results: Any) -> None:
    """Put (seconds to build, MB, seconds of a change of one, largest relative difference of scores after changes)."""
    try:
        before, began = memory(), time.perf_counter()
        engine = ENGINES[name](texts[changes:])
        built = time.perf_counter() - began
        some = queries[: max(1, 256 // SLOW.get(name, 1))]
        engine.search(some, k)
        gained, one, apart = memory() - before, float("nan"), float("nan")
        if engine.changes:
            count = len(texts) - changes
            gone = np.random.default_rng(0).choice(count, changes, replace=False).tolist()
            new = range(count, len(texts))
            one = seconds(lambda: [engine.change(gone[:1], [new[0]], texts[:1]), engine.search(some[:1], k)])
            for start in range(1, changes, 100):
                part = slice(start, start + 100)
                engine.change(gone[part], new[part], texts[:changes][part])
            left = [text for number, text in enumerate(texts[changes:]) if number not in set(gone)] + texts[:changes]
            wanted, own = ENGINES[name](left).search(some, k), engine.search(some, k)
            apart = float((np.abs(own - wanted) / np.maximum(wanted, 1e-9)).max())
        results.put((built, gained, one, apart))
    except ImportError:
        results.put(None)


def compare(texts: list[str], queries: list[str], args: argparse.Namespace) -> None:
    """Print a table of the libraries."""
    found: dict[str, Any] = {}
    for name in ENGINES:
        results: Any = multiprocessing.Queue()
        process = multiprocessing.Process(target=alone, args=(name, texts, queries, args.changes, args.k, results))
        process.start()
        found[name] = results.get()
        process.join()
        print(f"{name}: {found[name]}", file=sys.stderr)
    engines = {name: ENGINES[name](texts) for name in ENGINES if found[name]}
    times: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(args.repeats + 1):
        for name, engine in engines.items():
            some = queries[: max(1, len(queries) // SLOW.get(name, 1))]
            taken = seconds(lambda engine=engine, some=some: engine.search(some, args.k)) / len(some)  # type: ignore[misc]
            if turn:  # the first one compiles, and fills caches
                times[name].append(taken)
    base = times["this index"]
    print("| library | build, s | memory, MB | queries/s | this index is faster by | one change and a search, ms | "
          f"scores after {args.changes} deletions and additions differ by |\n|---|" + "---:|" * 6)
    for name, own in times.items():
        built, gained, one, apart = found[name]
        ratio = statistics.median(b / a for a, b in zip(base, own))
        changed = f"{1000 * one:.0f} | {apart:.1e}" if engines[name].changes else "no changes | "
        print(f"| {name} | {built:.1f} | {gained:.0f} | {1 / statistics.median(own):,.0f} | {ratio:.2f} | {changed} |")


def quality(texts: list[str], positives: dict[str, list[str]]) -> None:
    """Print recall@k in percent: how many queries have one of their positives among the first k."""
    print("\n| terms | recall@1 | recall@10 | recall@50 | queries/s |\n|---|---:|---:|---:|---:|")
    for tokens in ("bigram", "word"):
        index = KeywordIndex.build(texts, KeywordSettings(tokens))
        began = time.perf_counter()
        ids, _ = index.search(list(positives), 50)
        rate = len(positives) / (time.perf_counter() - began)
        hits = [hit_ranks(query, [texts[i] for i in row if i >= 0], positives[query]) for query, row in
                zip(positives, ids.tolist())]
        values = recalls(hits, 50)
        print(f"| {tokens} | " + " | ".join(f"{values[f'recall@{k}']:.2f}" for k in (1, 10, 50)) + f" | {rate:,.0f} |")


def main() -> None:
    """Read the data; measure; print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--changes", type=int, default=2000)
    args = parser.parse_args()
    if os.path.exists(os.path.join(args.data_dir, "corpus.csv")):
        with open(os.path.join(args.data_dir, "corpus.csv"), encoding="utf-8") as file:
            texts = list(dict.fromkeys(file.read().splitlines()))
        positives = group_pairs(read_pairs(os.path.join(args.data_dir, "test.csv"), (2,))[0])
    else:
        documents = dict(read_documents(os.path.join(args.data_dir, "corpus.tsv"), " "))
        asked, qrels = (os.path.join(args.data_dir, name) for name in ("test.queries.tsv", "test.qrels"))
        judged = read_qrels(qrels)
        positives = {text: [documents[document] for document, grade in judged[number].items() if grade > 0]
                     for number, text in read_queries(asked) if number in judged}
        texts = list(dict.fromkeys(documents.values()))
    print(f"{args.data_dir}: {len(texts)} texts, {len(positives)} queries, k = {args.k}\n")
    compare(texts, list(positives), args)
    quality(texts, positives)


if __name__ == "__main__":
    main()
