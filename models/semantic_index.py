"""The base model: texts' token ids to unit vectors, and the checkpoint directory it lives in."""

import hashlib
import json
import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from models import huggingface, scratch
from options import UserError
from runtime import say
from text_tokenizer import TextTokenizer

# Encoders that take (input_ids, token_type_ids) and find the padding by themselves. In paddlenlp others take an
# attention mask or positions in the second place, and would give vectors that depend on the batch.
READS_PADDING = ("BertModel", "ErnieModel", "RobertaModel", "ElectraModel", "RoFormerModel")
WEIGHTS, SETTINGS, FORMAT = "model_state.pdparams", "semantic_index.json", 2


@dataclass
class EncoderSettings:
    """What semantic_index.json holds: all that later scripts need to know of an encoder.

    pooling: pooler, cls, mean or max; pooling_layer: hidden layer read by the latter three, -1 the last;
    output_emb_size: width of the linear layer, 0 for none; max_seq_length: tokens, special ones included;
    encoder: where the weights came from; head: the loss they were trained with; training_pooling: pooling while
    training where it is another one than at inference, which SimCSE wants. similarity: cosine, of unit vectors; or
    dot, of vectors through a layer normalisation, the encoder of ANCE (Xiong et al. 2020, arXiv 2007.00808).
    max_query_length, max_chunks: tokens of a query, 0 for max_seq_length, and passages of a document at most, where a
    collection is ranked.
    """

    encoder: str
    pooling: str = "pooler"
    pooling_layer: int = -1
    output_emb_size: int = 256
    max_seq_length: int = 64
    head: str = ""
    training_pooling: str = ""
    similarity: str = "cosine"
    max_query_length: int = 0
    max_chunks: int = 1
    format: int = FORMAT


class SemanticIndex(nn.Layer):
    """Encoder, pooling, linear layer, dropout, L2 norm: the recipe's order, parameter names and initialisation.

    ptm: a paddlenlp encoder. forward takes input_ids, int64 [texts, tokens], padded with the encoder's
    pad_token_id, and gives unit vectors, float32 [texts, output_emb_size or the encoder's width]. With
    settings.similarity dot, linear layer and layer norm instead: vectors of any length.
    """

    def __init__(self, ptm: nn.Layer, settings: EncoderSettings, head_dropout: float = 0.1) -> None:
        super().__init__()
        self.ptm, self.settings = ptm, settings
        self.pad_id: int = ptm.config.pad_token_id or 0
        width = ptm.config.hidden_size
        self.dropout = nn.Dropout(head_dropout)
        self.emb_reduce_linear = None
        if settings.output_emb_size:
            initial = paddle.ParamAttr(initializer=nn.initializer.TruncatedNormal(std=0.02))
            self.emb_reduce_linear = nn.Linear(width, settings.output_emb_size, weight_attr=initial)
        self.norm = nn.LayerNorm(self.dimension) if settings.similarity == "dot" else None
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
        if settings.pooling == "pooler" and pooler is None:
            raise UserError(f"--pooling pooler: {settings.encoder} has no pooler; choose cls, mean or max")
        self.pooling_in_use()

    def pooling_in_use(self) -> str:
        """Return the pooling that training uses; an unused pooler gets no gradient, and DataParallel must know."""
        used = self.settings.training_pooling or self.settings.pooling
        if getattr(self.ptm, "pooler", None) is not None:
            for parameter in self.ptm.pooler.parameters():
                parameter.stop_gradient = used != "pooler"
        return used

    def settle_for(self, head: str) -> None:
        """Go on with another head: only SimCSE trains through a pooler that inference leaves out."""
        self.settings.head = head
        if self.settings.similarity == "dot" and head != "ance":
            raise UserError("the encoder of --init_from_ckpt compares by dot product, other losses want unit vectors; "
                            "go on with train_ance.py")
        if head != "simcse":
            self.settings.training_pooling = ""
        self.pooling_in_use()

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return self.settings.output_emb_size or self.ptm.config.hidden_size

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
        vectors = self.pool(input_ids, token_type_ids)
        if self.emb_reduce_linear is not None:
            vectors = self.emb_reduce_linear(vectors)
        if self.norm is not None:
            return self.norm(vectors).astype("float32")
        return F.normalize(self.dropout(vectors).astype("float32"), axis=-1)


