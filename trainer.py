"""One training loop for every head. A head sees vectors only; all else is the same for each."""

import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import paddle
from paddle import Tensor, nn

import gradient_cache
import runtime
from checkpoints import OPTIMIZER, SCALER, STATE, Checkpoints, rename_optimizer
from data import Batch, TrainingSet
from models import cpu
from models.semantic_index import SemanticIndex
from options import UserError
from parallel import anywhere, gather_vectors, sum_gradients
from text_tokenizer import TextTokenizer
from training_watch import Watch


@dataclass
class Schedule:
    """How long, how fast and how often; the names are the flags' (options.add_training and add_dev)."""

    save_dir: str
    epochs: int = 1
    max_steps: int = 0
    learning_rate: float = 5e-5
    weight_decay: float = 0.0
    warmup_proportion: float = 0.0
    max_grad_norm: float = 5.0
    gradient_accumulation_steps: int = 1
    optimizer: str = "adamw"
    precision: str = "fp32"
    amp_loss_scale: float = 32768.0
    log_steps: int = 10
    save_steps: int = 10000
    eval_steps: int = 0
    keep_checkpoints: int = 0
    use_gradient_cache: bool = False
    use_recompute: bool = False
    best_metric: str | None = None
    early_stopping: int = 0
    resume: bool = False
    overwrite: bool = False
    seed: int = 1000


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


