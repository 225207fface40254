"""A collection of Milvus: rows under keys made from their content, brought to what they are to be, counted, named."""

import json
import time
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from semindex import runtime
from semindex.errors import UserError
from semindex.search.milvus_client import Connection
from semindex.text.corpus import Corpus
from semindex.text.counted import counted

BYTES = 8 << 20  # of vectors sent or fetched at once; a server takes 64 MiB a message
SAMPLE = 1000  # rows looked at to tell whose a collection is
PAGE = 16_384  # rows listed at once, and the most that a search may ask for: Milvus's own bound
HITS = 200_000  # texts that one search may return, over all its queries
ROUNDS = 4  # how often what is there is compared with what should be
CATEGORY, TEXT = 1024, 65_535  # bytes that these columns hold


def cut(text: str, size: int) -> str:
    """Return the beginning of a text that fits so many bytes of UTF-8."""
    return text if 4 * len(text) <= size else text.encode()[:size].decode(errors="ignore")


class Rows:
    """What a collection is to hold. keys: int64 [n]; vectors: float32 [n, dimension]; categories, texts: of each row,
    all '' where left out."""

    def __init__(self, keys: np.ndarray, vectors: np.ndarray, categories: Sequence[str] | None = None,
                 texts: Sequence[str] | Corpus | None = None) -> None:
        self.keys, self.vectors, self.texts = keys, vectors, texts
        self.categories = None if categories is None else [cut(one, CATEGORY) for one in categories]

    def __len__(self) -> int:
        return len(self.keys)

    def category(self, row: int) -> str:
        """Return a row's category."""
        return self.categories[row] if self.categories else ""

    def some(self, rows: np.ndarray, with_text: bool) -> list[dict[str, Any]]:
        """Return rows as pymilvus takes them."""
        names = [self.categories[row] for row in rows.tolist()] if self.categories else repeat("")
        found = [{"id": key, "vector": vector, "category": name}
                 for key, vector, name in zip(self.keys[rows].tolist(), self.vectors[rows], names)]
        if with_text:
            for row, one in zip(rows.tolist(), found):
                one["text"] = cut(self.texts[row], TEXT) if self.texts else ""
        return found


