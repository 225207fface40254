"""A teacher's vectors: computed once, memory-mapped, used again by whoever has the same teacher and texts."""

import argparse
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.encoders import fast_encoder
from models.semantic_index import SemanticIndex
from semindex import manifest, runtime
from semindex.directories import atomic_directory, check_replaceable
from semindex.encode.encoder import encode, report_cut, vector_file
from semindex.encode.text_encoder import TextEncoder
from semindex.errors import UserError
from semindex.text.corpus import Corpus
from semindex.text.counted import counted
from semindex.text.prompts import Prompts
from semindex.text.ragged import Ragged
from semindex.text.tokenizer import TextTokenizer
from training.parallel import locked

KIND, FILE, NAME = "teacher-vectors", "vectors.npy", "teacher"


@dataclass
class Texts:
    """The distinct texts of some samples, each as the side that it is encoded as.

    queries, passages: texts; the passages' numbers follow those of the queries. Where both sides read alike, all are
    queries. rows: int64 [samples, columns], the number of each text.
    """

    queries: list[str]
    passages: list[str]
    rows: np.ndarray
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        parts = [Corpus.from_texts(texts).fingerprint if texts else "" for texts in (self.queries, self.passages)]
        self.fingerprint = hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.queries) + len(self.passages)

    @classmethod
    def of(cls, samples: Sequence[Sequence[str]], sides: str, pairs: bool) -> "Texts":
        """Number the texts of samples.

        sides: of samples of one text: query, passage or both; '' where both sides read alike. Of longer samples the
        first text is a query, the others are passages. pairs: whether samples stay together; else each distinct text
        is a sample of its own.
        """
        queries, passages = dict[str, int](), dict[str, int]()
        columns = len(samples[0])
        first = passages if columns == 1 and sides == "passage" else queries
        tables = [first, *[passages if sides else queries] * (columns - 1)]
        numbers = np.array([[table.setdefault(text, len(table)) for table, text in zip(tables, row)]
                            for row in samples], np.int64)
        if sides == "both" and columns == 1:
            passages |= queries
        numbers[:, [table is passages for table in tables]] += len(queries)
        together = pairs and columns > 1
        rows = numbers if together else np.arange(len(queries) + len(passages))[:, None]
        return cls(list(queries), list(passages), rows)

    def tokens(self, tokenizer: TextTokenizer, prompts: Prompts) -> Ragged:
        """Return the token ids of all texts, each with the prompt of its side."""
        parts = [tokenizer.prompted(prompts.of(side))(texts)
                 for side, texts in (("query", self.queries), ("passage", self.passages)) if texts]
        return parts[0] if len(parts) == 1 else parts[0].followed_by(parts[1])


class Targets:
    """The teacher's vectors of samples, see data.Labels. vectors: float32 [texts, width]; rows: see Texts.

    basis: float32 [width, fewer], from models.weights.principal, where the student's vectors have fewer numbers. unit:
    whether the reduced vectors are made unit vectors.
    """

    def __init__(self, vectors: np.ndarray, rows: np.ndarray, key: str, basis: np.ndarray | None = None,
                 unit: bool = True) -> None:
        self.vectors, self.rows, self.basis, self.unit = vectors, rows, basis, unit
        self.identity = f"{key} {vectors.shape[1] if basis is None else basis.shape[1]}"

    def __getitem__(self, samples: np.ndarray) -> np.ndarray:
        """Return the vectors of some samples, float32 [samples, columns, width]."""
        return self.of(self.rows[samples])

    def of(self, texts: np.ndarray) -> np.ndarray:
        """Return the vectors of some texts, float32 [*texts.shape, width]."""
        found = np.asarray(self.vectors[texts], np.float32)
        if self.basis is None:
            return found
        found = found @ self.basis
        return found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-12) if self.unit else found


