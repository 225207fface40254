"""A checkpoint to a directory that serves: static graph, ONNX, int8, tokenizer, manifest. Checked against the model."""

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from models.encoders import dynamic
from models.graphs import write_graph, write_int8, write_onnx
from models.semantic_index import SemanticIndex
from models.settings import write_settings
from models.weights.configuration import longest_text
from semindex import manifest, runtime
from semindex.directories import atomic_directory, check_replaceable
from semindex.encode import engines, exported
from semindex.errors import UserError
from semindex.text.tokenizer import TextTokenizer

FORMATS = ("paddle", "onnx", "int8")
# Lengths, scripts and shapes that an export must get right: one character to longer than any limit.
SAMPLES = ["退", "信用卡丢了怎么挂失", "怎么查快递到哪了？", "APP 打不开，提示 error 404", "余额￥100.50→转账½ 😀🫨",
           "how do I reset my password", "花呗分期还款日可以改吗，改了以后这个月的账单怎么算" * 3, "很长" * 600]
AGREEMENT = 1e-4


def check_output_path(path: str, kind: str = "export") -> None:
    """Raise UserError where `path` is something else than an export, an empty directory or nothing."""
    check_replaceable(path, "--output_path", kind)


def versions() -> dict[str, str]:
    """Return the versions of the packages that an export comes from."""
    found = {}
    for package in ("paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "tokenizers", "paddle2onnx", "onnxruntime"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def write_manifest(model: SemanticIndex, tokenizer: TextTokenizer, directory: str, source: str) -> None:
    """Write semantic_index.json, the tokenizer and manifest.json with the checksums of all files."""
    about = tokenizer.export(directory)
    write_settings(model.settings, directory)
    manifest.write(directory, "export", {
        "source": source, "written": time.strftime("%Y-%m-%dT%H:%M:%S"), "dimension": model.dimension,
        "max_seq_length": model.settings.max_seq_length,
        "similarity": model.settings.similarity, "matryoshka_dims": model.settings.matryoshka_dims,
        "principal_axes": model.settings.principal_axes, "threshold": model.settings.threshold,
        "prompts": asdict(model.settings.prompts),
        "max_position_embeddings": longest_text(model.ptm.config) or model.settings.max_seq_length,
        "tokenizer": about, "versions": versions()})


def export(model: SemanticIndex, tokenizer: TextTokenizer, output_path: str, formats: Sequence[str],
           source: str) -> dict[str, tuple[float, float]]:
    """Write an exported directory and compare it with the model before it gets its name.

    Returns for each format (largest difference of a component, smallest cosine) over SAMPLES. Raises UserError where
    the graphs in fp32 differ by more than AGREEMENT: nothing is left behind then.
    """
    check_output_path(output_path)
    with atomic_directory(output_path, "export") as directory:
        write_graph(model, directory)
        if set(formats) & {"onnx", "int8"}:
            write_onnx(directory)
        if "int8" in formats:
            write_int8(directory)
            if "onnx" not in formats:
                os.unlink(os.path.join(directory, engines.ONNX))
        write_manifest(model, tokenizer, directory, source)
        truth = dynamic(model, tokenizer, 4)(SAMPLES)
        found = {}
        for form in dict.fromkeys(("paddle", *formats)):
            try:
                vectors = open_export(directory, form, batch_size=4)(SAMPLES)
            except RuntimeError as error:  # paddle and onnxruntime do not notice that a file they write is cut short
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise UserError(f"{output_path}: the {form} graph cannot be read as it was written ({reason:.120}); is "
                                "there room for it, and may a file be so large (ulimit -f)?") from None
            lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(truth, axis=1)
            cosines = np.einsum("ij,ij->i", vectors, truth) / lengths
            found[form] = float(np.abs(vectors - truth).max()), float(cosines.min())
            # vectors of the dot product are longer than one, and so are their errors
            if form != "int8" and not found[form][0] <= AGREEMENT * max(1.0, float(np.abs(truth).max())):
                raise UserError(f"the {form} graph differs from the model by {found[form][0]:.2g}, more than "
                                f"{AGREEMENT:g}; nothing was written to {output_path}")
    return found


def open_export(directory: str, form: str, batch_size: int | None = None) -> exported.Predictor:
    """Open an exported directory in one of FORMATS, on a CPU."""
    return exported.Predictor(directory, engine="paddle" if form == "paddle" else "onnx",
                             precision="int8" if form == "int8" else "fp32", threads=runtime.threads(),
                             batch_size=batch_size)
