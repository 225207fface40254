"""A static student of any teacher: what it makes of each piece of its vocabulary, reduced, weighted by frequency.

Model2vec's way (Tulkens and van Dongen 2024): the teacher's vector of a piece alone, PCA, and the weights of smooth
inverse frequency (Arora et al. 2017); here the frequencies are those of the texts at hand.
"""

import argparse

import numpy as np

from models.encoders import fast_encoder
from models.semantic_index import SemanticIndex
from models.settings import EncoderSettings
from models.static_encoder import make_static
from semindex import runtime
from semindex.encode.encoder import encode
from semindex.errors import UserError
from semindex.text.counted import counted
from semindex.text.ragged import Ragged
from semindex.text.tokenizer import TextTokenizer
from training.guide import shared_rows

SMOOTH = 1e-3  # of the inverse frequency: a piece that is one of 1,000 tokens counts half


def check(args: argparse.Namespace, teacher: SemanticIndex) -> None:
    """Raise UserError for what a static student does not have."""
    if args.output_emb_size or args.pooling not in (None, "mean") or args.similarity == "dot":
        raise UserError("--static: the mean of vectors, for cosines; leave --output_emb_size, --pooling and "
                        "--similarity out, and say the width with --static")
    if args.static > teacher.dimension:
        raise UserError(f"--static {args.static}: the teacher's vectors have {teacher.dimension} numbers")


def piece_tokens(tokenizer: TextTokenizer, pieces: int) -> tuple[Ragged, np.ndarray]:
    """Return the tokens of each piece alone between the special ones, and the special ones' ids."""
    special = np.asarray(tokenizer([""]).flat)
    rows = np.repeat(np.concatenate([special[:-1], [0], special[-1:]])[None], pieces, axis=0).astype(np.int32)
    rows[:, len(special[:-1])] = np.arange(pieces)
    return Ragged(rows.reshape(-1), np.arange(pieces + 1, dtype=np.int64) * rows.shape[1]), special


def frequency_weights(tokens: Ragged, pieces: int, smooth: float = SMOOTH) -> np.ndarray:
    """Return smooth / (smooth + share of the tokens) of each piece, float32 [pieces]; 1 for one that does not occur."""
    counts = np.bincount(tokens.flat, minlength=pieces)
    return np.asarray(smooth / (smooth + counts / max(counts.sum(), 1)), np.float32)


def table_of(vectors: np.ndarray, basis: np.ndarray, weights: np.ndarray, nothing: np.ndarray) -> np.ndarray:
    """Return the pieces' vectors on a basis, weighted, float32 [pieces, width]; nothing: ids that get zeros."""
    table = np.asarray(vectors @ basis * weights[:, None], np.float32)
    table[nothing] = 0
    return table


def of_vocabulary(args: argparse.Namespace, teacher: SemanticIndex, tokenizer: TextTokenizer, texts: list[str],
                  basis: np.ndarray) -> tuple[SemanticIndex, TextTokenizer]:
    """Return the student. texts: for the pieces' frequencies. basis: [teacher's width, --static], from PCA.

    It has no prompts: in a mean they would be a vector that all texts share.
    """
    pieces = teacher.ptm.config.vocab_size
    tokens, special = piece_tokens(tokenizer, pieces)
    encoder, _ = fast_encoder(teacher, tokenizer, "auto", pieces)
    vectors = shared_rows(encode(encoder, tokens, "teacher: encode the vocabulary"), pieces)
    weights = frequency_weights(tokenizer(texts), pieces)
    table = table_of(vectors, basis, weights, np.append(special, tokenizer.pad_id))
    settings = EncoderSettings("static", pooling="mean", output_emb_size=0,
                               max_seq_length=args.max_seq_length or teacher.settings.max_seq_length)
    runtime.say(f"student: a static table of {counted(pieces, 'piece')}, {table.shape[1]} wide, of {args.teacher}")
    dropout = next(rate for rate in (args.head_dropout, args.dropout, 0.0) if rate is not None)
    return (SemanticIndex(make_static(table, tokenizer.pad_id), settings, dropout),
            tokenizer.with_length(settings.max_seq_length))
