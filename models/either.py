"""The encoder that --params_path (a checkpoint) or --model_dir (an exported directory) names, behind one face."""

import argparse
import os
from dataclasses import dataclass

from semindex import runtime
from semindex.encode.exported import Predictor, fingerprint_of
from semindex.encode.text_encoder import TextEncoder
from semindex.errors import UserError
from semindex.roles import check_kept


@dataclass
class OpenEncoder:
    """An encoder, and what tells it from others. fingerprint: of what decides its vectors."""

    encoder: TextEncoder
    kind: str
    path: str
    fingerprint: str
    engine: str
    truncate_dim: int = 0

    def about(self) -> dict[str, str]:
        """Return what a directory that was made with it keeps."""
        return {"kind": self.kind, "path": os.path.abspath(self.path), "fingerprint": self.fingerprint,
                "engine": self.engine} | ({"truncate_dim": str(self.truncate_dim)} if self.truncate_dim else {})


def open_encoder(args: argparse.Namespace, texts: int, kept: dict[str, str] | None = None) -> OpenEncoder:
    """Return the encoder of the flags, see search_flags.add_either_encoder. texts: how many it is to encode.

    kept: what a directory says of the encoder it was made with; opened where the flags name none. Raises UserError
    where there is neither, and where the encoder is another one than was kept.
    """
    params, model = args.params_path, args.model_dir
    if not params and not model:
        if kept is None:
            raise UserError("name the encoder with --params_path (a checkpoint) or --model_dir (an export)")
        if not os.path.exists(kept["path"]):
            raise UserError(f"{kept['path']}: the encoder of the FAQ is not there any more; name it with --params_path "
                            "or --model_dir")
        params, model = (kept["path"], None) if kept["kind"] == "checkpoint" else (None, kept["path"])
    engine = args.engine
    if engine == "auto" and kept:
        engine = "int8" if kept["engine"] == "int8" else "auto"
    cut = args.truncate_dim
    if cut is None and kept:
        cut = int(kept.get("truncate_dim", 0)) or None
    check_kept(params or model, "--params_path" if params else "--model_dir")
    found = _checkpoint(args, params, engine, texts, cut) if params else _export(args, model, engine, cut or 0)
    if kept is not None and found.fingerprint != kept["fingerprint"]:
        raise UserError(f"{found.path}: is another encoder than the FAQ was built with ({kept['path']}); build the FAQ "
                        "again with build_faq.py, or name its encoder")
    return found


def _checkpoint(args: argparse.Namespace, path: str, engine: str, texts: int, cut: int | None) -> OpenEncoder:
    from models import loading
    from models.encoders import fast_encoder

    model, tokenizer = loading.load(path, {"trust_files": args.trust_files, "truncate_dim": cut})
    encoder, used = fast_encoder(model, tokenizer, engine, texts, args.batch_size)
    fingerprint = loading.fingerprint(path, model, tokenizer) + " int8" * (used == "int8")
    return OpenEncoder(encoder, "checkpoint", path, fingerprint, used, model.settings.truncate_dim)


def _export(args: argparse.Namespace, path: str, engine: str, cut: int) -> OpenEncoder:
    if engine == "dynamic":
        raise UserError("--engine dynamic: runs a checkpoint; an exported directory runs by static, onnx or int8")
    if engine == "auto":
        engine = "onnx" if os.path.isfile(os.path.join(path, "model.onnx")) else "static"
    device = "cpu" if runtime.on_cpu() else "gpu"
    encoder = Predictor(path, device, "paddle" if engine == "static" else "onnx",
                        "int8" if engine == "int8" else "fp32", runtime.threads(), None, args.batch_size,
                        args.trust_files, cut)
    return OpenEncoder(encoder, "export", path, fingerprint_of(path, engine, encoder.truncate_dim), engine,
                       encoder.truncate_dim)
