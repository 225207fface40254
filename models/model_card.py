"""README.md of a directory for sentence-transformers: what the encoder is, where it comes from, how it was trained."""

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any

from models.semantic_index import SemanticIndex
from semindex.text.prompts import SIDES

HEAD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- feature-extraction
- sentence-similarity
---
"""
RECORDS = ("training.json", "training_state.json")  # the second: of the newest checkpoint of an older run
# Of training_state.json: what the position of a run is, not how it was trained.
POSITION = ("step", "best", "waited")


def _name(place: str) -> str:
    """Return a directory's name without the folders above it, which are nobody else's business; as UTF-8 holds it."""
    known = os.path.isabs(place) or os.path.exists(place)
    return (os.path.basename(os.path.abspath(place)) if known else place).encode("utf-8", "replace").decode()


def _table(rows: Mapping[str, Any], left: str, right: str) -> str:
    lines = [f"| {key} | {_cell(value)} |" for key, value in rows.items()]
    return "\n".join([f"| {left} | {right} |", "|---|---|", *lines])


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ")


def _training(source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (flags and data, step and best metric) of the run that a checkpoint is of; empty where it does not say."""
    directory = source if os.path.isdir(source) else os.path.dirname(source)
    state: dict[str, Any] = {}
    for name in RECORDS:
        with contextlib.suppress(OSError, ValueError), open(os.path.join(directory, name), encoding="utf-8") as file:
            state = state or json.load(file)
    flags = {key: value for key, value in state.items() if key not in POSITION and not key.startswith("encoder's ")}
    return flags, {key: state[key] for key in ("step", "best") if state.get(key) is not None}


def model_card(model: SemanticIndex, source: str, output_path: str, results: Mapping[str, float],
               versions: Mapping[str, str]) -> str:
    """Return the text.

    source: the checkpoint. output_path: the directory. results: by metric, of a development set. versions: by package.
    """
    settings, name, flags, where = model.settings, _name(os.path.abspath(output_path)), *_training(source)
    size = sum(parameter.size for parameter in model.parameters())
    linear = f"{settings.output_emb_size} wide, {settings.projection_activation or 'no'} activation"
    about = {
        "encoder": f"{type(model.ptm).__name__}, {model.ptm.config.num_hidden_layers} layers, "
                   f"{model.ptm.config.hidden_size} wide", "parameters": f"{size:,}",
        "vectors": f"{model.dimension} numbers, unit length", "compared by": "cosine", "pooling": settings.pooling,
        "linear layer": linear if settings.output_emb_size else "none",
        "tokens at most": settings.max_seq_length,
        "prompts": {side: settings.prompts.of(side) for side in SIDES} if settings.prompts.identity() else "none",
    } | ({"trained to be cut to": settings.matryoshka_dims} if settings.matryoshka_dims else {})
    parts = [f"{HEAD}\n# {name}", "An encoder for semantic search: texts to vectors, near texts to near vectors.",
             f"Weights from: {_name(settings.encoder)}. Loss: {settings.head or 'none, as they came'}.",
             _table(about, "what", "value"), "## Use", _usage(name), "## Training"]
    if flags:
        parts.append(_table(flags | where, "flag or data", "value"))
        parts.append("`training texts` is a checksum, `best` the best value of the main metric on the development set "
                     "until `step`.")
    else:
        parts.append("The checkpoint does not say: it is from before checkpoints did." if settings.head else
                     "Not trained with this project: the weights are as they came.")
    parts.append("## Results on the development set")
    parts.append(_table(results, "metric", "value") if results else
                 "Not measured at the export: `--dev_set_file` and `--corpus_file` do.")
    return "\n\n".join([*parts, "## Versions", _table(versions, "package", "version")]) + "\n"


def _usage(name: str) -> str:
    return f"""```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer({name!r})
queries = model.encode_query(["how do I reset my password"])
passages = model.encode_document(["Passwords are reset in the settings.", "Parcels arrive within a week."])
print(model.similarity(queries, passages))
```"""