@dataclass(frozen=True)
class Spread:
    """How far vectors lie apart. cosine: mean between different ones. rank: exp of the entropy of the singular values.

    The effective rank of Roy and Vetterli 2007, of the vectors less their mean: 1 where they lie on a line.
    """

    cosine: float
    rank: float

    @classmethod
    def of(cls, vectors: np.ndarray) -> "Spread":
        """Measure vectors, [n, width], n >= 2."""
        vectors = np.asarray(vectors, np.float64)
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        count, total = len(unit), unit.sum(axis=0)
        values = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)
        shares = values / max(values.sum(), 1e-30)
        entropy = -(shares * np.log(np.maximum(shares, 1e-30))).sum()
        return cls(float((total @ total - count) / (count * (count - 1))), float(np.exp(entropy)))

    def collapsed(self, teacher: "Spread") -> bool:
        """Tell whether vectors lie far closer together, or in far fewer directions, than the teacher's do."""
        return 1 - self.cosine < (1 - teacher.cosine) / 4 or self.rank < teacher.rank / 4


def directory(args: argparse.Namespace) -> str:
    """Return where the vectors are kept."""
    return str(args.vectors_dir or os.path.join(args.save_dir, NAME))


def written(args: argparse.Namespace) -> dict[str, str] | None:
    """Return what the manifest of kept vectors says, None where there are none; UserError for another directory."""
    path = directory(args)
    if not runtime.on_rank_0(lambda: check_replaceable(path, "--vectors_dir", KIND)):
        return None
    return runtime.share(manifest.check(path, KIND, args.trust_files) if runtime.rank() == 0 else None)


def vectors_of(args: argparse.Namespace, texts: Texts, identity: str, teacher: SemanticIndex | None,
               tokenizer: TextTokenizer | None) -> tuple[np.ndarray, str]:
    """Return the teacher's vectors of texts, memory-mapped, float32 [texts, width], and their key. Every rank calls it.

    identity: the teacher's fingerprint. teacher: None where a resume goes on without it. Raises UserError where the
    directory holds those of another teacher or other texts, unless --overwrite replaces them.
    """
    path, about = directory(args), written(args)
    key = f"{identity} {texts.fingerprint}"
    if about is not None:
        other = "another teacher" if about["teacher"] != identity else ""
        if about["texts"] != texts.fingerprint:
            other = other or "other texts"
        if not other:
            found = np.load(os.path.join(path, FILE), mmap_mode="r", allow_pickle=False)
            if found.ndim == 2 and len(found) == len(texts):
                runtime.say(f"{path}: the teacher's vectors of {counted(len(texts), 'text')} used again")
                return found, key
            other = "other texts"
        if not args.overwrite:
            raise UserError(f"--vectors_dir {path}: holds vectors of {other}; name another directory, or pass "
                            "--overwrite to replace them")
    if teacher is None or tokenizer is None:
        raise UserError(f"--teacher {args.teacher}: is not there, and {path} holds none of its vectors; name "
                        "the teacher")
    encoder, _ = fast_encoder(teacher, tokenizer, "auto", len(texts))
    _write(path, encoder, texts, identity, teacher, tokenizer)
    return np.load(os.path.join(path, FILE), mmap_mode="r", allow_pickle=False), key


def _write(path: str, encoder: TextEncoder, texts: Texts, identity: str, teacher: SemanticIndex,
           tokenizer: TextTokenizer) -> None:
    """Encode and keep the vectors; a killed run's parts are used again."""
    prompts = teacher.settings.prompts
    file = vector_file(path, teacher, texts, f"{identity} {texts.fingerprint}")
    if runtime.rank() == 0:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)

    def keep() -> None:
        with atomic_directory(path, KIND) as partial:
            shutil.move(file.partial, os.path.join(partial, FILE))  # which may be on another file system
            manifest.write(partial, KIND, {"teacher": identity, "texts": texts.fingerprint,
                                           "sides": "differ" if prompts.differ else "alike"})
        file.remove()

    with locked(path, "--vectors_dir"):
        encode(encoder, texts.tokens(tokenizer, prompts), "teacher: encode", file)
        report_cut(tokenizer)
        runtime.on_rank_0(keep)
    runtime.say(f"{path}: the teacher's vectors of {counted(len(texts), 'text')} written")


def probe(texts: int, rows: int = 256) -> np.ndarray:
    """Return the numbers of some texts, evenly spread, int64."""
    return np.unique(np.linspace(0, texts - 1, min(rows, texts)).astype(np.int64))
