"""A static student of any teacher: what it makes of each piece of its vocabulary, reduced, weighted by frequency.

Model2vec's way (Tulkens and van Dongen 2024): the teacher's vector of a piece alone, PCA, and the weights of smooth
inverse frequency (Arora et al. 2017); here the frequencies are those of the texts at hand. A mean is linear in the
table, so that the table which is nearest to the teacher's vectors of the texts is then found at once, by least squares.
"""

import argparse
from typing import Any

import numpy as np
import paddle

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
from training.teacher import Targets

SMOOTH = 0.01  # of the inverse frequency: a piece that is one of 100 tokens counts half
BLOCK = 2**14  # texts worked on at once
ITERATIONS, SMALL = 100, 1e-6  # of the conjugate gradients: at most, and the squared residual's share that ends them


def check(args: argparse.Namespace, teacher: SemanticIndex) -> None:
    """Raise UserError for what a static student does not have."""
    if args.output_emb_size or args.pooling not in (None, "mean"):
        raise UserError("--static: the mean of vectors; leave --output_emb_size and --pooling out, and say the width "
                        "with --static")
    if teacher.settings.similarity == "dot":
        raise UserError(f"--static: {args.teacher} compares by inner products, a static student by cosines")
    if args.static > teacher.dimension:
        raise UserError(f"--static {args.static}: the teacher's vectors have {teacher.dimension} numbers")


def piece_tokens(tokenizer: TextTokenizer, pieces: int) -> tuple[Ragged, np.ndarray]:
    """Return the tokens of each piece alone between the special ones, and the special ones' ids."""
    special = np.asarray(tokenizer([""]).flat)
    rows = np.repeat(np.concatenate([special[:-1], [0], special[-1:]])[None], pieces, axis=0).astype(np.int32)
    rows[:, len(special[:-1])] = np.arange(pieces)
    return Ragged(rows.reshape(-1), np.arange(pieces + 1, dtype=np.int64) * rows.shape[1]), special


def frequency_weights(counts: np.ndarray, smooth: float = SMOOTH) -> np.ndarray:
    """Return smooth / (smooth + share of the tokens) of each piece, float32 [pieces]; 1 for one that does not occur."""
    return np.asarray(smooth / (smooth + counts / max(counts.sum(), 1)), np.float32)


def table_of(vectors: np.ndarray, basis: np.ndarray, counts: np.ndarray, nothing: np.ndarray) -> np.ndarray:
    """Return the pieces' vectors on a basis, float32 [pieces, width]: centred, weighted by frequency.

    Centred by their mean over the tokens of the texts: what all pieces share tells no text from another. counts: of
    each piece in the texts; nothing: ids that get zeros.
    """
    mean = counts @ vectors / max(counts.sum(), 1)
    table = np.asarray((vectors - mean) @ basis * frequency_weights(counts)[:, None], np.float32)
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
    nothing = np.append(special, tokenizer.pad_id)
    counts = np.bincount(tokenizer(texts).flat, minlength=pieces)
    counts[nothing] = 0
    table = table_of(vectors, basis, counts, nothing)
    settings = EncoderSettings("static", pooling="mean", output_emb_size=0,
                               max_seq_length=args.max_seq_length or teacher.settings.max_seq_length)
    runtime.say(f"student: a static table of {counted(pieces, 'piece')}, {table.shape[1]} wide, of {args.teacher}")
    dropout = next(rate for rate in (args.head_dropout, args.dropout, 0.0) if rate is not None)
    return (SemanticIndex(make_static(table, tokenizer.pad_id), settings, dropout),
            tokenizer.with_length(settings.max_seq_length))


def fit(student: SemanticIndex, tokens: Ragged, targets: Targets, ridge: float) -> None:
    """Move a static student's table to where the means of its rows are nearest to the teacher's vectors of texts.

    Least squares, sum |mean - target|^2 + ridge * |table - s * where it was|^2: a piece that few texts have stays near
    its own vector. s: the scale at which the means fit best beforehand. By conjugate gradients (Hestenes and Stiefel
    1952) on sparse products: no more memory than some tables, however many texts.
    """
    from scipy.sparse import csr_array

    table = student.ptm.table.numpy()
    counted_in = table.any(axis=1)[tokens.flat].astype(np.float32)  # special tokens have zeros, and keep them
    means = csr_array((counted_in, tokens.flat, tokens.starts), shape=(len(tokens), len(table)))
    sizes = np.maximum(np.asarray(means.sum(axis=1), np.float32), 1)
    means.data /= np.repeat(sizes, np.diff(tokens.starts))
    blocks = [slice(start, start + BLOCK) for start in range(0, len(tokens), BLOCK)]
    wanted, along, square = np.zeros_like(table), 0.0, 0.0
    for block in blocks:
        target, own = targets.of(np.arange(len(tokens))[block]), means[block] @ table
        wanted += means[block].T @ target
        along, square = along + float((own * target).sum()), square + float((own * own).sum())
    table *= np.float32(along / square if along > 0 else 1.0)

    def gram(some: np.ndarray) -> Any:
        return sum(means[block].T @ (means[block] @ some) for block in blocks)

    change, rest = np.zeros_like(table), wanted - gram(table)
    direction, length = rest.copy(), (rest * rest).sum(axis=0)
    first = np.maximum(length, 1e-30)
    for _ in range(ITERATIONS):
        product = gram(direction) + np.float32(ridge) * direction
        step = length / np.maximum((direction * product).sum(axis=0), 1e-30)
        change += step * direction
        rest -= step * product
        before, length = np.maximum(length, 1e-30), (rest * rest).sum(axis=0)
        if (length / first).max() < SMALL:
            break
        direction = rest + length / before * direction
    student.ptm.table.set_value(paddle.to_tensor(np.asarray(table + change, np.float32)))
    runtime.say(f"student: table fitted to {counted(len(tokens), 'text')} by least squares, ridge {ridge:g}")
