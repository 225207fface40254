"""A model as a TextEncoder: as it is, or through the fastest engine that its texts pay for."""

import importlib.util
import tempfile
import threading

import numpy as np
import paddle

from models.graphs import write_graph, write_int8, write_onnx
from models.semantic_index import SemanticIndex
from semindex import runtime
from semindex.encode.engines import INT8, ONNX, onnx_engine, paddle_engine
from semindex.encode.text_encoder import TextEncoder
from semindex.errors import UserError
from semindex.text.tokenizer import TextTokenizer

ENGINES = ("auto", "dynamic", "static", "onnx", "int8")
# Texts from which an export, 4 s for a small encoder and half a minute for ERNIE's shape, is paid back.
WORTH_AN_EXPORT = 10_000
# Whether a layer trains is a state of the layer: one thread may not switch dropout on while another one encodes.
_TURN = threading.Lock()


def dynamic(model: SemanticIndex, tokenizer: TextTokenizer, batch_size: int | None = None) -> TextEncoder:
    """Return an encoder that runs the model as it is, dropout off; batch_size: see TextEncoder.

    Threads may share it, and the model: they take turns.
    """
    def run(ids: np.ndarray) -> np.ndarray:
        with _TURN:
            training = model.training
            model.eval()
            try:
                with paddle.no_grad():
                    return model(paddle.to_tensor(ids)).numpy()
            finally:
                if training:
                    model.train()

    return TextEncoder(run, tokenizer, model.dimension, batch_size, similarity=model.settings.similarity,
                       prompts=model.settings.prompts)


def fast_encoder(model: SemanticIndex, tokenizer: TextTokenizer, engine: str, texts: int,
                 batch_size: int | None = None) -> tuple[TextEncoder, str]:
    """Return an encoder for that many texts, and the name of its engine.

    engine: one of ENGINES; auto: the fastest one in fp32 that is installed, where the texts pay for the export.
    Raises UserError where an engine that was named is not installed.
    """
    if engine == "auto":
        engine = "dynamic" if not runtime.on_cpu() or texts < WORTH_AN_EXPORT else "onnx" if _has_onnx() else "static"
    if engine == "dynamic":
        return dynamic(model, tokenizer, batch_size), engine
    if not runtime.on_cpu():
        raise UserError(f"--engine {engine}: runs on a CPU here; pass --device cpu, or leave it out")
    training, workers = model.training, 1
    model.eval()
    with tempfile.TemporaryDirectory() as directory:
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


def _has_onnx() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnxruntime", "paddle2onnx"))
