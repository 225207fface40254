"""What train_distill.py puts together: the teacher's vectors, once; the student; the loss that compares the two."""

import argparse
import os

import numpy as np

from data import Neighbours, TrainingSet
from models.encoders import dynamic
from models.heads.distill import Distill
from models.semantic_index import SemanticIndex
from models.weights.principal import principal_directions
from semindex import runtime
from semindex.errors import UserError
from semindex.roles import check_kept
from semindex.text.counted import counted
from semindex.text.ragged import Ragged
from semindex.text.tokenizer import TextTokenizer
from training import guide, setup, static_student, student, teacher
from training.checkpoints import Checkpoints
from training.teacher import Spread, Targets, Texts
from training.trainer import Trainer, train

SCORES = {"kl", "margin_mse"}


def check(args: argparse.Namespace, columns: int) -> None:
    """Raise UserError for losses that the samples, or one another, do not fit."""
    if len(set(args.loss)) < len(args.loss):
        raise UserError(f"--loss {' '.join(args.loss)}: the same loss twice")
    if args.loss_weights and len(args.loss_weights) != len(args.loss):
        raise UserError(f"--loss_weights: {counted(len(args.loss_weights), 'number')} for "
                        f"{counted(len(args.loss), 'loss', 'losses')}")
    if "margin_mse" in args.loss and columns == 1:
        raise UserError(f"--loss margin_mse: {args.train_set_file} holds texts alone; it wants lines of "
                        "query<TAB>positive or query<TAB>positive<TAB>negative; mse, cosine and kl take texts alone")
    if not (args.layers or args.static or args.init_from_ckpt or args.model_name_or_path or args.resume):
        raise UserError("say what the student is: --layers N or --static D of the teacher, --init_from_ckpt or "
                        "--model_name_or_path")
    if args.layers and args.static:
        raise UserError("--layers and --static: give one of them")
    if (args.layers or args.static) and (args.init_from_ckpt or args.model_name_or_path):
        raise UserError("--layers and --static take the student from the teacher; leave them out, or --init_from_ckpt "
                        "and --model_name_or_path")


