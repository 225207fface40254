"""A model as a TextEncoder: as it is, or through the fastest engine that its texts pay for."""

import contextlib
import importlib.util
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator

import numpy as np
import paddle

from models.graphs import write_graph, write_int8, write_onnx
from models.semantic_index import SemanticIndex
from models.static_encoder import StaticModel
from semindex import runtime
from semindex.directories import temporary_directory
from semindex.encode.engines import INT8, ONNX, onnx_engine, paddle_engine
from semindex.encode.text_encoder import TextEncoder
from semindex.errors import UserError
from semindex.text.ragged import Ragged
from semindex.text.tokenizer import TextTokenizer

ENGINES = ("auto", "dynamic", "static", "onnx", "int8")
# Texts from which an export, 4 s for a small encoder and half a minute for ERNIE's shape, is paid back.
WORTH_AN_EXPORT = 10_000
# Whether a layer trains is a state of the layer: one thread may not switch dropout on while another one encodes.
_TURN = threading.Lock()


class _Bags(TextEncoder):
    """A static encoder's: the means of the pieces' vectors as one sparse product, nothing a token."""

    def __init__(self, model: SemanticIndex, tokenizer: TextTokenizer) -> None:
        super().__init__(lambda rows: run_eval(model, lambda: model.finish(paddle.to_tensor(rows))), tokenizer,
                         model.dimension, similarity=model.settings.similarity, prompts=model.settings.prompts)
        self.table = model.ptm.table.numpy()

    def of_tokens(self, tokens: Ragged) -> np.ndarray:
        """Return the vectors of texts that are token ids already."""
        from scipy.sparse import csr_array

        inside = (tokens.flat != self.tokenizer.pad_id).astype(np.float32)
        bags = csr_array((inside, tokens.flat, tokens.starts), shape=(len(tokens), len(self.table)))
        counts = np.maximum(np.asarray(bags.sum(axis=1), np.float32), 1e-9)
        return self.run(np.asarray(bags @ self.table, np.float32) / counts[:, None])


def run_eval(model: SemanticIndex, work: Callable[[], paddle.Tensor]) -> np.ndarray:
    """Return what a model gives with dropout off; threads take turns."""
    with _TURN:
        training = model.training
        model.eval()
        try:
            with paddle.no_grad():
                return np.asarray(work().numpy(), np.float32)
        finally:
            if training:
                model.train()


def dynamic(model: SemanticIndex, tokenizer: TextTokenizer, batch_size: int | None = None) -> TextEncoder:
    """Return an encoder that runs the model as it is, dropout off; batch_size: see TextEncoder.

    Threads may share it, and the model: they take turns.
    """
    if isinstance(model.ptm, StaticModel) and model.settings.pooling == "mean":
        return _Bags(model, tokenizer)
    return TextEncoder(lambda ids: run_eval(model, lambda: model(paddle.to_tensor(ids))), tokenizer,
                       model.dimension, batch_size, similarity=model.settings.similarity,
                       prompts=model.settings.prompts)


def fast_encoder(model: SemanticIndex, tokenizer: TextTokenizer, engine: str, texts: int,
                 batch_size: int | None = None) -> tuple[TextEncoder, str]:
    """Return an encoder for that many texts, and the name of its engine.

    engine: one of ENGINES; auto: the fastest one in fp32 that is installed, where the texts pay for the export.
    Raises UserError where an engine that was named is not installed.
    """
    if engine == "auto":
        little = isinstance(model.ptm, StaticModel) or texts < WORTH_AN_EXPORT
        engine = "dynamic" if little or not runtime.on_cpu() else "onnx" if _has_onnx() else "static"
    if engine == "dynamic":
        return dynamic(model, tokenizer, batch_size), engine
    if not runtime.on_cpu():
        raise UserError(f"--engine {engine}: runs on a CPU here; pass --device cpu, or leave it out")
    training, workers = model.training, 1
    model.eval()
    with _room_for(model, engine), temporary_directory() as directory:
        write_graph(model, directory)
        if engine == "static":
            run = paddle_engine(directory, "cpu", "fp32", runtime.threads())
        else:
            write_onnx(directory)
            if engine == "int8":
                write_int8(directory)
            workers = runtime.threads()
            run = onnx_engine(directory, INT8 if engine == "int8" else ONNX, 1)
    if training:
        model.train()
    return TextEncoder(run, tokenizer, model.dimension, batch_size, workers=workers,
                       similarity=model.settings.similarity, prompts=model.settings.prompts), engine


@contextlib.contextmanager
def _room_for(model: SemanticIndex, engine: str) -> Iterator[None]:
    """Raise UserError where TMPDIR has no room for an engine's files; the libraries that write them end the process."""
    place = tempfile.gettempdir()
    wanted = int(sum(value.size for value in model.state_dict().values())) * 4 * (1 if engine == "static" else 3)
    advice = (f"--engine {engine}: the graph is written to {place}; make room there, name another place with TMPDIR, "
              "or pass --engine dynamic")
    try:
        free = shutil.disk_usage(place).free
        if free < wanted:
            raise UserError(f"{advice} ({free >> 20} MiB free, {wanted >> 20} wanted)")
        yield
    except OSError as error:
        raise UserError(f"{advice} ({error.strerror or error})") from None


def _has_onnx() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnxruntime", "paddle2onnx"))
