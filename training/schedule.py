"""How long, how fast and how often a training goes."""

from dataclasses import dataclass


@dataclass
class Schedule:
    """How long, how fast and how often; the names are the flags' (flags.add_training and add_dev)."""

    save_dir: str
    epochs: int = 1
    max_steps: int = 0
    learning_rate: float = 5e-5
    weight_decay: float = 0.0
    warmup_proportion: float = 0.0
    warmup_steps: int = 0
    max_grad_norm: float = 5.0
    gradient_accumulation_steps: int = 1
    optimizer: str = "adamw"
    precision: str = "fp32"
    amp_loss_scale: float = 32768.0
    log_steps: int = 10
    save_steps: int = 10000
    eval_steps: int = 0
    keep_checkpoints: int = 0
    freeze_embeddings: bool = False
    freeze_layers: int = 0
    layer_decay: float = 1.0
    use_gradient_cache: bool = False
    use_recompute: bool = False
    best_metric: str | None = None
    early_stopping: int = 0
    resume: bool = False
    overwrite: bool = False
    seed: int = 1000
