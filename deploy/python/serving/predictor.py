"""An exported directory to vectors: Paddle Inference, or onnxruntime where the directory holds an ONNX graph."""

import ctypes
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .command_line import UserError
from .ragged import Ragged
from .text_encoder import TextEncoder
from .wordpiece import Vocabulary, WordPiece

MANIFEST, FORMAT = "manifest.json", 1
GRAPH, WEIGHTS, ONNX, INT8 = "inference.json", "inference.pdiparams", "model.onnx", "model.int8.onnx"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def prepare_environment() -> None:
    """Set what native libraries read once, before paddle is imported, and silence its warnings."""
    # The MKL inside paddle takes its slowest path on processors of other makers. Naming the AVX2 path makes matrix
    # products 3 times as fast on an AMD EPYC; see docs/performance.md.
    try:
        with open("/proc/cpuinfo") as info:
            processor = info.read(4096)
        if "AuthenticAMD" in processor and " avx2" in processor:
            os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
    except OSError:
        pass  # not Linux: nothing to gain
    os.environ.setdefault("GLOG_minloglevel", "2")
    warnings.filterwarnings("ignore")  # of paddle's imports: ours are printed


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next array instead of giving it back to the system.

    paddle allocates the result of every operation anew, and beyond 128 KB that is fresh memory whose every page
    costs a fault: a product of two arrays of 3 MB took 6.7 ms and takes 1.0 (docs/performance.md). GNU's only.
    """
    try:
        library = ctypes.CDLL(None)
        for most in (1 << 30, 32 << 20):  # older libraries refuse the first
            if library.mallopt(-3, most):  # M_MMAP_THRESHOLD
                break
        library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        pass


def checksum(path: str) -> str:
    """Return a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(model_dir: str) -> dict[str, Any]:
    """Return manifest.json of an exported directory; UserError where a file is missing, changed or too new."""
    path = os.path.join(model_dir, MANIFEST)
    if not os.path.isdir(model_dir):
        raise UserError(f"--model_dir {model_dir}: no such directory")
    if not os.path.isfile(path):
        raise UserError(f"--model_dir {model_dir}: holds no {MANIFEST}; export_model.py writes such a directory")
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        files, version = dict(manifest["files"]), int(manifest["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); export the checkpoint again") from None
    if version > FORMAT:
        raise UserError(f"{path}: written by a newer version of this project (format {version})")
    for name, wanted in files.items():
        file_path = os.path.join(model_dir, name)
        if not os.path.isfile(file_path):
            raise UserError(f"{file_path}: missing; export the checkpoint again")
        if checksum(file_path) != wanted:
            raise UserError(f"{file_path}: changed since it was exported (its checksum differs from {MANIFEST}); "
                            "export the checkpoint again")
    return manifest


def load_tokenizer(model_dir: str, manifest: dict[str, Any], max_seq_length: int) -> Any:
    """Return a callable from texts to Ragged ids, with pad_id and cut."""
    about = manifest["tokenizer"]
    if about["kind"] == "wordpiece":
        with open(os.path.join(model_dir, about["vocabulary"]), encoding="utf-8") as file:
            ids = json.load(file)
        return WordPiece(Vocabulary(ids, **about["settings"]), max_seq_length)
    return _PaddlenlpTokenizer(model_dir, max_seq_length)


class _PaddlenlpTokenizer:
    """For encoders whose tokenizer is no WordPiece: paddlenlp's own, if it is installed."""

    def __init__(self, model_dir: str, max_length: int) -> None:
        try:
            from paddlenlp.transformers import AutoTokenizer
        except ImportError:
            raise UserError(f"{model_dir}: its tokenizer is no WordPiece and needs paddlenlp, "
                            "which is not installed") from None
        self.tokenizer = AutoTokenizer.from_pretrained(os.path.abspath(model_dir))
        self.pad_id, self.max_length, self.cut = self.tokenizer.pad_token_id, max_length, 0

    def __call__(self, texts: Sequence[str]) -> Ragged:
        rows = [self.tokenizer(text, max_length=self.max_length, truncation=True)["input_ids"] for text in texts]
        starts = np.cumsum([0, *map(len, rows)])
        self.cut += sum(len(row) >= self.max_length for row in rows)
        return Ragged(np.array([i for row in rows for i in row], np.int32), starts)


def paddle_engine(model_dir: str, device: str, precision: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from ids, int64 [texts, tokens], to vectors, by Paddle Inference."""
    prepare_environment()
    import paddle
    from paddle import inference

    config = inference.Config(os.path.join(model_dir, GRAPH), os.path.join(model_dir, WEIGHTS))
    config.disable_glog_info()
    if device == "gpu":
        if not paddle.is_compiled_with_cuda() or not paddle.device.cuda.device_count():
            raise UserError("--device gpu: this machine or this build of paddle has none; pass --device cpu")
        half = {"fp16": inference.PrecisionType.Half, "bf16": inference.PrecisionType.Bfloat16}
        config.enable_use_gpu(256, 0, half.get(precision, inference.PrecisionType.Float32))
    else:
        config.disable_gpu()
        keep_freed_memory()
        config.set_cpu_math_library_num_threads(threads)
        if precision == "bf16":
            config.enable_mkldnn()
            config.enable_mkldnn_bfloat16()
        elif precision == "fp16":
            raise UserError("--precision fp16: a CPU computes in fp32, bf16 or int8")
    predictor = inference.create_predictor(config)
    inputs = [predictor.get_input_handle(name) for name in predictor.get_input_names()]
    output = predictor.get_output_handle(predictor.get_output_names()[0])

    def run(ids: np.ndarray) -> np.ndarray:
        for handle, value in zip(inputs, (ids, np.zeros_like(ids))):
            handle.copy_from_cpu(value)
        predictor.run()
        return output.copy_to_cpu()

    return run


def onnx_engine(model_dir: str, file: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from ids, int64 [texts, tokens], to vectors, by onnxruntime on a CPU."""
    path = os.path.join(model_dir, file)
    if not os.path.isfile(path):
        form = "int8" if file == INT8 else "onnx"
        raise UserError(f"{model_dir}: holds no {file}; export_model.py --format {form} writes it")
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{file} needs onnxruntime: pip install onnxruntime") from None
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(ids: np.ndarray) -> np.ndarray:
        return session.run(None, dict(zip(names, (ids, np.zeros_like(ids)))))[0]

    return run


class Predictor(TextEncoder):
    """Callable from texts to their unit vectors, by an exported directory; see TextEncoder.

    engine: paddle or onnx; precision int8 is onnx. threads: of a CPU. max_seq_length: None is the directory's own.
    Raises UserError for a directory that is not whole or was changed.
    """

    def __init__(self, model_dir: str, device: str = "cpu", engine: str = "paddle", precision: str = "fp32",
                 threads: int = 1, max_seq_length: int | None = None, batch_size: int | None = None) -> None:
        manifest = read_manifest(model_dir)
        longest = manifest["max_position_embeddings"]
        self.max_seq_length = max_seq_length or manifest["max_seq_length"]
        if self.max_seq_length > longest:
            raise UserError(f"--max_seq_length {self.max_seq_length}: the encoder reads at most {longest} tokens")
        tokenizer = load_tokenizer(model_dir, manifest, self.max_seq_length)
        if precision == "int8" or engine == "onnx":
            if device == "gpu":
                raise UserError("--device gpu: ONNX graphs run on a CPU here; leave --device out")
            if precision not in ("fp32", "int8"):
                raise UserError(f"--precision {precision}: an ONNX graph here is fp32 or int8")
            run = onnx_engine(model_dir, INT8 if precision == "int8" else ONNX, threads)
        else:
            run = paddle_engine(model_dir, device, precision, threads)
        super().__init__(run, tokenizer, manifest["dimension"], batch_size)
