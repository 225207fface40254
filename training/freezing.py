"""Which of an encoder's parameters learn, and how fast: frozen embeddings and layers, rates that fall by layer."""

import re

from paddle import Tensor, nn

from models.semantic_index import SemanticIndex
from semindex import runtime
from semindex.errors import UserError
from training.schedule import Schedule


def _layer(name: str, layers: int) -> int:
    """Return how high a parameter of the model stands: 0 embeddings, 1 the first layer, layers + 1 above the last."""
    match = re.search(r"^ptm\.encoder\.layers\.(\d+)\.", name)
    return int(match[1]) + 1 if match else 0 if name.startswith("ptm.embeddings.") else layers + 1


def choose_parameters(model: SemanticIndex, schedule: Schedule) -> None:
    """Freeze what the schedule says, and set the rates of the rest; to be called before an optimizer is made.

    layer_decay: layer l of L learns at layer_decay ** (L - l) times the rate, the embeddings below the first one
    (Howard and Ruder 2018, arXiv 1801.06146). Raises UserError where nothing would be left to train.
    """
    layers = model.ptm.config.num_hidden_layers
    if schedule.freeze_layers > layers:
        raise UserError(f"--freeze_layers {schedule.freeze_layers}: the encoder has {layers} layers")
    frozen = total = 0
    for name, parameter in model.named_parameters():
        height = _layer(name, layers)
        if schedule.freeze_embeddings and height == 0 or 1 <= height <= schedule.freeze_layers:
            parameter.stop_gradient = True
        if schedule.layer_decay < 1 and height <= layers:
            parameter.optimize_attr["learning_rate"] = schedule.layer_decay ** (layers - height)
        total += parameter.size
        frozen += parameter.size if parameter.stop_gradient else 0
    if frozen == total:
        raise UserError("nothing is left to train: freeze fewer layers, or give the encoder a linear layer with "
                        "--output_emb_size")
    if schedule.freeze_embeddings or schedule.freeze_layers:
        runtime.say(f"{frozen / 1e6:.1f} of {total / 1e6:.1f} million parameters are frozen")
    if schedule.freeze_embeddings and schedule.use_recompute:
        _let_gradients_begin(model.ptm)


def _let_gradients_begin(encoder: nn.Layer) -> None:
    """Let what the frozen embeddings give ask for a gradient: layers that are computed again get none otherwise."""
    def begin(layer: nn.Layer, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output.stop_gradient = False
        return output

    encoder.embeddings.register_forward_post_hook(begin)
