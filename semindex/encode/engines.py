"""What computes vectors from token ids: Paddle Inference and onnxruntime. No paddlenlp and no training code."""

import os
import threading
from collections.abc import Callable

import numpy as np

from semindex.environment import keep_freed_memory, prepare_environment
from semindex.errors import UserError

GRAPH, WEIGHTS, ONNX, INT8 = "inference.json", "inference.pdiparams", "model.onnx", "model.int8.onnx"


def paddle_engine(model_dir: str, device: str, precision: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from ids, int64 [texts, tokens], to vectors, by Paddle Inference.

    Threads may share it: they take turns.
    """
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

    # Inputs and output belong to the predictor: another thread's ids between copy and run gave its vectors to both.
    # A clone a thread is no faster: run() holds Python's lock from beginning to end. Four threads took 4.4 to 7.0 s for
    # 160 calls of scratch-4x512 with clones and 3.6 to 9.0 s with this lock, on a busy machine: no difference that can
    # be told from its noise, in time or in memory (1.7 to 2.0 GB). More at once takes more processes.
    turn = threading.Lock()

    def run(ids: np.ndarray) -> np.ndarray:
        with turn:
            for handle, value in zip(inputs, (ids, np.zeros_like(ids))):
                handle.copy_from_cpu(value)
            predictor.run()
            return output.copy_to_cpu()

    return run


def onnx_engine(model_dir: str, file: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from ids, int64 [texts, tokens], to vectors, by onnxruntime on a CPU. Threads may share it."""
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
    # Threads that wait in a loop take the processor from what else the process does: docs/serving.md.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(ids: np.ndarray) -> np.ndarray:
        return session.run(None, dict(zip(names, (ids, np.zeros_like(ids)))))[0]

    return run
