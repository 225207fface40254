"""One optimizer step: batches to vectors, to the loss, to gradients of encoder and head, the same on every process."""

import contextlib
import math
from typing import Any

import paddle
from paddle import Tensor, nn

from data import Batch, TrainingSet
from models import cpu_layers
from models.heads.head import Head
from models.semantic_index import SemanticIndex
from semindex import runtime
from semindex.errors import UserError
from training import gradient_cache
from training.freezing import choose_parameters
from training.parallel import gather_vectors, start_alike, sum_gradients
from training.schedule import Schedule


class _Encode(nn.Layer):
    """The model over a batch's chunks, in one call, which is how DataParallel wants it."""

    def __init__(self, model: SemanticIndex) -> None:
        super().__init__()
        self.model = model

    def forward(self, chunks: list[Tensor], order: Tensor) -> Tensor:
        return paddle.gather(paddle.concat([self.model(chunk) for chunk in chunks]), order)


def recompute_layers(model: SemanticIndex) -> None:
    """Let the encoder keep each layer's input only, and compute the layer again on the way back.

    Raises UserError for an encoder that cannot.
    """
    stack: Any = getattr(model.ptm, "encoder", None)
    if not hasattr(stack, "enable_recompute"):
        raise UserError(f"--use_recompute: {type(model.ptm).__name__} has no layers to compute again; leave it out")
    stack.enable_recompute = True


def _half(precision: str) -> str | None:
    """Return the 16-bit type to compute in, None for fp32."""
    if precision == "fp32":
        return None
    if runtime.on_cpu():
        if precision != "auto":
            runtime.warn(f"--precision {precision} gains nothing on a CPU; fp32 is used")
        return None
    if precision == "auto":
        return "bfloat16" if paddle.amp.is_bfloat16_supported() else "float16"
    return {"bf16": "bfloat16", "fp16": "float16"}[precision]


