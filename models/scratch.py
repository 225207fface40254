"""scratch-LxW: an ERNIE-shaped encoder of L layers, W wide, from random weights; vocabulary from the user's texts.

It lets the whole path run where no pretrained weights can be had. It is NOT pretrained and says so.
"""

import os
import re
import tempfile
from collections.abc import Iterable
from typing import Any

from options import UserError

SPECIAL_TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
VOCABULARY = 30_000


def is_scratch(name: str | None) -> bool:
    """Tell whether the name asks for an encoder from random weights."""
    return bool(name) and str(name).startswith("scratch")


def parse_name(name: str) -> tuple[int, int]:
    """Return (layers, width) of a name like scratch-2x256; UserError for one that cannot be built."""
    match = re.fullmatch(r"scratch-(\d+)x(\d+)", name)
    if not match or int(match[1]) < 1 or int(match[2]) < 32 or int(match[2]) % 32:
        raise UserError(f"--model_name_or_path {name}: expected scratch-LxW, for example scratch-2x256, "
                        "with W a multiple of 32")
    return int(match[1]), int(match[2])


def make_vocabulary(texts: Iterable[str], size: int = VOCABULARY) -> list[str]:
    """Return WordPiece tokens for the texts: special tokens, every character seen, frequent pieces of words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    rust = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    rust.normalizer = normalizers.BertNormalizer()
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, min_frequency=2, special_tokens=SPECIAL_TOKENS,
                                        limit_alphabet=size, show_progress=False)
    rust.train_from_iterator(texts, trainer)
    vocabulary = rust.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def build(name: str, texts: Iterable[str], dropout: float | None = None) -> tuple[Any, Any]:
    """Return (paddlenlp ErnieModel with random weights, ErnieTokenizer).

    dropout: of hidden states and attention; None is 0.1. paddle's seed decides the weights.
    """
    from paddlenlp.transformers import ErnieConfig, ErnieModel, ErnieTokenizer

    layers, width = parse_name(name)
    rate = 0.1 if dropout is None else dropout
    directory = tempfile.TemporaryDirectory()
    path = os.path.join(directory.name, "vocab.txt")
    tokens = make_vocabulary(texts)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(tokens) + "\n")
    tokenizer = ErnieTokenizer(path)
    tokenizer.directory = directory  # it copies its vocabulary from there whenever it is saved
    config = ErnieConfig(
        vocab_size=len(tokens), hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64), intermediate_size=4 * width, max_position_embeddings=512,
        type_vocab_size=2, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate,
    )
    return ErnieModel(config), tokenizer
