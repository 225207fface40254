"""Vectors in parts: each process writes its own, alone; a manifest with the checksums of all joins them."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from semindex import manifest
from semindex.directories import atomic_directory, directory_path
from semindex.encode.encoder import WINDOW, encode_rows, share_of
from semindex.encode.text_encoder import TextEncoder
from semindex.encode.vector_file import VectorFile
from semindex.errors import UserError
from semindex.locks import PREFIX, locked
from semindex.text.corpus import Corpus
from semindex.text.counted import counted

PART, JOINED, FILE = "vectors-part", "vectors-in-parts", "vectors.npy"
_NAME = re.compile(r"part_(\d+)_of_(\d+)")


def key_of(fingerprint: str, engine: str, prompt: str, corpus: Corpus) -> str:
    """Return what decides the vectors of a corpus. fingerprint: of the encoder; prompt: of the side encoded as."""
    return f"{fingerprint} {'int8' if engine == 'int8' else 'fp32'} {prompt!r} {corpus.fingerprint} {WINDOW}"


@dataclass
class Parts:
    """float32 [count, dimension] below a directory, in directories part_NUMBER_of_PARTS of rows one behind the other.

    The directory may be one that all boxes share, or one of each box's own: nothing but a part's own process writes
    into the part, and no process waits for another. key: see key_of; parts of another key are never used.
    """

    directory: str
    count: int
    dimension: int
    key: str

    def path(self, part: int, parts: int) -> str:
        """Return the directory of a part."""
        return os.path.join(self.directory, f"part_{part}_of_{parts}")

    def parts(self) -> int:
        """Return how many parts there are to be by the names of those that are there; 0 where there is none.

        Raises UserError where parts of two numbers are there, or something that is no part.
        """
        directory_path(self.directory, "--output_dir")
        names = os.listdir(self.directory) if os.path.isdir(self.directory) else []
        found = {name: _NAME.fullmatch(name) for name in names if not name.startswith(PREFIX) and name != manifest.NAME}
        for name, match in found.items():
            if match is None:
                raise UserError(f"{self.directory}: holds {name}, which is no part of vectors; name another directory")
        counts = {int(match[2]) for match in found.values() if match}
        if len(counts) > 1:
            raise UserError(f"{self.directory}: holds parts of {min(counts)} and of {max(counts)}; remove those of "
                            "one, or name another directory")
        return counts.pop() if counts else 0

    def is_whole(self, part: int, parts: int) -> bool:
        """Tell whether a part is there as it was written, by its checksum.

        Raises UserError where it was made with another encoder or of other texts.
        """
        path = self.path(part, parts)
        about = manifest.read(path)
        if about is None or about["kind"] != PART:
            return False
        if (about.get("key"), about.get("count"), about.get("dimension")) != (self.key, self.count, self.dimension):
            raise UserError(f"{path}: was made with another encoder, engine or side, or of other texts; name another "
                            "directory, or remove that one")
        try:
            manifest.check(path, PART)
        except UserError:
            return False
        return True

    def missing(self, parts: int) -> list[int]:
        """Return the parts that are not there, or not whole."""
        return [part for part in range(parts) if not self.is_whole(part, parts)]

    def write(self, part: int, parts: int, encoder: TextEncoder, texts: Corpus, say: Callable[[str], None]) -> None:
        """Encode a part, unless it is there; what a killed process encoded of it is used again.

        Raises UserError where another process writes it now.
        """
        path, rows = self.path(part, parts), share_of(self.count, part, parts)
        title = f"part {part} of {parts}"
        with locked(path, "--part"):
            if self.is_whole(part, parts):
                say(f"{title}: {path} is there already")
                return
            if os.path.lexists(path):
                say(f"{title}: {path} is not what was written, its checksum says; it is made anew")
            file = VectorFile(path, rows.stop - rows.start, self.dimension, f"{self.key} {rows}")
            vectors = encode_rows(encoder, texts, rows, title, file)
            with atomic_directory(path, PART) as partial:
                del vectors  # a memory map of the file
                os.replace(file.partial, os.path.join(partial, FILE))
                manifest.write(partial, PART, {"key": self.key, "count": self.count, "dimension": self.dimension,
                                               "rows": [rows.start, rows.stop]})
            file.remove()
            say(f"{title}: {path}, rows {rows.start} to {rows.stop} of {self.count}")

    def join(self, parts: int) -> list[int]:
        """Write the manifest of all parts if they are there; return those that are missing."""
        missing = self.missing(parts)
        if not missing:
            folders = [os.path.basename(self.path(part, parts)) for part in range(parts)]
            manifest.join(self.directory, JOINED, {"key": self.key, "parts": parts, "count": self.count,
                                                   "dimension": self.dimension}, folders)
        return missing

    def check(self, trust: bool = False) -> int:
        """Return how many parts there are; UserError where one is missing, damaged, or of something else."""
        parts = self.parts()
        if not parts:
            raise UserError(f"{self.directory}: holds no vectors; encode_corpus.py makes them")
        missing = self.join(parts) if manifest.read(self.directory) is None else []
        if missing:
            raise UserError(f"{self.directory}: {self.lacking(missing, parts)}")
        content = manifest.check(self.directory, JOINED, trust) or {}
        if (content.get("key"), content.get("parts")) != (self.key, parts):
            raise UserError(f"{self.directory}: was made with another encoder, engine or side, or of other texts; "
                            "encode_corpus.py makes vectors of these elsewhere")
        return parts

    def vectors(self, trust: bool = False) -> np.ndarray:
        """Return all rows, float32 [count, dimension], once every part is what the manifest says.

        One part is memory-mapped, several are read into memory. Raises UserError as `check` does.
        """
        parts = self.check(trust)
        blocks = [np.load(os.path.join(self.path(part, parts), FILE), mmap_mode="r", allow_pickle=False)
                  for part in range(parts)]
        if sum(map(len, blocks)) != self.count or any(block.shape[1:] != (self.dimension,) for block in blocks):
            raise UserError(f"{self.directory}: its parts are not {counted(self.count, 'vector')} of {self.dimension}")
        return blocks[0] if parts == 1 else np.concatenate(blocks)

    def lacking(self, missing: list[int], parts: int) -> str:
        """Say which parts are missing and how to make them."""
        return (f"part {', '.join(map(str, missing))} of {parts} is not there yet; copy it there from the box that "
                f"has it, or make it: encode_corpus.py with --part {missing[0]}/{parts}, or without --part for "
                "all that are missing")
