"""What semantic_index.json holds of an encoder: read, written and checked here."""

import json
import os
from dataclasses import asdict, dataclass

from semindex.fields import one_of, read_fields, text, whole

SETTINGS, FORMAT = "semantic_index.json", 2
# Tokens of a new encoder's texts where no flag says it, by head: the documents' defaults.
MAX_SEQ_LENGTH = {"simcse": 128}
POOLINGS = ("pooler", "cls", "mean", "max")
FIELDS = {"encoder": text()} | {name: field.optional() for name, field in {
    "pooling": one_of(*POOLINGS), "pooling_layer": whole(-1001, 1000), "output_emb_size": whole(0, 65_536),
    "max_seq_length": whole(3, 8192), "head": text(), "training_pooling": one_of("", *POOLINGS),
    "similarity": one_of("cosine", "dot"), "max_query_length": whole(0, 8192), "max_chunks": whole(1, 2**40),
    "format": whole(1, FORMAT),
}.items()}


@dataclass
class EncoderSettings:
    """What semantic_index.json holds: all that later scripts need to know of an encoder.

    pooling: pooler, cls, mean or max; pooling_layer: hidden layer read by the latter three, -1 the last;
    output_emb_size: width of the linear layer, 0 for none; max_seq_length: tokens, special ones included;
    encoder: where the weights came from; head: the loss they were trained with; training_pooling: pooling while
    training where it is another one than at inference, which SimCSE wants. similarity: cosine, of unit vectors; or
    dot, of vectors through a layer normalisation, the encoder of ANCE (Xiong et al. 2020, arXiv 2007.00808).
    max_query_length, max_chunks: tokens of a query, 0 for max_seq_length, and passages of a document at most, where a
    collection is ranked.
    """

    encoder: str
    pooling: str = "pooler"
    pooling_layer: int = -1
    output_emb_size: int = 256
    max_seq_length: int = 64
    head: str = ""
    training_pooling: str = ""
    similarity: str = "cosine"
    max_query_length: int = 0
    max_chunks: int = 1
    format: int = FORMAT


def read_settings(directory: str) -> EncoderSettings | None:
    """Return what semantic_index.json says, None where there is no such file, UserError where a field is wrong."""
    path = os.path.join(directory, SETTINGS)
    if not os.path.isfile(path):
        return None
    return EncoderSettings(**read_fields(path, FIELDS, newest=FORMAT))


def write_settings(settings: EncoderSettings, directory: str) -> None:
    """Write semantic_index.json into a directory."""
    with open(os.path.join(directory, SETTINGS), "w", encoding="utf-8") as file:
        json.dump(asdict(settings), file, ensure_ascii=False, indent=2)
