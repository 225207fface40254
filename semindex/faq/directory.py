"""The directory of a FAQ: entries, vector index, keyword index, manifest; written as a whole, checked when read."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semindex import manifest
from semindex.directories import atomic_directory, check_replaceable, opened
from semindex.errors import UserError
from semindex.faq.entries import Entry, questions_of, read_faq
from semindex.faq.ranking import EntryRanking, rank_entries
from semindex.fields import object_of, one_of, read_fields, text, whole
from semindex.search.directory import TextIndex
from semindex.search.fusion import Fused, Ranking
from semindex.search.index import Content, IndexSettings, build_index
from semindex.search.keyword import KeywordIndex, KeywordSettings
from semindex.search.methods import Method
from semindex.text.corpus import Corpus
from semindex.text.same_text import SameTexts

META, ENTRIES, FORMAT = "faq.json", "entries.jsonl", 1
ENCODER = {"kind": one_of("checkpoint", "export"), "path": text(), "fingerprint": text(), "engine": text(),
           "truncate_dim": text().optional()}
FIELDS = {"format": whole(1, 2**31), "entries": whole(1, 2**31), "questions": whole(1, 2**40),
          "encoder": object_of(ENCODER)}
ADVICE = "build it again with build_faq.py"


@dataclass
class Found:
    """What a FAQ finds for some queries. fused: entries, best first; sources: the entries of each source, by name;
    exact: the question that reads as the query, int64 [queries], -1 for none."""

    fused: Fused
    sources: dict[str, EntryRanking]
    exact: np.ndarray

    def question(self, row: int, place: int) -> int:
        """Return the question that the entry at a place of a query was found by: the same text, or the nearest."""
        if place == 0 and self.exact[row] >= 0:
            return int(self.exact[row])
        ranks = self.fused.ranks[row, place].tolist()
        for rank, name in zip(ranks, self.sources):
            if rank:
                return int(self.sources[name].questions[row, rank - 1])
        raise AssertionError("no source found the entry")


class Faq:
    """Entries with the indexes of their questions. encoder: kind, path, fingerprint and engine of what encoded them."""

    def __init__(self, entries: list[Entry], index: TextIndex, keyword: KeywordIndex, encoder: dict[str, str]) -> None:
        self.entries, self.index, self.keyword, self.encoder = entries, index, keyword, encoder
        self.questions, owners = questions_of(entries)
        self.owners = np.array(owners, np.int64)
        self.same = SameTexts(self.questions)

    @classmethod
    def build(cls, entries: list[Entry], vectors: np.ndarray, encoder: dict[str, str], settings: IndexSettings,
              keyword: KeywordSettings, source: str = "") -> "Faq":
        """Index the entries' questions. vectors: float32 [questions, dimension], of the questions in order."""
        questions, owners = questions_of(entries)
        content = Content(questions, encoder["fingerprint"], [entries[owner].category for owner in owners])
        index = TextIndex(build_index(vectors, settings, content=content), Corpus.from_texts(questions),
                          encoder["fingerprint"], source)
        return cls(entries, index, KeywordIndex.build(questions, keyword, source or "the FAQ"), encoder)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what decides which entries are found: questions, their entries, encoder, both indexes."""
        found = hashlib.sha256(self.owners.tobytes())
        about = (self.index.corpus.fingerprint, self.encoder["fingerprint"], self.index.index.kind,
                 self.keyword.fingerprint())
        found.update(json.dumps(about).encode())
        return found.hexdigest()

    def search(self, queries: Sequence[str], vectors: np.ndarray, method: Method, k: int,
               temperature: float = 0.0) -> Found:
        """Return the k best entries of each query.

        vectors: float32 [queries, dimension]; temperature: see rank_entries.

        Both sources are asked, whatever the method: how sure an answer is depends on both.
        """
        return self.join(queries, self.rankings(queries, vectors, max(k, method.depth)), method, k, temperature)

    def rankings(self, queries: Sequence[str], vectors: np.ndarray, depth: int) -> dict[str, Ranking]:
        """Return the questions that each source finds."""
        return {"dense": Ranking(*self.index.index.search(vectors, depth)),
                "keyword": Ranking(*self.keyword.search(queries, depth))}

    def join(self, queries: Sequence[str], found: Mapping[str, Ranking], method: Method, k: int,
             temperature: float = 0.0) -> Found:
        """Return what search does of questions that were found."""
        sources = {"dense": rank_entries(found["dense"], self.owners, temperature),
                   "keyword": rank_entries(found["keyword"], self.owners)}
        exact = self.same.find(queries)
        entries = np.where(exact >= 0, self.owners[exact], -1)
        weights = {"dense": (1.0, 0.0), "keyword": (0.0, 1.0)}.get(method.name, method.fusion.weights)
        both = Method("hybrid", type(method.fusion)(method.fusion.kind, method.fusion.k, weights), method.depth)
        return Found(both.fuse(sources, k, entries), sources, exact)

    def save(self, directory: str) -> None:
        """Write all into a directory that is absent, empty or holds a FAQ; UserError where it holds anything else."""
        with atomic_directory(directory, "faq") as partial:
            self.index.save(os.path.join(partial, "index"))
            self.keyword.save(os.path.join(partial, "keyword"))
            with open(os.path.join(partial, ENTRIES), "w", encoding="utf-8") as file:
                file.writelines(entry.as_json() for entry in self.entries)
            meta = {"format": FORMAT, "entries": len(self.entries), "questions": len(self.questions),
                    "encoder": self.encoder}
            with open(os.path.join(partial, META), "w", encoding="utf-8") as file:
                json.dump(meta, file, ensure_ascii=False, indent=2)
            manifest.write(partial, "faq")

    @classmethod
    def load(cls, directory: str, trust: bool = False, settings: IndexSettings | None = None) -> "Faq":
        """Read a FAQ directory, all of it as it is at one moment; UserError where it is not what was written.

        trust: see manifest.check; settings: of the vector index's search, see VectorIndex.use.
        """
        if not os.path.isdir(directory):
            raise UserError(f"{directory}: no such directory; build_faq.py makes it")
        with opened(directory) as place:
            if manifest.check(place, "faq", trust) is None:
                raise UserError(f"{directory}: no FAQ (no {manifest.NAME}); build_faq.py makes one")
            meta = read_fields(os.path.join(place, META), FIELDS, others=True, advice=ADVICE, newest=FORMAT)
            entries, _ = read_faq(os.path.join(place, ENTRIES), alike=False)
            index = TextIndex.load(os.path.join(place, "index"), settings, trust=True)  # compared just now
            keyword = KeywordIndex.load(os.path.join(place, "keyword"), trust=True)
            found = cls(entries, index, keyword, meta["encoder"])
        counts = len(found.questions), len(index.index), len(keyword), meta["questions"]
        if len(set(counts)) > 1:
            raise UserError(f"{directory}: {counts[0]} questions for {counts[1]} vectors and {counts[2]} keyword "
                            f"entries; {ADVICE}")
        return found


def check_directory(directory: str) -> bool:
    """Return whether the directory holds a FAQ; UserError where it holds something else or cannot be written."""
    return check_replaceable(directory, "--output_dir", "faq")