class Step:
    """Model, head and optimizer. update() takes one step; names: of the optimizer's parameters, to ours.

    total: steps of the whole training. mask: whether false negatives are masked. Raises ValueError for a head that
    reads labels where the data has none.
    """

    def __init__(self, model: SemanticIndex, head: Head, data: TrainingSet, schedule: Schedule, total: int,
                 mask: bool = True) -> None:
        self.model, self.head, self.data, self.schedule, self.mask = model, head, data, schedule, mask
        if head.uses_labels and data.labels is None:
            raise ValueError(f"the head {head.name} reads labels, and the samples carry none: TrainingSet(labels=...)")
        if data.guide is not None:
            data.guide.batches = min(data.guide.batches, max(total, 1))
        start_alike(head)
        choose_parameters(model, schedule)
        self._make_optimizer(total)
        if schedule.use_recompute:
            recompute_layers(model)
        if runtime.on_cpu():
            cpu_layers.exchange(model)
        self.bare: nn.Layer = _Encode(model)
        runtime.barrier()
        self.encode = paddle.DataParallel(self.bare) if runtime.world_size() > 1 else self.bare
        self.half = _half(schedule.precision)
        self.scaler = paddle.amp.GradScaler(enable=self.half == "float16", init_loss_scaling=schedule.amp_loss_scale)
        self.last_vectors: Tensor | None = None

    def _make_optimizer(self, total: int) -> None:
        from paddlenlp.transformers import LinearDecayWithWarmup

        schedule = self.schedule
        self.rate = LinearDecayWithWarmup(schedule.learning_rate, max(total, 1),
                                          schedule.warmup_steps or schedule.warmup_proportion)
        encoders = [(name, p) for name, p in self.model.named_parameters() if not p.stop_gradient]
        heads = [(f"head.{name}", p) for name, p in self.head.named_parameters() if not p.stop_gradient]
        self.encoder_parameters, self.head_parameters = [p for _, p in encoders], [p for _, p in heads]
        # Of a head only matrices decay: a temperature or a bias has no direction to lose.
        decayed = {p.name for name, p in encoders if not any(part in name for part in ("bias", "norm"))}
        decayed |= {p.name for _, p in heads if p.ndim > 1}
        self.names = {p.name: name for name, p in encoders + heads}
        clip = nn.ClipGradByGlobalNorm(schedule.max_grad_norm) if schedule.max_grad_norm else None
        parameters = self.encoder_parameters + self.head_parameters
        if schedule.optimizer == "lamb":  # You et al. 2019, arXiv 1904.00962
            self.optimizer: paddle.optimizer.Optimizer = paddle.optimizer.Lamb(
                self.rate, schedule.weight_decay, parameters=parameters, grad_clip=clip,
                exclude_from_weight_decay_fn=lambda p: p.name not in decayed)
        else:
            self.optimizer = paddle.optimizer.AdamW(
                self.rate, parameters=parameters, weight_decay=schedule.weight_decay, grad_clip=clip,
                apply_decay_param_fun=lambda name: name in decayed)

    def _vectors(self, encode: nn.Layer, chunks: list[Tensor], order: Tensor) -> Tensor:
        with paddle.amp.auto_cast(enable=self.half is not None, dtype=self.half or "float16", level="O1"):
            return encode(chunks, order).astype("float32")

    def _loss_of(self, vectors: Tensor, batch: Batch) -> Tensor:
        columns = gather_vectors(vectors, batch.counts, len(batch.ids))
        mask = self.data.mask(batch.ids, self.mask)
        self.last_vectors = columns[-1].detach()
        more = {"labels": paddle.to_tensor(batch.labels, "float32")} if self.head.uses_labels else {}
        return self.head(columns, paddle.to_tensor(mask) if mask is not None and mask.any() else None, **more)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss over the samples of all processes."""
        chunks = [paddle.to_tensor(chunk) for chunk in batch.chunks]
        return self._loss_of(self._vectors(self.encode, chunks, paddle.to_tensor(batch.order)), batch)

    def backward(self, batch: Batch, factor: float) -> float:
        """Add the gradient of the loss, times factor, to this process's; return the loss."""
        def scale(loss: Tensor) -> Tensor:
            return self.scaler.scale(loss * factor)

        if not self.schedule.use_gradient_cache:
            loss = self.loss(batch)
            scale(loss).backward()
            return float(loss)
        order = paddle.to_tensor(batch.order)
        return gradient_cache.backward(
            lambda chunk: self._vectors(self.bare, [chunk], paddle.arange(len(chunk))),
            [paddle.to_tensor(chunk) for chunk in batch.chunks],
            lambda vectors: self._loss_of(paddle.gather(vectors, order), batch), scale)

    def gradients(self, batches: list[Batch]) -> float:
        """Make the gradients of some batches, equal on every process; return their mean loss."""
        # One pass over the parameters lets DataParallel talk while it computes; of several, the sum is sent once.
        once = len(batches) == 1 and not self.schedule.use_gradient_cache and not self.schedule.use_recompute
        world = runtime.world_size()
        with contextlib.nullcontext() if once or world == 1 else self.encode.no_sync():
            # DataParallel takes the mean over processes, gather_vectors wants the sum.
            factor = world if once else 1
            losses = [self.backward(batch, factor / len(batches)) for batch in batches]
        if not once:
            sum_gradients(self.encoder_parameters)
        if self.head_parameters and world > 1:  # every process has the whole loss, and so the head's whole gradient
            sum_gradients(self.head_parameters, 1 / (factor * world))
        return sum(losses) / len(losses)

    def update(self, number: int, batches: list[Batch]) -> float:
        """Take optimizer step `number`, from 0, on some batches; return their mean loss, which may be not finite.

        The weights stay as they are where it is not.
        """
        # Dropout follows from seed, process and step alone: a resumed run repeats what an undisturbed one does.
        paddle.seed(((self.schedule.seed * 1_000_003 + number) * 1009 + runtime.rank()) % 2**63)
        mean = self.gradients(batches)
        if math.isfinite(mean):
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.rate.step()
        self.optimizer.clear_grad()
        return mean
