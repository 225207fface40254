"""A checkpoint to a directory that serves: static graph, ONNX, int8, tokenizer, manifest. Checked against the model."""

import contextlib
import importlib.util
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import paddle

import runtime
from deploy.python.serving import predictor as serving
from deploy.python.serving.text_encoder import TextEncoder
from deploy.python.serving.whole import whole_directory
from encoder import dynamic
from models.semantic_index import SETTINGS, SemanticIndex
from options import UserError
from text_tokenizer import TextTokenizer

FORMATS = ("paddle", "onnx", "int8")
VOCABULARY = "vocabulary.json"
# Lengths, scripts and shapes that an export must get right: one character to longer than any limit.
SAMPLES = ["退", "信用卡丢了怎么挂失", "怎么查快递到哪了？", "APP 打不开，提示 error 404", "余额￥100.50→转账½ 😀🫨",
           "how do I reset my password", "花呗分期还款日可以改吗，改了以后这个月的账单怎么算" * 3, "很长" * 600]
AGREEMENT = 1e-4
ENGINES = ("auto", "dynamic", "static", "onnx", "int8")
# Texts from which an export, 4 s for a small encoder and half a minute for ERNIE's shape, is paid back.
WORTH_AN_EXPORT = 10_000


def check_output_path(path: str) -> None:
    """Raise UserError where `path` is something else than an export, an empty directory or nothing."""
    if os.path.isfile(path) or (os.path.isdir(path) and os.listdir(path)
                                and not os.path.isfile(os.path.join(path, serving.MANIFEST))):
        raise UserError(f"--output_path {path}: is there, but is no exported directory; name another one")


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
    raw, file = os.path.join(directory, "raw.onnx"), os.path.join(directory, serving.ONNX)
    with _silence():
        paddle2onnx.export(os.path.join(directory, serving.GRAPH), os.path.join(directory, serving.WEIGHTS), raw,
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
        quantize_dynamic(os.path.join(directory, serving.ONNX), os.path.join(directory, serving.INT8), per_channel=True,
                         reduce_range=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UserError("--format onnx and int8 need onnxruntime: bash scripts/setup.sh --onnx installs it") from None
    return onnxruntime


def write_manifest(model: SemanticIndex, tokenizer: TextTokenizer, directory: str, source: str) -> None:
    """Write semantic_index.json, the tokenizer and manifest.json with the checksums of all files."""
    tokenizer.save(directory)
    about: dict[str, object] = {"kind": "paddlenlp"}
    if tokenizer.vocabulary is not None:
        settings = asdict(tokenizer.vocabulary)
        with open(os.path.join(directory, VOCABULARY), "w", encoding="utf-8") as file:
            json.dump(settings.pop("ids"), file, ensure_ascii=False)
        about = {"kind": "wordpiece", "vocabulary": VOCABULARY, "settings": settings}
    with open(os.path.join(directory, SETTINGS), "w", encoding="utf-8") as file:
        json.dump(asdict(model.settings), file, ensure_ascii=False, indent=2)
    versions = {}
    for package in ("paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "tokenizers", "paddle2onnx", "onnxruntime"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    files = {name: serving.checksum(os.path.join(directory, name)) for name in sorted(os.listdir(directory))}
    manifest = {
        "format": serving.FORMAT, "source": source, "written": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "dimension": model.dimension, "max_seq_length": model.settings.max_seq_length,
        "max_position_embeddings": getattr(model.ptm.config, "max_position_embeddings", model.settings.max_seq_length),
        "tokenizer": about, "versions": versions, "files": files,
    }
    with open(os.path.join(directory, serving.MANIFEST), "w", encoding="utf-8") as file:
        json.dump(manifest, file, ensure_ascii=False, indent=2)


def export(model: SemanticIndex, tokenizer: TextTokenizer, output_path: str, formats: Sequence[str],
           source: str) -> dict[str, tuple[float, float]]:
    """Write an exported directory and compare it with the model before it gets its name.

    Returns for each format (largest difference of a component, smallest cosine) over SAMPLES. Raises UserError where
    the graphs in fp32 differ by more than AGREEMENT: nothing is left behind then.
    """
    check_output_path(output_path)
    with whole_directory(output_path) as directory:
        write_graph(model, directory)
        if set(formats) & {"onnx", "int8"}:
            write_onnx(directory)
        if "int8" in formats:
            write_int8(directory)
            if "onnx" not in formats:
                os.unlink(os.path.join(directory, serving.ONNX))
        write_manifest(model, tokenizer, directory, source)
        truth = dynamic(model, tokenizer, 4)(SAMPLES)
        found = {}
        for form in dict.fromkeys(("paddle", *formats)):
            vectors = open_export(directory, form, batch_size=4)(SAMPLES)
            lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(truth, axis=1)
            cosines = np.einsum("ij,ij->i", vectors, truth) / lengths
            found[form] = float(np.abs(vectors - truth).max()), float(cosines.min())
            # vectors of the dot product are longer than one, and so are their errors
            if form != "int8" and not found[form][0] <= AGREEMENT * max(1.0, float(np.abs(truth).max())):
                raise UserError(f"the {form} graph differs from the model by {found[form][0]:.2g}, more than "
                                f"{AGREEMENT:g}; nothing was written to {output_path}")
    return found


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
            run = serving.paddle_engine(directory, "cpu", "fp32", runtime.threads())
        else:
            write_onnx(directory)
            if engine == "int8":
                write_int8(directory)
            workers = runtime.threads()
            run = serving.onnx_engine(directory, serving.INT8 if engine == "int8" else serving.ONNX, 1)
    if training:
        model.train()
    return TextEncoder(run, tokenizer, model.dimension, batch_size, workers=workers), engine


def _has_onnx() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnxruntime", "paddle2onnx"))


def open_export(directory: str, form: str, batch_size: int | None = None) -> serving.Predictor:
    """Open an exported directory in one of FORMATS, on a CPU."""
    return serving.Predictor(directory, engine="paddle" if form == "paddle" else "onnx",
                             precision="int8" if form == "int8" else "fp32", threads=runtime.threads(),
                             batch_size=batch_size)