class Collection:
    """One collection. full_text: whether it holds the texts too, under Milvus's own BM25."""

    def __init__(self, connection: Connection, name: str, dimension: int, full_text: bool = False) -> None:
        self.connection, self.name, self.dimension, self.full_text = connection, name, dimension, full_text
        self.batch = max(1, min(PAGE, BYTES // (4 * dimension)))

    def __str__(self) -> str:
        return f"collection {self.name} of {self.connection}"

    def call(self, verb: str, *args: Any, **options: Any) -> Any:
        """Call pymilvus on this collection, see Connection.call."""
        return self.connection.call(verb, self.name, *args, **options)

    def exists(self) -> bool:
        """Whether it is there."""
        return bool(self.call("has_collection"))

    def create(self, m: int, ef_construction: int) -> bool:
        """Make it, empty and not loaded, with an index of its vectors; return whether it was not there."""
        new = not self.exists()

        def work(client: Any) -> None:
            if not client.has_collection(self.name):  # else made by a try that got no answer
                client.create_collection(self.name, schema=self._schema(client), consistency_level="Session")
            if not client.list_indexes(self.name):
                client.create_index(self.name, self._indexes(client, m, ef_construction))

        self.connection.attempt("create_collection", work, self.name)
        return new

    def _schema(self, client: Any) -> Any:
        from pymilvus import DataType, Function, FunctionType

        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dimension)
        schema.add_field("category", DataType.VARCHAR, max_length=CATEGORY)
        if self.full_text:
            schema.add_field("text", DataType.VARCHAR, max_length=TEXT, enable_analyzer=True,
                             analyzer_params={"tokenizer": "jieba"})
            schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
            schema.add_function(Function(name="bm25", function_type=FunctionType.BM25, input_field_names=["text"],
                                         output_field_names=["terms"]))
        return schema

    def _indexes(self, client: Any, m: int, ef_construction: int) -> Any:
        indexes = client.prepare_index_params()
        # The inner product, higher is better: of unit vectors the cosine, and right for encoders trained for it.
        if self.connection.settings.lite:
            indexes.add_index("vector", index_type="FLAT", metric_type="IP")
        else:
            indexes.add_index("vector", index_type="HNSW", metric_type="IP",
                              params={"M": m, "efConstruction": ef_construction})
        if self.full_text:
            indexes.add_index("terms", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
        return indexes

    def drop(self) -> None:
        """Remove it, where it is there."""
        self.call("drop_collection")

    def count(self) -> int:
        """How many rows it holds; a row that stands twice counts twice."""
        found = self.call("query", filter="", output_fields=["count(*)"], consistency_level="Strong")
        return int(found[0]["count(*)"])

    def listing(self) -> tuple[np.ndarray, list[str]]:
        """Return the keys that are there, int64, ascending, and their categories."""
        def work(client: Any) -> dict[int, str]:
            found: dict[int, str] = {}
            rows = client.query_iterator(self.name, batch_size=PAGE // 2, output_fields=["id", "category"],
                                         consistency_level="Strong")
            while batch := rows.next():
                found.update((row["id"], row["category"]) for row in batch)
            rows.close()
            return found

        found = self.connection.attempt("query_iterator", work, self.name)
        keys = np.array(sorted(found), np.int64)
        return keys, [found[key] for key in keys.tolist()]

    def sample(self) -> np.ndarray:
        """Return some of the keys that are there, int64; they are made from texts, so that any are a fair share."""
        found = self.call("query", filter="", limit=SAMPLE, output_fields=["id"], consistency_level="Strong")
        return np.array([row["id"] for row in found], np.int64)

    def check_corpus(self, own: np.ndarray, keys: np.ndarray) -> None:
        """Raise UserError where of the keys that are there, `own`, most are not of a corpus: it is another's."""
        known = int(np.isin(own, keys).sum())
        if 2 * known < len(own):
            count = counted(len(own), "text") + " or more" * (len(own) == SAMPLE)
            raise UserError(f"{self}: holds {count}, {known or 'none'} of them of this corpus; "
                            "name another --milvus_collection")

    def insert(self, rows: Rows, places: np.ndarray, fresh: bool = True, title: str = "") -> None:
        """Put some rows in, in batches. fresh: none of their keys is there, else what is there is replaced.

        title: of a progress bar with rate, '' for none.
        """
        verb = "insert" if fresh else "upsert"
        with runtime.progress(len(places) if title else 0, "vector", title, bool(title)) as bar:
            for start in range(0, len(places), self.batch):
                some = places[start : start + self.batch]
                # After a try without an answer nobody knows whether they are there.
                self.call(verb, rows.some(some, self.full_text), again="upsert")
                bar.update(len(some))

    def delete(self, keys: np.ndarray) -> None:
        """Remove rows by their keys; one that is not there is no error."""
        for start in range(0, len(keys), PAGE):
            self.call("delete", ids=keys[start : start + PAGE].tolist())

    def converge(self, rows: Rows, title: str, new: bool) -> dict[str, int]:
        """Bring it to hold these rows and no others, send what differs alone, and return how many that was.

        new: it was made just now, and is empty. What a killed run left is gone on with. Raises UserError where it does
        not come to that.
        """
        sent = dict.fromkeys(("kept", "new", "changed", "removed"), 0)
        order = np.argsort(rows.keys)
        if not new:
            self.load()
        for turn in range(ROUNDS):
            troubles = self.connection.troubles
            own, categories = self.listing() if turn or not new else (np.empty(0, np.int64), [])
            known = np.isin(own, rows.keys)
            if turn == 0:
                self.check_corpus(own, rows.keys)
            places = order[np.searchsorted(rows.keys[order], own[known])]
            differs = np.array([rows.category(row) != categories[place] for row, place in
                                zip(places.tolist(), np.flatnonzero(known).tolist())], bool)
            fresh, changed, gone = np.flatnonzero(~np.isin(rows.keys, own)), places[differs], own[~known]
            todo = len(fresh) + len(changed) + len(gone)
            if turn and not todo and self.count() != len(rows):
                changed = places  # a row stands twice, and nothing tells which
            sent["kept"] = sent["kept"] if turn else len(places) - len(changed)
            for name, some in (("new", fresh), ("changed", changed), ("removed", gone)):
                sent[name] += len(some)
            # A listing just after a server came back may lack rows that it has: only the first round inserts blindly.
            self.insert(rows, fresh, not turn, title)
            self.insert(rows, changed, False)
            self.delete(gone)
            self.finish()
            if self.count() == len(rows) and (not todo or troubles == self.connection.troubles):
                return sent
        raise UserError(f"{self}: holds {self.count()} rows instead of {len(rows)} after {ROUNDS} rounds; does another "
                        "process write there?")

    def finish(self) -> None:
        """Wait until what was sent is on disk, indexed and loaded."""
        self.call("flush")
        last, shown = -1, time.monotonic()
        while True:
            state = self.call("describe_index", "vector")
            # Its `state` is Finished before it has begun. Until then a coarser index answers, with recall@50 of 0.71.
            pending = int(state.get("pending_index_rows", 0) or 0)
            if not pending:
                break
            now = time.monotonic()
            if pending != last:
                last, shown = pending, now
            elif now - shown > max(600.0, self.connection.settings.timeout, pending / 200):  # falls a segment at a time
                raise UserError(f"{self}: its index does not grow, {pending} vectors wait; see the server's log")
            time.sleep(0.2)
        self.load()

    def load(self) -> None:
        """Have the server hold it in memory for searches."""
        self.call("load_collection")

    def vectors(self, keys: np.ndarray) -> np.ndarray:
        """Return the vectors of some keys, float32 [n, dimension]; UserError where one is not there."""
        found = np.empty([len(keys), self.dimension], np.float32)
        for start in range(0, len(keys), self.batch):
            some = keys[start : start + self.batch].tolist()
            by_key = {row["id"]: row["vector"] for row in self.call("get", ids=some, output_fields=["id", "vector"])}
            if lacking := [key for key in some if key not in by_key]:
                raise UserError(f"{self}: {counted(len(lacking), 'row')} lost since it was opened; build the index "
                                "again with --rebuild_index")
            found[start : start + len(some)] = [by_key[key] for key in some]
        return found

    def settle(self, count: int, seconds: float = 0.0) -> None:
        """Wait until it has so many rows: a server that came back may answer before it has all in memory again.

        Raises UserError where that takes longer than so many seconds, settings.timeout where left out.
        """
        began = time.monotonic()
        while (found := self.count()) != count:
            lite = self.connection.settings.lite  # nothing comes back there
            if lite or time.monotonic() - began > (seconds or self.connection.settings.timeout):
                raise UserError(f"{self}: holds {found} rows, the index {count}: another run changed it; build the "
                                "index again with --rebuild_index")
            time.sleep(0.5)

    def nearest(self, queries: Sequence[Any], k: int, ef: int, category: str | None,
                by_text: bool = False, consistency: str = "Bounded") -> Iterator[tuple[list[int], list[float]]]:
        """Yield (keys, scores) of each query, best first. queries: vectors, or by_text texts for BM25.

        consistency: Strong sees all that was written before, and waits for it.
        """
        if k > PAGE:
            raise UserError(f"{self}: {k} texts a query are more than the {PAGE} that Milvus gives")
        options: dict[str, Any] = {"limit": k, "anns_field": "terms" if by_text else "vector",
                                   "consistency_level": consistency}
        lite = self.connection.settings.lite
        options["search_params"] = {"metric_type": "BM25"} if by_text else {
            "metric_type": "IP", "params": {} if lite else {"ef": max(k, ef)}}
        if lite:
            options["output_fields"] = ["id"]  # else it returns all columns
        if category is not None:
            options["filter"] = f"category == {json.dumps(cut(category, CATEGORY), ensure_ascii=False)}"
        block = max(1, min(1000, HITS // max(k, 1)))
        for start in range(0, len(queries), block):
            some = list(queries[start : start + block])
            for hits in self.call("search", data=some, **options):
                # Milvus Lite gives BM25 with the sign of a distance.
                yield hits.ids, [-score for score in hits.distances] if by_text and lite else hits.distances