# --- building and loading -------------------------------------------------------------------------------------


def _settle(flags: dict[str, Any], stored: EncoderSettings, where: str) -> None:
    """Refuse flags that say other than the checkpoint; a shorter or longer max_seq_length is the user's choice."""
    if flags.get("infer_with_fc_pooler") and stored.pooling != "pooler":
        raise UserError(f"--infer_with_fc_pooler contradicts the checkpoint {where}, whose pooling is "
                        f"{stored.pooling}; leave the flag out")
    for name in ("output_emb_size", "pooling", "pooling_layer", "similarity"):
        given = flags.get(name)
        if given is not None and given != getattr(stored, name):
            raise UserError(f"--{name} {given} contradicts the checkpoint {where}, made with "
                            f"{getattr(stored, name)}; leave the flag out")


def _check_shape_flag(name: str | None, config: Any, stored: EncoderSettings, where: str) -> None:
    """Refuse a --model_name_or_path of another encoder than the checkpoint holds."""
    if name is None or name == stored.encoder:
        return
    path = os.path.join(name, "config.json")
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            given = json.load(file)
        keys = ("hidden_size", "num_hidden_layers", "vocab_size")
        if all(given.get(key, getattr(config, key)) == getattr(config, key) for key in keys):
            return
    elif os.path.basename(name) == os.path.basename(stored.encoder.rstrip("/")):
        return  # the same encoder, named with another path
    raise UserError(f"--model_name_or_path {name} contradicts the checkpoint {where}, made with "
                    f"{stored.encoder}; leave the flag out")


def _check_length(settings: EncoderSettings, config: Any) -> None:
    longest = getattr(config, "max_position_embeddings", settings.max_seq_length)
    if settings.max_seq_length > longest:
        raise UserError(f"--max_seq_length {settings.max_seq_length}: {settings.encoder} reads at most "
                        f"{longest} tokens")


def _quiet() -> None:
    """Keep paddlenlp's notes on every file it opens out of the user's sight."""
    from paddlenlp.utils.log import logger

    logger.set_level("ERROR")


def _reachable(name: str) -> bool:
    """Tell whether paddlenlp's model host answers within seconds; true where a proxy or the cache may serve."""
    from paddlenlp.utils.downloader import COMMUNITY_MODEL_PREFIX
    from paddlenlp.utils.env import MODEL_HOME

    if os.path.isdir(os.path.join(MODEL_HOME, name)) or urllib.request.getproxies():
        return True
    host = urllib.parse.urlsplit(COMMUNITY_MODEL_PREFIX).hostname
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError:
        return False
    return True


def _pretrained(name: str, dropout: float | None) -> tuple[nn.Layer, Any]:
    """Load an encoder and its tokenizer by name or from a directory; UserError says how to go on without network."""
    from paddlenlp.transformers import AutoModel, AutoTokenizer

    local = os.path.isdir(name)
    if not local and (os.sep in name and os.path.exists(os.path.dirname(name)) or name.startswith((".", "/"))):
        raise UserError(f"--model_name_or_path {name}: no such directory")
    advice = ("give a local directory with config.json, model_state.pdparams and the tokenizer's files, "
              "or scratch-2x256 for an encoder from random weights")
    if not local and not _reachable(name):
        raise UserError(f"--model_name_or_path {name}: not a local directory, and it cannot be downloaded: "
                        f"the network failed; {advice}")
    # An absolute path never equals a built-in name: paddlenlp would take the built-in model over the directory.
    source = os.path.abspath(name) if local else name
    rates = {} if dropout is None else {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    try:
        if local and huggingface.weights_file(source):
            return huggingface.load_encoder(source, rates), AutoTokenizer.from_pretrained(source)
        return AutoModel.from_pretrained(source, **rates), AutoTokenizer.from_pretrained(source)
    except UserError:
        raise
    except Exception as error:  # paddlenlp raises OSError, RuntimeError, ValueError, KeyError and more
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        what = "cannot be loaded" if local else "unknown to paddlenlp, or the download failed"
        raise UserError(f"--model_name_or_path {name}: {what} ({reason}); {advice}") from None


def locate(params_path: str) -> tuple[str, str]:
    """Return (directory, weights file) of a --params_path, which may name either; UserError where there is none."""
    directory, weights = os.path.split(params_path)
    if os.path.isdir(params_path):
        directory, weights = params_path, WEIGHTS
    file = os.path.join(directory, weights)
    if os.path.isdir(params_path):
        file = huggingface.weights_file(directory) or file
    if not os.path.exists(params_path):
        raise UserError(f"{params_path}: no such checkpoint")
    if not os.path.isfile(file):
        raise UserError(f"{params_path}: not a checkpoint, it holds no {WEIGHTS}")
    return directory or ".", file


def read_settings(directory: str) -> EncoderSettings | None:
    """Return what semantic_index.json says, None where there is no such file, UserError where it is damaged."""
    path = os.path.join(directory, SETTINGS)
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        settings = EncoderSettings(**content)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error})") from None
    if settings.format > FORMAT:
        raise UserError(f"{path}: written by a newer version of this project (format {settings.format})")
    return settings


