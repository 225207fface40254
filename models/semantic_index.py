"""The base model: texts' token ids to unit vectors."""

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from models.settings import EncoderSettings
from semindex.errors import UserError

# Encoders that take (input_ids, token_type_ids) and find the padding by themselves. In paddlenlp others take an
# attention mask or positions in the second place, and would give vectors that depend on the batch.
READS_PADDING = ("BertModel", "ErnieModel", "RobertaModel", "ElectraModel", "RoFormerModel", "StaticModel")


def _follow_epsilon(ptm: nn.Layer) -> None:
    """Let ERNIE's layer norms follow its configuration: paddlenlp's always add 1e-12, those of Hugging Face do not."""
    if type(ptm).__name__ == "ErnieModel":
        for layer in ptm.sublayers():
            if isinstance(layer, nn.LayerNorm):
                layer._epsilon = ptm.config.layer_norm_eps


class SemanticIndex(nn.Layer):
    """Encoder, pooling, linear layer, dropout, L2 norm: the recipe's order, parameter names and initialisation.

    ptm: a paddlenlp encoder. forward takes input_ids, int64 [texts, tokens], padded with the encoder's
    pad_token_id, and gives unit vectors, float32 [texts, output_emb_size or the encoder's width]. With
    settings.similarity dot, linear layer and layer norm instead: vectors of any length.
    """

    def __init__(self, ptm: nn.Layer, settings: EncoderSettings, head_dropout: float = 0.1) -> None:
        super().__init__()
        self.ptm, self.settings = ptm, settings
        _follow_epsilon(ptm)
        self.pad_id: int = ptm.config.pad_token_id or 0
        width = ptm.config.hidden_size
        self.dropout = nn.Dropout(head_dropout)
        self.emb_reduce_linear = None
        if settings.output_emb_size:
            initial = paddle.ParamAttr(initializer=nn.initializer.TruncatedNormal(std=0.02))
            self.emb_reduce_linear = nn.Linear(width, settings.output_emb_size, weight_attr=initial,
                                               bias_attr=None if settings.projection_bias else False)
        self.activation = getattr(F, settings.projection_activation) if settings.projection_activation else None
        self.norm = nn.LayerNorm(self.width) if settings.similarity == "dot" else None
        if settings.truncate_dim > self.width:
            raise UserError(f"--truncate_dim {settings.truncate_dim}: the encoder's vectors have {self.width} numbers")
        if settings.truncate_dim and self.norm is not None:
            raise UserError("--truncate_dim: vectors for inner products cannot be cut; leave it out")
        layers = ptm.config.num_hidden_layers
        if settings.pooling == "pooler" and settings.pooling_layer != -1:
            raise UserError(f"--pooling_layer {settings.pooling_layer}: the pooler reads the last layer; choose "
                            "--pooling cls, mean or max with it")
        if type(ptm).__name__ not in READS_PADDING:
            raise UserError(f"{settings.encoder}: {type(ptm).__name__} is not supported; "
                            f"known to be right are {', '.join(READS_PADDING)}")
        if not -layers - 1 <= settings.pooling_layer <= layers:
            raise UserError(f"--pooling_layer {settings.pooling_layer}: the encoder has {layers} layers; "
                            f"give a number from {-layers - 1} to {layers} (0: the embeddings)")
        pooler = getattr(ptm, "pooler", None)
        if "pooler" in (settings.pooling, settings.training_pooling) and (
                pooler is None or getattr(ptm, "pooler_missing", False)):
            raise UserError(f"--pooling pooler: {settings.encoder} has no pooler; choose cls, mean or max")
        self.pooling_in_use()

    def pooling_in_use(self) -> str:
        """Return the pooling that training uses; an unused pooler gets no gradient, and DataParallel must know."""
        used = self.settings.training_pooling or self.settings.pooling
        if getattr(self.ptm, "pooler", None) is not None:
            for parameter in self.ptm.pooler.parameters():
                parameter.stop_gradient = used != "pooler"
        return used

    def set_head(self, head: str) -> None:
        """Go on with another head: only SimCSE trains through a pooler that inference leaves out."""
        self.settings.head = head
        if self.settings.similarity == "dot" and head != "ance":
            raise UserError("the encoder of --init_from_ckpt compares by dot product, other losses want unit vectors; "
                            "go on with train_ance.py")
        if head != "simcse":
            self.settings.training_pooling = ""
        self.pooling_in_use()

    @property
    def width(self) -> int:
        """Width of the vectors in training."""
        return self.settings.output_emb_size or self.ptm.config.hidden_size

    @property
    def dimension(self) -> int:
        """Width of the vectors at inference, where --truncate_dim may keep the first numbers alone."""
        return self.settings.truncate_dim or self.width

    def pool(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return the pooled output before the linear layer, [texts, encoder's width]."""
        how, layer = self.settings.pooling, self.settings.pooling_layer
        if self.training and self.settings.training_pooling:
            how = self.settings.training_pooling
        if token_type_ids is None:
            token_type_ids = paddle.zeros_like(input_ids)
        every = layer != -1 and how != "pooler"
        output = self.ptm(input_ids, token_type_ids=token_type_ids, output_hidden_states=every, return_dict=True)
        if how == "pooler":
            return output.pooler_output
        hidden = output.hidden_states[layer] if every else output.last_hidden_state
        if how == "cls":
            return hidden[:, 0]
        inside = (input_ids != self.pad_id).unsqueeze(-1)
        if how == "max":
            return paddle.where(inside, hidden, paddle.full_like(hidden, -1e4)).max(axis=1)
        inside = inside.astype(hidden.dtype)
        return (hidden * inside).sum(axis=1) / inside.sum(axis=1).clip(min=1e-9)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return the vectors, see the class."""
        return self.finish(self.pool(input_ids, token_type_ids))

    def finish(self, vectors: Tensor) -> Tensor:
        """Return the vectors of the pooled output."""
        if self.emb_reduce_linear is not None:
            vectors = self.emb_reduce_linear(vectors)
        if self.activation is not None:
            vectors = self.activation(vectors)
        if self.norm is not None:
            return self.norm(vectors).astype("float32")
        if self.settings.truncate_dim and not self.training:
            vectors = vectors[:, : self.settings.truncate_dim]
        return F.normalize(self.dropout(vectors).astype("float32"), axis=-1)
