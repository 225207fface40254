"""The student of a distillation: some of the teacher's layers, another encoder, or what a resumed run has saved."""

import argparse
import copy
from collections.abc import Callable

import numpy as np
import paddle

from models import flag_checks, loading
from models.semantic_index import SemanticIndex
from models.weights import Pretrained, reduce, scratch
from semindex import runtime
from semindex.errors import UserError
from semindex.text.counted import counted
from semindex.text.tokenizer import TextTokenizer

# Of a student made of the teacher the width may be another one: its linear layer is then the PCA's.
OWN = ("output_emb_size", "model_name_or_path")


def dropout_rate(args: argparse.Namespace) -> float:
    """Return the dropout behind the linear layer."""
    return next(rate for rate in (args.head_dropout, args.dropout, 0.0) if rate is not None)


def check(args: argparse.Namespace, teacher: SemanticIndex) -> None:
    """Raise UserError where the flags ask for a student that cannot be made of the teacher: before it encodes."""
    flags = {name: value for name, value in vars(args).items() if name not in OWN}
    settings, config = copy.deepcopy(teacher.settings), teacher.ptm.config
    flag_checks.check_flags(flags, settings, args.teacher)
    settings.max_seq_length = args.max_seq_length or settings.max_seq_length
    flag_checks.check_lengths(settings, flags, config)
    if args.layers > config.num_hidden_layers:
        raise UserError(f"--layers {args.layers}: the teacher has {counted(config.num_hidden_layers, 'layer')}")
    width, own = args.output_emb_size or settings.output_emb_size, settings.output_emb_size
    if width != own and (settings.projection_activation or settings.similarity == "dot"):
        behind = settings.projection_activation or "a layer norm"
        raise UserError(f"--output_emb_size {width}: behind the teacher's linear layer, {own} wide, stands {behind}, "
                        "and it stays as it is; leave the flag out")
    if width > teacher.width:
        raise UserError(f"--output_emb_size {width}: the teacher's vectors have {teacher.width} numbers")


def of_layers(args: argparse.Namespace, teacher: SemanticIndex, tokenizer: TextTokenizer,
              basis_of: Callable[[int], np.ndarray]) -> tuple[SemanticIndex, TextTokenizer]:
    """Return a student of --layers of the teacher's layers, with its prompts, pooling, linear layer and lengths.

    basis_of: from a width to the PCA's directions, for --output_emb_size: the student's linear layer is then that
    basis, behind the teacher's own one if any, so that it starts from the teacher's reduced vectors. Changes the
    teacher's configuration, which is of no use afterwards. See check for what the flags may say.
    """
    settings, config = copy.deepcopy(teacher.settings), teacher.ptm.config
    settings.max_seq_length = args.max_seq_length or settings.max_seq_length
    there, width = config.num_hidden_layers, args.output_emb_size or settings.output_emb_size
    reduced = width != settings.output_emb_size
    settings.output_emb_size = width
    own = teacher.emb_reduce_linear
    settings.projection_bias = settings.projection_bias and (own is not None or not reduced)
    if args.dropout is not None:
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = args.dropout
    found = Pretrained(teacher.ptm, tokenizer.with_length)
    chosen = reduce.keep_layers(found, args.layers)
    if settings.pooling_layer >= 0:
        settings.pooling_layer = round(settings.pooling_layer * args.layers / there)
    settings.pooling_layer = max(settings.pooling_layer, -args.layers - 1)
    student = SemanticIndex(found.encoder, settings, dropout_rate(args))
    if student.norm is not None and teacher.norm is not None:
        student.norm.set_state_dict(teacher.norm.state_dict())
    if student.emb_reduce_linear is not None:
        state = own.state_dict() if own is not None else {}
        if reduced:
            basis = paddle.to_tensor(basis_of(width))
            state = {key: value @ basis for key, value in state.items()} or {"weight": basis}
        student.emb_reduce_linear.set_state_dict(state)
    runtime.say(f"student: layers {', '.join(str(place + 1) for place in chosen)} of {there} of {args.teacher}")
    return student, found.make_tokenizer(settings.max_seq_length)


def saved(args: argparse.Namespace, checkpoint: str) -> tuple[SemanticIndex, TextTokenizer]:
    """Return the student of a run that is resumed, whose teacher need not be there."""
    flags = vars(args) | {"output_emb_size": args.output_emb_size or None, "model_name_or_path": None}
    return loading.load(checkpoint, flags, dropout_rate(args))


def is_new(args: argparse.Namespace) -> bool:
    """Tell whether the linear layer of another student, if any, was made just now, from random numbers."""
    name = args.model_name_or_path or ""
    of_teacher = args.layers or args.static or args.init_from_ckpt
    return not of_teacher and (args.output_emb_size is not None or scratch.claims(name))


def fit_projection(student: SemanticIndex, width: int, basis_of: Callable[[int], np.ndarray]) -> None:
    """Give a new linear layer, from a narrower encoder to the teacher's width, the PCA's directions.

    The encoder then learns the teacher's vectors in the coordinates of their first directions, where a short vector
    keeps their inner products best, rather than in random ones. basis_of: see of_layers.
    """
    layer = student.emb_reduce_linear
    narrow = student.ptm.config.hidden_size
    if layer is None or student.width != width or narrow >= width:
        return
    layer.weight.set_value(paddle.to_tensor(np.ascontiguousarray(basis_of(narrow).T)))
    if layer.bias is not None:
        layer.bias.set_value(paddle.zeros_like(layer.bias))
    runtime.say(f"linear layer: the first {counted(narrow, 'direction')} of the teacher's vectors")