class Watch:
    """Compares the student's spread with the teacher's on some texts: at the quarters of the training, and at its end.

    tokens: of all texts, as the student reads them; targets: the teacher's vectors.
    """

    def __init__(self, tokens: Ragged, targets: Targets) -> None:
        self.some = teacher.probe(len(tokens))
        self.tokens, self.wanted = tokens, targets.of(self.some)
        self.spread, self.warned = Spread.of(self.wanted), False

    def __call__(self, trainer: Trainer) -> tuple[str, dict[str, float]]:
        """See trainer.Callback."""
        number, quarter = trainer.run.number, max(1, trainer.total // 4)
        if number and number % quarter == 0 and not self.warned:
            self.look(trainer.step.model, trainer.run.tokenizer, f"step {number}")
        return "", {}

    def look(self, model: SemanticIndex, tokenizer: TextTokenizer, when: str) -> tuple[Spread, float]:
        """Return the student's spread, and its vectors' mean cosine with the teacher's; warn, once, of a collapse."""
        vectors = dynamic(model, tokenizer).of_tokens(self.tokens.take(self.some))
        found = Spread.of(vectors)
        width = min(vectors.shape[1], self.wanted.shape[1])
        both = [side[:, :width] / np.linalg.norm(side[:, :width], axis=1, keepdims=True).clip(1e-12)
                for side in (vectors, self.wanted)]
        cosine = float((both[0] * both[1]).sum(axis=1).mean())
        if found.collapsed(self.spread) and not self.warned:
            self.warned = True
            runtime.warn(f"{when}: the student's vectors collapse: mean cosine between different texts "
                         f"{found.cosine:.3f} (the teacher's {self.spread.cosine:.3f}), effective rank "
                         f"{found.rank:.0f} ({self.spread.rank:.0f}); lower "
                         "--learning_rate, add --loss kl to mse, take the student's layers from the teacher "
                         "(--layers), or give more and more different texts")
        return found, cosine


def run(args: argparse.Namespace) -> str:
    """Distil as the flags say; return the best checkpoint's directory."""
    samples = setup.read_samples(args, columns=(1, 2, 3))
    check(args, len(samples[0]))
    latest = runtime.on_rank_0(Checkpoints(args.save_dir).latest) if args.resume else None
    kept = teacher.written(args)
    model = tokenizer = teaching = teaching_tokenizer = None
    identity, differ = "", False
    if latest:
        model, tokenizer = student.saved(args, latest)
    elif not (args.layers or args.static):
        model, tokenizer = setup.encoder(args, (text for row in samples for text in row), Distill.name)
    if latest and kept and not runtime.on_rank_0(lambda: guide.is_there(args.teacher)):
        runtime.say(f"--teacher {args.teacher}: is not there; {teacher.directory(args)} has its vectors")
        identity, differ = kept["teacher"], kept["sides"] == "differ"
    else:
        guide.check_name(args.teacher, "--teacher", "teach nothing")
        if (args.layers or args.static) and os.path.exists(args.teacher):
            check_kept(args.teacher, "--teacher")
        teaching, teaching_tokenizer, identity = guide.load(args.teacher, "--teacher", args.trust_files)
        teaching.settings.truncate_dim = 0
        if args.static:
            static_student.check(args, teaching)
        elif args.layers:
            student.check(args, teaching)
        differ = teaching.settings.prompts.differ
    sides = (args.side or "both") if differ or model and model.settings.prompts.differ else ""
    texts = Texts.of(samples, sides, bool(SCORES & set(args.loss)))
    vectors, key = teacher.vectors_of(args, texts, identity, teaching, teaching_tokenizer)
    if model is None or tokenizer is None:
        assert teaching is not None and teaching_tokenizer is not None
        if args.static:
            model, tokenizer = static_student.of_vocabulary(args, teaching, teaching_tokenizer, [
                *texts.queries, *texts.passages], basis(vectors, args.static))
        else:
            model, tokenizer = student.of_layers(args, teaching, teaching_tokenizer,
                                                 lambda width: basis(vectors, width))
    del teaching, teaching_tokenizer
    targets = targets_of(vectors, texts, key, model)
    if not latest and student.is_new(args):
        student.fit_projection(model, vectors.shape[1], lambda width: basis(vectors, width))
    tokens = texts.tokens(tokenizer, model.settings.prompts)
    if args.static and args.ridge and not latest:
        static_student.fit(model, tokens, targets, args.ridge)
    model.set_head(Distill.name)
    head = Distill(args.loss, args.temperature, args.loss_weights, model.settings.similarity == "cosine")
    wrapped = setup.at_widths(args, head, model)
    data = TrainingSet(texts.rows, tokens, Neighbours(np.empty([0, 2], np.int64), len(texts)), args.batch_size,
                       labels=targets, views=1, **setup.dealing(args, model, tokenizer, texts.rows.shape[1]))
    runtime.say(f"{counted(len(data.rows), 'sample')} of {counted(texts.rows.shape[1], 'text')}, "
                f"{counted(len(texts), 'different text')}")
    watch = Watch(tokens, targets)
    best = train(model, tokenizer, wrapped, data, setup.schedule(args), False, setup.dev_evaluation(args, samples),
                 watch)
    spread, cosine = watch.look(model, tokenizer, "at the end")
    runtime.say(f"student: mean cosine with the teacher {cosine:.4f}; between different texts {spread.cosine:.3f} (the "
                f"teacher's {watch.spread.cosine:.3f}), effective rank {spread.rank:.0f} ({watch.spread.rank:.0f})")
    return best


def basis(vectors: np.ndarray, width: int) -> np.ndarray:
    """Return rank 0's principal directions of the teacher's vectors, float32 [their width, width]."""
    return np.asarray(runtime.share(
        principal_directions(vectors, width)[0] if runtime.rank() == 0 else None), np.float32)


def targets_of(vectors: np.ndarray, texts: Texts, key: str, model: SemanticIndex) -> Targets:
    """Return what the student learns: the teacher's vectors, by PCA of the student's width where that is smaller.

    The teacher is reduced, and no layer put behind the student, so that its vectors and their index stay short, and
    nothing has to be computed at inference. Raises UserError for a student with wider vectors.
    """
    wide = vectors.shape[1]
    if model.width > wide:
        raise UserError(f"the student's vectors have {model.width} numbers, the teacher's {wide}; give the student a "
                        f"linear layer with --output_emb_size {wide}")
    if model.width == wide:
        return Targets(vectors, texts.rows, key)
    if model.settings.similarity == "dot":
        raise UserError(f"the student's vectors have {model.width} numbers, the teacher's {wide}, and vectors for "
                        f"inner products are not reduced; give the student --output_emb_size {wide}")
    directions, shares = runtime.share(
        principal_directions(vectors, model.width) if runtime.rank() == 0 else None)
    runtime.say(f"the teacher's vectors reduced by PCA from {wide} to {model.width} numbers, which keep "
                f"{100 * shares[model.width - 1]:.2f} % of their squared length")
    return Targets(vectors, texts.rows, key, directions)
