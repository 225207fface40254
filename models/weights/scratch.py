"""scratch-LxW: an ERNIE-shaped encoder of L layers, W wide, from random weights; vocabulary from the user's texts.

It lets the whole path run where no pretrained weights can be had. It is NOT pretrained and says so.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

from models.weights import Pretrained
from models.weights.paddlenlp import quiet
from semindex.directories import temporary_directory
from semindex.errors import UserError
from semindex.runtime import say
from semindex.text.paddlenlp_tokenizer import PaddlenlpTokenizer

SPECIAL_TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
VOCABULARY = 30_000


def is_scratch(name: str | None) -> bool:
    """Tell whether the name has the form of an encoder from random weights."""
    return bool(re.match("scratch(-|$)", name or ""))


def parse_name(name: str) -> tuple[int, int]:
    """Return (layers, width) of a name like scratch-2x256; UserError for one that cannot be built."""
    match = re.fullmatch(r"scratch-(\d+)x(\d+)", name)
    if not match or int(match[1]) < 1 or int(match[2]) < 32 or int(match[2]) % 32:
        raise UserError(f"--model_name_or_path {name}: expected scratch-LxW, for example scratch-2x256, "
                        "with W a multiple of 32")
    return int(match[1]), int(match[2])


def make_vocabulary(texts: Iterable[str], size: int = VOCABULARY) -> list[str]:
    """Return WordPiece tokens for the texts: special tokens, every character, words seen at least twice.

    Most frequent first, equals in order of code points. The library's own trainer breaks ties differently from
    one run to the next, and a run with the same seed would no longer give the same weights.
    """
    from tokenizers import normalizers, pre_tokenizers

    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    tokens: Counter[str] = Counter()
    for word, count in words.items():
        for character, piece in zip(word, [word[0], *("##" + c for c in word[1:])]):
            tokens[piece] += count
            tokens[character] += 0  # symbols that the tokenizer splits off stand alone
        if len(word) > 1 and count > 1:
            tokens[word] += count
    ranked = sorted(tokens, key=lambda token: (-tokens[token], token))
    return (SPECIAL_TOKENS + ranked)[:size]


def build(name: str, texts: Iterable[str], dropout: float | None = None) -> tuple[Any, Any]:
    """Return (paddlenlp ErnieModel with random weights, ErnieTokenizer).

    dropout: of hidden states and attention; None is 0.1. paddle's seed decides the weights.
    """
    from paddlenlp.transformers import ErnieConfig, ErnieModel, ErnieTokenizer

    layers, width = parse_name(name)
    rate = 0.1 if dropout is None else dropout
    directory = temporary_directory()
    path = os.path.join(directory.name, "vocab.txt")
    tokens = make_vocabulary(texts)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(tokens) + "\n")
    ErnieTokenizer(path).save_pretrained(directory.name)
    # Loaded, as it will be from a checkpoint: paddlenlp knows special tokens within a text only then.
    tokenizer = ErnieTokenizer.from_pretrained(directory.name)
    tokenizer.directory = directory  # it copies its vocabulary from there whenever it is saved
    config = ErnieConfig(
        vocab_size=len(tokens), hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=width // (64 if width % 64 == 0 else 32), intermediate_size=4 * width,
        max_position_embeddings=512, type_vocab_size=2, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate,
    )
    model = ErnieModel(config)
    # At equal size the random vectors of the positions drown what words two texts share, and little data does
    # not undo it: at a tenth Recall@10 of the sample set rose from 44.8 to 47.1 (mean of two seeds).
    positions = model.embeddings.position_embeddings.weight
    positions.set_value(positions * 0.1)
    return model, tokenizer


def claims(name: str) -> bool:
    """Tell whether the name asks for an encoder from random weights; a directory of that name is a directory."""
    return is_scratch(name) and not os.path.isdir(name)


def load(name: str, dropout: float | None, texts: Iterable[str]) -> Pretrained:
    """Return a new encoder with a vocabulary from the texts."""
    quiet()
    encoder, tokenizer = build(name, texts, dropout)
    say(f"{name}: random weights, NOT pretrained; vocabulary of {len(tokenizer.vocab)} from the training texts")
    # An untrained pooler and [CLS] say nothing of the text, the mean over its tokens does.
    return Pretrained(encoder, partial(PaddlenlpTokenizer, tokenizer), {"pooling": "mean"})
