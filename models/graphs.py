"""A model to a static graph: Paddle's, ONNX, and ONNX with 8-bit weights."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import paddle

from models.semantic_index import SemanticIndex
from semindex.encode import engines
from semindex.errors import UserError


class _Graph(paddle.nn.Layer):
    """The model as it is turned static; to_static changes the layer it is given."""

    def __init__(self, model: SemanticIndex) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: paddle.Tensor, token_type_ids: paddle.Tensor) -> paddle.Tensor:
        return self.model(input_ids, token_type_ids)


def write_graph(model: SemanticIndex, directory: str) -> None:
    """Write Paddle's static graph and weights; inputs are int64 [texts, tokens], both dimensions free."""
    spec = [paddle.static.InputSpec([None, None], "int64", name) for name in ("input_ids", "token_type_ids")]
    graph = paddle.jit.to_static(_Graph(model), input_spec=spec, full_graph=True)
    graph.eval()  # dropout off: a graph that was traced in training gives other vectors at every call
    paddle.jit.save(graph, os.path.join(directory, "inference"))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Send what native code and foreign loggers write to standard output and error nowhere."""
    sys.stdout.flush()
    kept, level = [os.dup(1), os.dup(2)], logging.getLogger().level
    nowhere = os.open(os.devnull, os.O_WRONLY)
    logging.disable(logging.WARNING)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for number, copy in enumerate(kept, 1):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
        logging.disable(logging.NOTSET)
        logging.getLogger().setLevel(level)


def write_onnx(directory: str) -> None:
    """Turn the static graph of a directory into ONNX, what is constant in it computed once and for all."""
    import paddle2onnx

    onnxruntime = _onnxruntime()
    raw, file = os.path.join(directory, "raw.onnx"), os.path.join(directory, engines.ONNX)
    with _silence():
        paddle2onnx.export(os.path.join(directory, engines.GRAPH), os.path.join(directory, engines.WEIGHTS), raw,
                           opset_version=17, verbose=False)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath, settings.log_severity_level = file, 3
    # Weights behind transpositions are no constants to the quantiser: it would leave them in fp32 without a word.
    onnxruntime.InferenceSession(raw, settings, providers=["CPUExecutionProvider"])
    os.unlink(raw)


def write_int8(directory: str) -> None:
    """Quantise the ONNX graph of a directory: weights of matrix products to int8, activations as they come."""
    _onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _silence():
        # Weights of 7 bits: with 8 the sums of processors without VNNI overflow, and cosines fell to 0.978.
        quantize_dynamic(os.path.join(directory, engines.ONNX), os.path.join(directory, engines.INT8), per_channel=True,
                         reduce_range=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UserError("ONNX and int8 need onnxruntime: bash scripts/setup.sh --onnx installs it") from None
    return onnxruntime
