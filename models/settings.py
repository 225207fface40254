"""What semantic_index.json holds of an encoder: read, written and checked here."""

import json
import os
from dataclasses import asdict, dataclass, field

from semindex.fields import list_of, one_of, read_fields, real, text, truth, whole
from semindex.text.prompts import Prompts

# Up to format 2 ERNIE computed with 1e-12 in its layer norms, whatever its config.json said.
SETTINGS, FORMAT, FORMAT_OF_EPSILON = "semantic_index.json", 3, 3
# Tokens of a new encoder's texts where no flag says it, by head: the documents' defaults.
MAX_SEQ_LENGTH = {"simcse": 128}
POOLINGS = ("pooler", "cls", "mean", "max")
ACTIVATIONS = ("tanh", "relu", "gelu", "sigmoid")  # behind the linear layer, of sentence-transformers' Dense
FIELDS = {"encoder": text()} | {name: field.optional() for name, field in {
    "pooling": one_of(*POOLINGS), "pooling_layer": whole(-1001, 1000), "output_emb_size": whole(0, 65_536),
    "max_seq_length": whole(3, 8192), "head": text(), "training_pooling": one_of("", *POOLINGS),
    "similarity": one_of("cosine", "dot"), "query_prompt": text(), "passage_prompt": text(),
    "query_prompt_on_both": truth(), "projection_activation": one_of("", *ACTIVATIONS), "projection_bias": truth(),
    "matryoshka_dims": list_of(whole(1, 65_536)), "principal_axes": truth(), "truncate_dim": whole(0, 65_536),
    "max_query_length": whole(0, 8192), "max_chunks": whole(1, 2**40), "threshold": real(-2, 2).or_none(),
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
    collection is ranked. query_prompt, passage_prompt, query_prompt_on_both: see semindex.text.prompts.Prompts.
    projection_activation, projection_bias: of the linear layer. matryoshka_dims: widths that the first numbers of a
    vector were trained to serve at; principal_axes: whether the linear layer began as a turn to the principal axes of
    some texts, so that the first numbers hold most; truncate_dim: how many of them to keep, 0 for all. threshold: the
    cosine from which two texts are taken to match, by the F1 of a dev file labelled 0 and 1; None where these weights
    were not measured.
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
    query_prompt: str = ""
    passage_prompt: str = ""
    query_prompt_on_both: bool = False
    projection_activation: str = ""
    projection_bias: bool = True
    matryoshka_dims: list[int] = field(default_factory=list)
    principal_axes: bool = False
    truncate_dim: int = 0
    threshold: float | None = None
    format: int = FORMAT

    @property
    def prompts(self) -> Prompts:
        """What stands before queries and passages."""
        return Prompts(self.query_prompt, self.passage_prompt, self.query_prompt_on_both)


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
