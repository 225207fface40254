"""Encoders by paddlenlp's names, downloaded on first use, and local directories in its form."""

import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from models.weights import Pretrained
from models.weights.configuration import read_config
from models.weights.state_files import read_state
from semindex.errors import UserError
from semindex.text import plain_pickle
from semindex.text.paddlenlp_tokenizer import PaddlenlpTokenizer
from semindex.text.tokenizer import TextTokenizer
from semindex.text.tokenizer_file import FILE, read_tokenizer

ADVICE = ("give a local directory with config.json, model_state.pdparams and the tokenizer's files, "
          "or scratch-2x256 for an encoder from random weights")


def quiet() -> None:
    """Keep paddlenlp's notes on every file it opens out of the user's sight, and its files from running anything.

    To be called before any from_pretrained: paddlenlp unpickles weights, and one tokenizer its dictionary.
    """
    from paddlenlp.transformers import model_utils
    from paddlenlp.transformers.ernie import tokenizer
    from paddlenlp.utils.log import logger

    logger.set_level("ERROR")
    model_utils.paddlenlp_load = _read_state
    tokenizer.pickle = plain_pickle


def _read_state(path: str, map_location: str = "cpu") -> dict[str, Any]:
    return read_state(str(path), return_numpy=map_location in ("np", "numpy"))


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


def dropout_rates(dropout: float | None) -> dict[str, float]:
    """Return the configuration's fields that set an encoder's dropout; none where it keeps its own."""
    return {} if dropout is None else {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}


def claims(name: str) -> bool:
    """Any name may be paddlenlp's."""
    return True


def load(name: str, dropout: float | None, texts: Iterable[str]) -> Pretrained:
    """Return an encoder by name or from a directory; UserError says how to go on without network."""
    local = os.path.isdir(name)
    if not local and (os.sep in name and os.path.exists(os.path.dirname(name)) or name.startswith((".", "/"))):
        raise UserError(f"--model_name_or_path {name}: no such directory")
    if local and os.path.isfile(os.path.join(name, "semantic_index.json")):
        # paddlenlp would find none of its names in the weights, and begin from random ones without a word
        raise UserError(f"--model_name_or_path {name}: is a checkpoint of this project; start from it with "
                        "--init_from_ckpt, or use it with --params_path")
    quiet()
    if not local and not _reachable(name):
        raise UserError(f"--model_name_or_path {name}: not a local directory, and it cannot be downloaded: "
                        f"the network failed; {ADVICE}")
    from paddlenlp.transformers import AutoModel

    # An absolute path never equals a built-in name: paddlenlp would take the built-in model over the directory.
    source = os.path.abspath(name) if local else name

    def make() -> Any:
        encoder = AutoModel.from_pretrained(source, **dropout_rates(dropout))
        if type(encoder).__name__ == "ErnieModel":
            encoder.config.layer_norm_eps = 1e-12  # what paddlenlp computes with, whatever config.json says
        return encoder

    return loaded(name, make, source)


def _from_file(directory: str, max_seq_length: int) -> TextTokenizer:
    found = read_tokenizer(directory, max_seq_length)
    assert found is not None
    return found


def loaded(name: str, make_encoder: Callable[[], Any], source: str) -> Pretrained:
    """Return what make_encoder gives with the tokenizer of `source`; whatever it raises becomes one line."""
    from paddlenlp.transformers import AutoTokenizer

    if os.path.isdir(source):
        read_config(source)
    try:
        encoder = make_encoder()
        if os.path.isfile(os.path.join(source, FILE)):
            return Pretrained(encoder, partial(_from_file, source))
        return Pretrained(encoder, partial(PaddlenlpTokenizer, AutoTokenizer.from_pretrained(source)))
    except UserError:
        raise
    except Exception as error:  # paddlenlp raises OSError, RuntimeError, ValueError, KeyError and more
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        what = "cannot be loaded" if os.path.isdir(name) else "unknown to paddlenlp, or the download failed"
        raise UserError(f"--model_name_or_path {name}: {what} ({reason}); {ADVICE}") from None
