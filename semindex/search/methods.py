"""Which sources a recall asks and how it fuses them; the small file that calibrate.py keeps the choice in."""

import argparse
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from semindex.errors import UserError
from semindex.fields import Field, object_of, one_of, read_fields, real, text, whole
from semindex.files import atomic_file
from semindex.runtime import warn
from semindex.search.fusion import FUSION, Fused, Fusion, Ranking, fuse

SOURCES = ("dense", "keyword")
METHODS = (*SOURCES, "hybrid")
FORMAT, DEPTH = 1, 100
KEYWORD = "keyword search"  # among what was measured: the settings of the keyword index of a recall
FIELDS: dict[str, Field] = {
    "made_by": one_of("semindex"), "format": whole(1, 2**31), "kind": one_of("calibration"), "encoder": text(),
    "corpus": text(), "method": one_of(*METHODS), "fusion": FUSION, "depth": whole(1, 1_000_000),
    "temperature": real(0, 1e6),
    "measured": object_of({}, others=True),
}


@dataclass(frozen=True)
class Method:
    """How to recall. name: dense, keyword or hybrid; fusion: of hybrid; depth: texts asked of each source, at least."""

    name: str = "dense"
    fusion: Fusion = field(default_factory=Fusion)
    depth: int = DEPTH

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, in the order of the fusion's weights; one of weight 0 is asked too, to explain,
        and brings no text in."""
        return SOURCES if self.name == "hybrid" else (self.name,)

    def depth_for(self, k: int) -> int:
        """Return how many texts to ask each source for where k are wanted."""
        return max(k, self.depth) if self.name == "hybrid" else k

    def fuse(self, found: Mapping[str, Ranking], k: int, exact: np.ndarray | None = None) -> Fused:
        """Return the k best of what the sources found; of one source its own ranking and scores.

        exact: see fusion.fuse; of one source it is passed over.
        """
        if self.name == "hybrid":
            return fuse([found[name] for name in SOURCES], self.fusion, k, exact)
        own = found[self.name]
        ids, scores = own.ids[:, :k], own.scores[:, :k]
        ranks = np.where(ids >= 0, np.arange(1, ids.shape[1] + 1, dtype=np.int32), 0)
        return Fused(ids, scores, ranks[:, :, None], np.where(ids >= 0, scores, np.nan).astype(np.float32)[:, :, None])


@dataclass
class Calibration:
    """What calibrate.py found.

    encoder, corpus: fingerprints of what it was found with; measured: the figures behind it; temperature: of a FAQ's
    entries, see semindex.faq.ranking; thresholds: of its answers, see semindex.faq.confidence.
    """

    method: Method
    encoder: str
    corpus: str
    measured: dict[str, Any] = field(default_factory=dict)
    temperature: float = 0.0
    thresholds: dict[str, Any] | None = None

    def save(self, path: str) -> None:
        """Write the file, whole or not at all."""
        with self.written(path):
            pass

    @contextlib.contextmanager
    def written(self, path: str) -> Iterator[None]:
        """Write the file; it takes its name once what is done within has gone well."""
        content = {
            "made_by": "semindex", "format": FORMAT, "kind": "calibration", "encoder": self.encoder,
            "corpus": self.corpus, "method": self.method.name, "fusion": self.method.fusion.as_json(),
            "depth": self.method.depth, "temperature": self.temperature, "measured": self.measured,
        }
        if self.thresholds is not None:
            content["thresholds"] = self.thresholds
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with atomic_file(path) as file:
            json.dump(content, file, ensure_ascii=False, indent=2)
            file.write("\n")
            file.flush()
            yield

    @classmethod
    def load(cls, path: str) -> "Calibration":
        """Read what save wrote; UserError that names the field that is wrong."""
        advice = "make it again with calibrate.py"
        content = read_fields(path, FIELDS, others=True, advice=advice, newest=FORMAT)
        about = content["fusion"]
        try:
            fusion = Fusion(about["kind"], about["k"], tuple(about["weights"]))
        except ValueError:
            raise UserError(f"{path}: fusion: no weight is above 0; {advice}") from None
        if len(fusion.weights) != len(SOURCES):
            raise UserError(f"{path}: fusion: {len(fusion.weights)} weights for {len(SOURCES)} sources; {advice}")
        return cls(Method(content["method"], fusion, content["depth"]), content["encoder"], content["corpus"],
                   content["measured"], content["temperature"], content.get("thresholds"))


def check_calibration(path: str, encoder: str, corpus: str) -> None:
    """Raise UserError where a calibration was made with another encoder: its weights are of that one's scores.

    Warn where it was made for a FAQ or another corpus, which may have changed a little. corpus: a fingerprint.
    """
    found = Calibration.load(path)
    if found.encoder != encoder:
        raise UserError(f"--calibration {path}: was made with another encoder; run calibrate.py with this one")
    if found.corpus != corpus:
        other = "a FAQ" if found.thresholds else "another corpus"
        warn(f"--calibration {path}: was made for {other}; run calibrate.py with this one to know what is best for it")


def method_of(args: argparse.Namespace) -> Method:
    """Return the method of the flags, see search_flags.add_method; UserError where they contradict one another."""
    fused = ("fusion", "fusion_weights", "rrf_k", "fusion_depth")
    given = [name for name in fused if getattr(args, name) is not None]
    if args.calibration:
        if args.method or given:
            raise UserError(f"--{'method' if args.method else given[0]} and --calibration {args.calibration} both say "
                            "how to recall; leave one of them out")
        found = Calibration.load(args.calibration)
        kept, own = found.measured.get(KEYWORD), {"tokens": args.tokens, "k1": args.k1, "b": args.b}
        if isinstance(kept, dict) and kept != own and found.method.name != "dense":
            flags = " ".join(f"--{name} {value}" for name, value in kept.items())
            raise UserError(f"--calibration {args.calibration}: was made with {flags}; give the same")
        return found.method
    name = args.method or "dense"
    if given and name != "hybrid":
        raise UserError(f"--{given[0]} is of --method hybrid")
    if args.rrf_k is not None and args.fusion not in (None, "rrf"):
        raise UserError("--rrf_k is of --fusion rrf")
    weights = tuple(args.fusion_weights or (1.0, 1.0))
    if not any(weights):
        raise UserError("--fusion_weights 0 0: one of them must be above 0")
    return Method(name, Fusion(args.fusion or "rrf", 60.0 if args.rrf_k is None else args.rrf_k, weights),
                  args.fusion_depth or DEPTH)
