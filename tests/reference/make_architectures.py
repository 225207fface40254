"""Make architectures.json: vectors by sentence-transformers of the directories of tiny.py, for test_architectures.py.

    pip install torch sentence-transformers
    python tests/reference/make_architectures.py

Ran with sentence-transformers 6.2.0, transformers 5.24.0 and torch 2.13.0 (CPU).
"""

import json
import tempfile
from pathlib import Path

import tiny
from sentence_transformers import SentenceTransformer


def vectors(directory, prompts):
    """Return {side: rows} of unit vectors; without prompts both sides are the query's."""
    model = SentenceTransformer(str(directory), device="cpu")
    # by name: encode_document of release 6 knows "document" alone
    names = {"query": "query", "passage": next(name for name in prompts if name != "query")} if prompts else {"query": None}
    return {side: [[round(float(value), 7) for value in row]
                   for row in model.encode(tiny.TEXTS, prompt_name=name, normalize_embeddings=True)]
            for side, name in names.items()}


def main():
    """Write the file."""
    found = {}
    for name, variant in tiny.VARIANTS.items():
        with tempfile.TemporaryDirectory() as directory:
            tiny.write(directory, variant)
            found[name] = vectors(directory, variant.get("prompts"))
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(rows, separators=(',', ':'))}" for name, rows in found.items())
    Path(__file__).with_name("architectures.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