def fingerprint(params_path: str, model: SemanticIndex, tokenizer: TextTokenizer) -> str:
    """Return a SHA-256 over weights, shape, settings and vocabulary: encoders with the same one give the same vectors.

    params_path: where the model was loaded from.
    """
    with open(locate(params_path)[1], "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    settings = {key: value for key, value in asdict(model.settings).items()
                if key in ("pooling", "pooling_layer", "output_emb_size", "max_seq_length")
                or (key, value) == ("similarity", "dot")}
    shape = {key: value for key, value in model.ptm.config.to_dict().items()
             if isinstance(value, (int, float, str)) and not re.search("dropout|version|path|prob", key)}
    for part in (settings, shape, tokenizer.tokenizer.get_vocab(), tokenizer.lowercase):
        digest.update(json.dumps(part, sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()


def load_weights(model: nn.Layer, file: str, may_lack: tuple[str, ...] = ()) -> None:
    """Fill the model from a state dict; UserError names what is missing, unexpected or of another shape.

    may_lack: prefixes of parameters that keep their initial values, with a note, when the file lacks them.
    """
    try:
        state = paddle.load(file)
    except Exception as error:  # a truncated pickle raises almost anything
        raise UserError(f"{file}: cannot be read as paddle weights ({type(error).__name__}); "
                        "the file is damaged or is something else") from None
    if not isinstance(state, dict):
        raise UserError(f"{file}: holds no weights")
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    fresh = [name for name in missing if name.startswith(may_lack)] if may_lack else []
    unexpected = [name for name in state if name not in own and name != "StructuredToParameterName@@"]
    shapes = [f"{name} {list(state[name].shape)} instead of {list(own[name].shape)}"
              for name in own if name in state and list(state[name].shape) != list(own[name].shape)]
    faults = [(shapes, "of another shape"), ([name for name in missing if name not in fresh], "missing"),
              (unexpected, "unexpected")]
    texts = [f"{len(names)} {what} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
             for names, what in faults if names]
    if texts:
        raise UserError(f"{file}: does not fit the encoder: parameters {'; '.join(texts)}; "
                        "was it trained with another --model_name_or_path or --output_emb_size?")
    model.set_state_dict(state)
    if fresh:
        say(f"not in {file}, initialised anew: {', '.join(fresh)}")


def load(params_path: str, flags: dict[str, Any], head_dropout: float = 0.1) -> tuple[SemanticIndex, TextTokenizer]:
    """Load encoder and tokenizer of a checkpoint, in evaluation mode.

    flags: the encoder flags of options.add_encoder and `dropout`, None or absent where not given. A directory
    without semantic_index.json (weights published with the recipe) needs model_name_or_path beside it.
    Raises UserError for contradictions and for weights that do not fit.
    """
    from paddlenlp.transformers import AutoConfig, AutoModel, AutoTokenizer

    _quiet()
    directory, weights = locate(params_path)
    settings = read_settings(directory)
    name = flags.get("model_name_or_path")
    if settings is None and huggingface.weights_file(directory):
        if name and os.path.realpath(name) != os.path.realpath(directory):
            raise UserError(f"--model_name_or_path {name}: {params_path} is a whole encoder by itself; "
                            "leave the flag out")
        model, tokenizer = create(directory, flags, head_dropout=head_dropout)
        model.eval()
        return model, tokenizer
    if settings is None:
        if not name:
            raise UserError(f"{params_path}: holds no {SETTINGS}; pass --model_name_or_path with the encoder's name")
        model, tokenizer = create(name, flags, head_dropout=head_dropout)
    else:
        _settle(flags, settings, directory)
        path = os.path.abspath(directory)
        try:
            config = AutoConfig.from_pretrained(path)
            tokenizer_files = AutoTokenizer.from_pretrained(path)
        except Exception as error:
            raise UserError(f"{directory}: incomplete checkpoint: config.json or the tokenizer's files "
                            f"are missing or damaged ({type(error).__name__})") from None
        _check_shape_flag(name, config, settings, directory)
        if flags.get("dropout") is not None:
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = flags["dropout"]
        if flags.get("max_seq_length"):
            settings.max_seq_length = flags["max_seq_length"]
        _check_length(settings, config)
        model = SemanticIndex(AutoModel.from_config(config), settings, head_dropout)
        tokenizer = TextTokenizer(tokenizer_files, settings.max_seq_length)
    load_weights(model, weights)
    model.eval()
    return model, tokenizer


def create(name: str, flags: dict[str, Any], texts: Iterable[str] = (), head: str = "",
           head_dropout: float = 0.1) -> tuple[SemanticIndex, TextTokenizer]:
    """Build a new encoder: pretrained by name or directory, or scratch-LxW with a vocabulary from `texts`."""
    _quiet()
    from_scratch = scratch.is_scratch(name) and not os.path.isdir(name)
    if from_scratch:
        ptm, tokenizer = scratch.build(name, texts, flags.get("dropout"))
        say(f"{name}: random weights, NOT pretrained; vocabulary of {len(tokenizer.vocab)} from the training texts")
    else:
        ptm, tokenizer = _pretrained(name, flags.get("dropout"))
    given = {key: flags[key] for key in ("pooling", "pooling_layer", "output_emb_size", "max_seq_length", "similarity")
             if flags.get(key) is not None}
    # An untrained pooler and [CLS] say nothing of the text, the mean over its tokens does.
    usual = {"pooling": "mean" if from_scratch else "pooler", "head": head}
    if flags.get("similarity") == "dot":
        usual |= {"output_emb_size": ptm.config.hidden_size} | ({} if from_scratch else {"pooling": "cls"})
    if os.path.isdir(name):
        usual |= huggingface.sentence_settings(name)
    settings = EncoderSettings(name, **usual | given)
    _choose_simcse_pooling(settings, flags)
    _check_length(settings, ptm.config)
    return SemanticIndex(ptm, settings, head_dropout), TextTokenizer(tokenizer, settings.max_seq_length)


def _choose_simcse_pooling(settings: EncoderSettings, flags: dict[str, Any]) -> None:
    """Settle what --infer_with_fc_pooler means; absent from the flags of other heads.

    Given: training and inference go through the pooler's layer. Left out: as in Gao et al. 2021 (arXiv 2104.08821,
    section 6.3) the layer serves training and inference takes [CLS] as it is. With a linear layer behind, what it
    reads must be the same in both, so there the pooler is left out of training too.
    """
    wanted = flags.get("infer_with_fc_pooler")
    if wanted is None:
        return
    if wanted:
        if flags.get("pooling") not in (None, "pooler"):
            raise UserError(f"--infer_with_fc_pooler contradicts --pooling {flags['pooling']}; leave one of them out")
        settings.pooling = "pooler"
    elif settings.pooling == "pooler" and flags.get("pooling") is None:
        settings.pooling = "cls"
        settings.training_pooling = "" if settings.output_emb_size else "pooler"


def save(model: SemanticIndex, tokenizer: TextTokenizer, directory: str) -> None:
    """Write weights, the encoder's config, the tokenizer's files and semantic_index.json into a directory."""
    paddle.save(model.state_dict(), os.path.join(directory, WEIGHTS))
    config = model.ptm.config
    config.architectures = [type(model.ptm).__name__]
    config.save_pretrained(directory)
    tokenizer.save(directory)
    with open(os.path.join(directory, SETTINGS), "w", encoding="utf-8") as file:
        json.dump(asdict(model.settings), file, ensure_ascii=False, indent=2)
