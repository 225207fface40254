"""A static encoder: one vector a piece of the vocabulary, and a text's is their mean. No layer, no position."""

import json
import os
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any

import paddle
from paddle import Tensor, nn

from models.weights.configuration import CONFIG
from semindex.errors import UserError
from semindex.fields import list_of, read_fields, read_json, text, whole

KIND = "static"
FIELDS = {"vocab_size": whole(1, 10_000_000), "hidden_size": whole(1, 65_536), "pad_token_id": whole(0, 10_000_000),
          "num_hidden_layers": whole(0, 0), "model_type": text(), "architectures": list_of(text())}


@dataclass
class StaticConfig:
    """What config.json holds of a static encoder, under the names of every other encoder's."""

    vocab_size: int
    hidden_size: int
    pad_token_id: int
    num_hidden_layers: int = 0
    model_type: str = KIND
    architectures: list[str] = field(default_factory=lambda: ["StaticModel"])

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def save_pretrained(self, directory: str) -> None:
        """Write config.json into a directory."""
        with open(os.path.join(directory, CONFIG), "w", encoding="utf-8") as file:
            json.dump(self.to_dict(), file, indent=2)


def read_static(directory: str, weights: str) -> StaticConfig | None:
    """Return the configuration of a static encoder's directory, None where another encoder's stands there.

    Raises UserError for fields that are wrong, and for a table that the file of weights cannot hold.
    """
    path = os.path.join(directory, CONFIG)
    content = read_json(path) if os.path.isfile(path) else None
    if not isinstance(content, dict) or content.get("model_type") != KIND:
        return None
    config = StaticConfig(**read_fields(path, FIELDS))
    held, numbers = os.path.getsize(weights), config.vocab_size * config.hidden_size
    if 2 * numbers > held:
        raise UserError(f"{path}: asks for {numbers:,} parameters, and {weights} of {held:,} bytes holds at most half "
                        "as many as bytes; it was cut, or the two do not belong together")
    if config.pad_token_id >= config.vocab_size:
        raise UserError(f"{path}: pad_token_id is {config.pad_token_id}, expected one below vocab_size, "
                        f"{config.vocab_size}")
    return config


class _Table(nn.Layer):
    def __init__(self, config: StaticConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.word_embeddings(input_ids)


class StaticModel(nn.Layer):
    """The table as an encoder: its hidden states are the pieces' vectors.

    A piece that is to count for nothing, a special token for example, has a vector of zeros.
    """

    def __init__(self, config: StaticConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Table(config)

    @property
    def table(self) -> Tensor:
        """The vectors of all pieces, float32 [vocab_size, hidden_size]."""
        return self.embeddings.word_embeddings.weight

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None, output_hidden_states: bool = False,
                return_dict: bool = True) -> Any:
        """Return the pieces' vectors as the last hidden state, [texts, tokens, hidden_size]."""
        if token_type_ids is not None:
            input_ids = input_ids + 0 * token_type_ids  # a static graph must use the inputs that every encoder has
        hidden = self.embeddings(input_ids)
        return SimpleNamespace(last_hidden_state=hidden, hidden_states=(hidden,))


def make_static(table: Any, pad_token_id: int) -> StaticModel:
    """Return a static encoder of a table, float32 [vocabulary, width]."""
    model = StaticModel(StaticConfig(table.shape[0], table.shape[1], pad_token_id))
    model.table.set_value(paddle.to_tensor(table))
    return model
