"""Make exports.json: vectors that sentence-transformers gives of the directories that make_exports.py wrote.

    pip install torch sentence-transformers
    python tests/reference/check_sentence_transformers.py DIR

Beside the vectors stand the checksums of the files they come from: test_sentence_directory.py writes the same files.
Ran with sentence-transformers 6.2.0, transformers 5.24.0 and torch 2.13.0 (CPU).
"""

import json
import sys
from pathlib import Path

import numpy as np
import tiny
from sentence_transformers import SentenceTransformer


def main():
    """Encode with each directory, as a reader of its model card would, and write the file."""
    found = {}
    for place in sorted(Path(sys.argv[1]).iterdir()):
        model = SentenceTransformer(str(place / "export"), device="cpu")
        sides = {"query": model.encode_query(tiny.TEXTS), "passage": model.encode_document(tiny.TEXTS)}
        if np.array_equal(sides["query"], sides["passage"]):
            del sides["passage"]
        rows = {side: [[round(float(value), 7) for value in row] for row in vectors] for side, vectors in sides.items()}
        found[place.name] = {"files": tiny.digests(place / "export"), "length": model.max_seq_length,
                             "similarity": str(model.similarity_fn_name)} | rows
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(rows, separators=(',', ':'))}" for name, rows in found.items())
    Path(__file__).with_name("exports.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