class Trainer:
    """Trains a model with a head on a training set; see train()."""

    def __init__(self, model: SemanticIndex, tokenizer: TextTokenizer, head: nn.Layer, data: TrainingSet,
                 schedule: Schedule, mask: bool = True,
                 evaluate: Callable[[SemanticIndex], dict[str, float]] | None = None,
                 between: "Between | None" = None) -> None:
        self.between = between
        self.model, self.tokenizer, self.head, self.data = model, tokenizer, head, data
        self.schedule, self.mask, self.evaluate = schedule, mask, evaluate
        known: Sequence[str] = getattr(evaluate, "metrics", ())
        self.best_metric: str = schedule.best_metric or str(getattr(evaluate, "main_metric", "recall@10"))
        if known and self.best_metric not in known:
            raise UserError(f"--best_metric {self.best_metric}: the evaluation gives {', '.join(known)}")
        self.checkpoints = Checkpoints(schedule.save_dir, schedule.keep_checkpoints)
        self.step, self.saved, self.best, self.waited = 0, -1, -math.inf, 0
        self.batches_per_epoch = len(data.plan(0))
        if not self.batches_per_epoch:
            raise UserError(f"{len(data.rows)} training sample{'s' * (len(data.rows) > 1)} with --batch_size "
                            f"{data.batch_size} give no batch of two samples a process, and one alone has no negative")
        self.steps_per_epoch = -(-self.batches_per_epoch // schedule.gradient_accumulation_steps)
        self.total = self.steps_per_epoch * schedule.epochs
        if schedule.max_steps:
            self.total = min(self.total, schedule.max_steps)
        self._make_optimizer()
        if schedule.use_recompute:
            recompute_layers(model)
        if runtime.on_cpu():
            cpu.exchange(model)
        self.bare: nn.Layer = _Encode(model)
        runtime.meet()
        self.encode = paddle.DataParallel(self.bare) if runtime.world_size() > 1 else self.bare
        half = _half(schedule.precision)
        self.half = half
        self.scaler = paddle.amp.GradScaler(enable=half == "float16", init_loss_scaling=schedule.amp_loss_scale)
        self.log: Any = None
        self.stopping = False

    def _make_optimizer(self) -> None:
        from paddlenlp.transformers import LinearDecayWithWarmup

        schedule = self.schedule
        self.rate = LinearDecayWithWarmup(schedule.learning_rate, max(self.total, 1), schedule.warmup_proportion)
        named = [(name, p) for name, p in self.model.named_parameters() if not p.stop_gradient]
        decayed = {p.name for name, p in named if not any(part in name for part in ("bias", "norm"))}
        self.names = {p.name: name for name, p in named}
        clip = nn.ClipGradByGlobalNorm(schedule.max_grad_norm) if schedule.max_grad_norm else None
        parameters = [p for _, p in named]
        if schedule.optimizer == "lamb":  # You et al. 2019, arXiv 1904.00962
            self.optimizer: paddle.optimizer.Optimizer = paddle.optimizer.Lamb(
                self.rate, schedule.weight_decay, parameters=parameters, grad_clip=clip,
                exclude_from_weight_decay_fn=lambda p: p.name not in decayed)
        else:
            self.optimizer = paddle.optimizer.AdamW(
                self.rate, parameters=parameters, weight_decay=schedule.weight_decay, grad_clip=clip,
                apply_decay_param_fun=lambda name: name in decayed)

    # --- one step -------------------------------------------------------------------------------------------

    def _vectors(self, encode: nn.Layer, chunks: list[Tensor], order: Tensor) -> Tensor:
        with paddle.amp.auto_cast(enable=self.half is not None, dtype=self.half or "float16", level="O1"):
            return encode(chunks, order).astype("float32")

    def _loss_of(self, vectors: Tensor, batch: Batch) -> Tensor:
        columns = gather_vectors(vectors, batch.counts, len(batch.ids))
        mask = self.data.positives.mask(batch.ids) if self.mask else None
        self.last_vectors = columns[-1].detach()
        return self.head(columns, paddle.to_tensor(mask) if mask is not None and mask.any() else None)

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

    def update(self, batches: list[Batch]) -> float:
        """Take one optimizer step on some batches; return their mean loss."""
        # Dropout follows from seed, process and step alone: a resumed run repeats what an undisturbed one does.
        paddle.seed(((self.schedule.seed * 1_000_003 + self.step) * 1009 + runtime.rank()) % 2**63)
        # One pass over the parameters lets DataParallel talk while it computes; of several, the sum is sent once.
        once = len(batches) == 1 and not self.schedule.use_gradient_cache and not self.schedule.use_recompute
        world = runtime.world_size()
        with contextlib.nullcontext() if once or world == 1 else self.encode.no_sync():
            # DataParallel takes the mean over processes, gather_vectors wants the sum.
            losses = [self.backward(batch, (world if once else 1) / len(batches)) for batch in batches]
        mean = sum(losses) / len(losses)
        if not math.isfinite(mean):
            raise UserError(f"step {self.step + 1}: the loss is {mean}; last good checkpoint: "
                            f"{self.checkpoints.latest() or 'none'}; lower --learning_rate, or go on from there "
                            "with --resume")
        if not once:
            sum_gradients([p for p in self.model.parameters() if not p.stop_gradient])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.clear_grad()
        self.rate.step()
        return mean

    # --- checkpoints and evaluation -------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a resumed run to go on as the undisturbed one would."""
        schedule, plain = self.schedule, (int, float, str, bool, type(None))
        head = {name: value for name, value in vars(self.head).items()
                if isinstance(value, plain) and not name.startswith("_") and name != "training"}
        model = {f"encoder's {name}": value for name, value in asdict(self.model.settings).items()
                 if name not in ("encoder", "format")}
        rates = sorted({layer.p for layer in self.model.sublayers() if isinstance(layer, nn.Dropout)})
        same = ("gradient_accumulation_steps", "seed", "learning_rate", "weight_decay", "warmup_proportion",
                "max_grad_norm", "precision", "optimizer")
        return {"batch_size": self.data.batch_size, "processes": self.data.world, "samples": len(self.data.rows),
                "total_steps": self.total, "head": self.head.name, "mask": self.mask, "dropout": rates,
                "chunk_size": self.data.chunk, "training texts": self.data.fingerprint()} | head | model | {
                    name: getattr(schedule, name) for name in same}

    def save(self, best: bool = False) -> None:
        """Write a checkpoint of this step, unless there is one."""
        if self.saved == self.step and not best:
            return
        state = self._identity() | {"step": self.step, "best": None if math.isinf(self.best) else self.best,
                                    "waited": self.waited}

        def write() -> None:
            if self.saved == self.step:
                self.checkpoints.mark_best(self.step)
                return
            optimizer = rename_optimizer(self.optimizer.state_dict(), self.names)
            if self.scaler.is_enable():
                optimizer[SCALER] = self.scaler.state_dict()
            path = self.checkpoints.save(self.model, self.tokenizer, self.step, optimizer, state, best)
            runtime.say(f"saved {path}")

        runtime.on_rank_0(write)
        self.saved = self.step

    def resume(self) -> None:
        """Take weights, optimizer, schedule and position from the latest checkpoint, if there is one."""
        path = runtime.on_rank_0(self.checkpoints.latest)
        if path is None:
            runtime.say(f"nothing to resume in {self.schedule.save_dir}: starting anew")
            return
        try:
            with open(os.path.join(path, STATE), encoding="utf-8") as file:
                state = json.load(file)
            optimizer = paddle.load(os.path.join(path, OPTIMIZER))
        except Exception as error:  # a truncated file raises almost anything
            raise UserError(f"--resume: {path} is damaged ({type(error).__name__}); remove that directory to resume "
                            "from the one before, or --init_from_ckpt to start a new run from its weights") from None
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UserError(f"--resume: {path} was made with {name} {state.get(name)}, now it is {value}; "
                                "give the same flags and data, or --init_from_ckpt to start a new run from its weights")
        from models.semantic_index import WEIGHTS, load_weights

        load_weights(self.model, os.path.join(path, WEIGHTS))
        paddle_names = {ours: theirs for theirs, ours in self.names.items()}
        if SCALER in optimizer:
            self.scaler.load_state_dict(optimizer.pop(SCALER))
        self.optimizer.set_state_dict(rename_optimizer(optimizer, paddle_names))
        self.step = self.saved = state["step"]
        self.best = -math.inf if state["best"] is None else state["best"]
        self.waited = state["waited"]
        runtime.say(f"resumed from {path}")

    def _evaluate(self) -> bool:
        """Evaluate, keep the best; return whether to stop early."""
        assert self.evaluate is not None
        self.model.eval()
        result = self.evaluate(self.model)
        self.model.train()
        self._record(dict(result))
        value = result[self.best_metric]
        self.waited += 1
        if value > self.best:
            self.best, self.waited = value, 0
            self.save(best=True)
        if self.schedule.early_stopping and self.waited >= self.schedule.early_stopping:
            runtime.say(f"no better {self.best_metric} in {self.waited} evaluations: stopping early")
            return True
        return False

    def _record(self, values: dict[str, float]) -> None:
        if self.log is not None:
            for name, value in values.items():
                self.log.add_scalar(name, value, self.step)

    def _open_log(self) -> None:
        if runtime.rank() == 0:
            try:
                from visualdl import LogWriter

                self.log = LogWriter(os.path.join(self.schedule.save_dir, "visualdl"))
            except Exception as error:  # its absence must not stop a training
                runtime.warn(f"no VisualDL log: {error}")

    @contextlib.contextmanager
    def _heed_sigterm(self) -> Iterator[None]:
        """On SIGTERM, which batch systems send before they kill, the step is ended and saved first."""
        def heed(*_: object) -> None:
            self.stopping = True

        if threading.current_thread() is not threading.main_thread():  # only that one may
            yield
            return
        before = signal.signal(signal.SIGTERM, heed)
        signal.siginterrupt(signal.SIGTERM, False)  # what is being received goes on: paddle's store would give up
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def stop_if_told(self) -> None:
        """Save and exit where a process was sent SIGTERM. Every process must call it."""
        if anywhere(self.stopping):
            self.save()
            runtime.say(f"told to stop: saved step {self.step} of {self.total}; --resume goes on from there")
            raise SystemExit(128 + signal.SIGTERM)

    # --- the loop -------------------------------------------------------------------------------------------

    def run(self) -> str:
        """Train; return the directory of the best checkpoint, the last one where nothing was evaluated."""
        schedule = self.schedule
        size = 12 * sum(p.size for p in self.model.parameters())  # weights and two moments, 4 bytes each
        runtime.on_rank_0(lambda: self.checkpoints.prepare(schedule.resume, schedule.overwrite, size))
        if schedule.resume:
            self.resume()
        self._open_log()
        self.model.train()
        watch = Watch(self.head, self.data.joined_batch)
        try:
            with self._heed_sigterm(), runtime.progress(self.total, "step", "train", lines=False) as bar:
                bar.update(self.step)
                self._loop(bar, watch)
        finally:
            if self.log is not None:
                self.log.close()
        self.save()
        self.model.eval()
        last = self.checkpoints.path(self.step)
        best = runtime.on_rank_0(self.checkpoints.best) if self.evaluate else None
        found = f"best {self.best_metric} {self.best}: {best}; " if best else ""
        runtime.say(f"trained {self.step} steps; {found}last: {last}")
        return best or last

    def _loop(self, bar: Any, watch: "Watch") -> None:
        schedule, accumulate = self.schedule, self.schedule.gradient_accumulation_steps
        clock, timed_from = time.perf_counter(), self.step
        suffix, figures = "", dict[str, float]()
        while self.step < self.total:
            epoch, done = divmod(self.step, self.steps_per_epoch)
            plan = self.data.plan(epoch)
            if len(plan) != self.batches_per_epoch:  # no_duplicates deals a little differently each epoch
                plan = (plan + plan[:1] * self.batches_per_epoch)[: self.batches_per_epoch]
            for start in range(done * accumulate, len(plan), accumulate):
                if self.between is not None:
                    paused = time.perf_counter()
                    suffix, figures = self.between(self)
                    clock += time.perf_counter() - paused
                loss = self.update([self.data.batch(samples) for samples in plan[start : start + accumulate]])
                self.step += 1
                bar.update(1)
                watch.see(loss)
                in_epoch = self.step - epoch * self.steps_per_epoch
                if self.step % schedule.log_steps == 0:
                    speed = (self.step - timed_from) / (time.perf_counter() - clock)
                    mean = watch.report(self.step, self.last_vectors, self.data.columns)
                    bar.clear()
                    runtime.say(f"global step {self.step}, epoch: {epoch + 1}, batch: {in_epoch}, "
                                f"loss: {mean:.5f}, speed: {speed:.2f} step/s{suffix}")
                    self._record({"loss": mean, "learning_rate": self.optimizer.get_lr(), "steps/s": speed} | figures)
                    clock, timed_from = time.perf_counter(), self.step
                paused = time.perf_counter()
                ended = in_epoch == self.steps_per_epoch or self.step == self.total
                due = self.step % schedule.eval_steps == 0 if schedule.eval_steps else ended
                if self.evaluate and (due or self.step == self.total) and self._evaluate():
                    return
                if schedule.save_steps and self.step % schedule.save_steps == 0:
                    self.save()
                self.stop_if_told()
                clock += time.perf_counter() - paused  # the speed is that of training
                if self.step == self.total:
                    return


Between = Callable[[Trainer], tuple[str, dict[str, float]]]


def train(model: SemanticIndex, tokenizer: TextTokenizer, head: nn.Layer, data: TrainingSet, schedule: Schedule,
          mask: bool = True, evaluate: Callable[[SemanticIndex], dict[str, float]] | None = None,
          between: Between | None = None) -> str:
    """Train a model with a head and return the directory of the best checkpoint.

    head: called with one float32 [samples, dimension] of unit vectors a column and a mask of false negatives,
    bool [samples, candidates] or None; returns a scalar. mask: whether to make that mask. evaluate: called with
    the model, on every rank, returns metrics. between: called on every rank before each step, may exchange what the
    data deals; returns what to add to the printed line, and figures for the log. Raises UserError for a loss or weights
    that are not finite.
    """
    return Trainer(model, tokenizer, head, data, schedule, mask, evaluate, between).run()
