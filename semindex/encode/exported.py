"""An exported directory to vectors: Paddle Inference, or onnxruntime where the directory holds an ONNX graph."""

import hashlib
import json
import os
from typing import Any

from semindex import manifest
from semindex.encode.engines import INT8, ONNX, WEIGHTS, onnx_engine, paddle_engine
from semindex.encode.text_encoder import TextEncoder
from semindex.encode.truncation import choose, truncate
from semindex.errors import UserError
from semindex.fields import (
    check_fields,
    fault,
    file_name,
    list_of,
    object_of,
    one_of,
    read_fields,
    real,
    text,
    truth,
    whole,
)
from semindex.text import plain_pickle
from semindex.text.paddlenlp_tokenizer import PaddlenlpTokenizer
from semindex.text.prompts import Prompts
from semindex.text.tokenizer import TextTokenizer
from semindex.text.tokenizer_file import FileTokenizer
from semindex.text.wordpiece import Vocabulary, WordPiece

SETTINGS = "semantic_index.json"
ADVICE = "export the checkpoint again"
SIMILARITY = one_of("cosine", "dot").optional()
FIELDS = {
    "similarity": SIMILARITY, "dimension": whole(1, 65_536), "max_seq_length": whole(3, 8192),
    "max_position_embeddings": whole(3, 1_000_000),
    "prompts": object_of({"query": text(), "passage": text(), "query_on_both": truth()}).optional(),
    "matryoshka_dims": list_of(whole(1, 65_536)).optional(), "principal_axes": truth().optional(),
    "threshold": real(-2, 2).or_none().optional(),
    "tokenizer": object_of({"kind": one_of("wordpiece", "tokenizer.json", "paddlenlp")}, others=True),
}
WORDPIECE = {
    "kind": text(), "vocabulary": file_name(),
    "settings": object_of({"lowercase": truth(), "special": list_of(text())}
                          | {name: text() for name in ("unk", "cls", "sep", "pad")}),
}
TOKENIZER_FILE = {"kind": text(), "file": file_name(), "pad_id": whole(0, 10_000_000)}
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def read_manifest(model_dir: str, trust: bool = False) -> dict[str, Any]:
    """Return manifest.json of an exported directory once its files are what it says; UserError where they are not.

    trust: see manifest.check.
    """
    if not os.path.isdir(model_dir):
        raise UserError(f"--model_dir {model_dir}: no such directory")
    content = manifest.check(model_dir, "export", trust)
    if content is None:
        raise UserError(f"--model_dir {model_dir}: holds no {manifest.NAME} of an export; export_model.py writes such "
                        "a directory")
    _check_fields(os.path.join(model_dir, manifest.NAME), content)
    return content


def exported_fingerprint(model_dir: str) -> str:
    """Return a SHA-256 over what decides the vectors of an exported directory, in fp32: weights, tokenizer, settings.

    From the manifest, whose checksums read_manifest compares with the files.
    """
    content = manifest.read(model_dir)
    if content is None:
        raise UserError(f"--model_dir {model_dir}: holds no {manifest.NAME} of an export")
    about, files = content["tokenizer"], content["files"]
    weights = WEIGHTS if WEIGHTS in files else ONNX
    names = [name for name in (weights, about.get("vocabulary"), about.get("file"), SETTINGS) if name in files]
    kept = [files[name]["sha256"] for name in names]
    kept += [content.get(name) for name in ("similarity", "dimension", "max_seq_length", "prompts", "tokenizer")]
    return hashlib.sha256(json.dumps(kept, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def similarity_of(model_dir: str, content: dict[str, Any]) -> str:
    """Return cosine or dot; manifests from before it stood in them leave it to semantic_index.json."""
    found = content.get("similarity")
    if found is None and SETTINGS in content["files"]:
        found = read_fields(os.path.join(model_dir, SETTINGS), {"similarity": SIMILARITY}, others=True,
                            advice=ADVICE).get("similarity")
    return found or "cosine"


def _check_fields(path: str, content: dict[str, Any]) -> None:
    """Raise UserError that names the field of a manifest that is wrong."""
    check_fields(path, content, FIELDS, others=True, advice=ADVICE)
    about, longest = content["tokenizer"], content["max_position_embeddings"]
    fields, key = {"wordpiece": (WORDPIECE, "vocabulary"), "tokenizer.json": (TOKENIZER_FILE, "file")}.get(
        about["kind"], ({}, ""))
    wrong = fault(about, fields, not fields)
    if not wrong and key and about[key] not in content["files"]:
        wrong = f"{key} is {about[key]}, expected one of the files"
    if wrong:
        raise UserError(f"{path}: tokenizer: {wrong}; {ADVICE}")
    if content["max_seq_length"] > longest:
        raise UserError(f"{path}: max_seq_length is {content['max_seq_length']}, expected at most "
                        f"max_position_embeddings, {longest}; {ADVICE}")


def load_tokenizer(model_dir: str, content: dict[str, Any], max_seq_length: int) -> TextTokenizer:
    """Return the tokenizer of an exported directory."""
    about = content["tokenizer"]
    if about["kind"] == "wordpiece":
        with open(os.path.join(model_dir, about["vocabulary"]), encoding="utf-8") as file:
            ids = json.load(file)
        return WordPiece(Vocabulary(ids, **about["settings"]), max_seq_length)
    if about["kind"] == "tokenizer.json":
        path = os.path.join(model_dir, about["file"])
        with open(path, encoding="utf-8") as file:
            return FileTokenizer(file.read(), max_seq_length, about["pad_id"], where=path)
    return _by_paddlenlp(model_dir, max_seq_length)


def _by_paddlenlp(model_dir: str, max_seq_length: int) -> TextTokenizer:
    """Return the tokenizer of an encoder that has neither WordPiece nor tokenizer.json, if paddlenlp is installed."""
    try:
        from paddlenlp.transformers import AutoTokenizer
        from paddlenlp.transformers.ernie import tokenizer
    except ImportError:
        raise UserError(f"{model_dir}: its tokenizer is no WordPiece and needs paddlenlp, "
                        "which is not installed") from None
    tokenizer.pickle = plain_pickle  # one tokenizer's dictionary is a pickle
    return PaddlenlpTokenizer(AutoTokenizer.from_pretrained(os.path.abspath(model_dir)), max_seq_length)


def fingerprint_of(model_dir: str, engine: str, truncate_dim: int = 0) -> str:
    """Return what tells the vectors of an export, an engine and a width from others."""
    width = f" first {truncate_dim}" * bool(truncate_dim)
    return exported_fingerprint(model_dir) + " int8" * (engine == "int8") + width


class Predictor(TextEncoder):
    """Callable from texts to their vectors, by an exported directory; see TextEncoder.

    Unit vectors, unless the encoder was trained for dot products (similarity dot); threads may share it.
    engine: paddle or onnx; precision int8 is onnx. threads: of a CPU. max_seq_length: None is the directory's own.
    truncate_dim: numbers of each vector to keep, the first ones, as a unit vector; 0: all that the directory gives.
    Raises UserError for a directory that is not whole or was changed.
    """

    def __init__(self, model_dir: str, device: str = "cpu", engine: str = "paddle", precision: str = "fp32",
                 threads: int = 1, max_seq_length: int | None = None, batch_size: int | None = None,
                 trust_files: bool = False, truncate_dim: int = 0) -> None:
        content = read_manifest(model_dir, trust_files)
        longest = content["max_position_embeddings"]
        self.max_seq_length = max_seq_length or content["max_seq_length"]
        if self.max_seq_length > longest:
            raise UserError(f"--max_seq_length {self.max_seq_length}: the encoder reads at most {longest} tokens")
        self.threshold: float | None = content.get("threshold")
        similarity = similarity_of(model_dir, content)
        kept = choose(truncate_dim, content["dimension"], content.get("matryoshka_dims", []), similarity,
                      content.get("principal_axes", False))
        self.truncate_dim = kept
        tokenizer = load_tokenizer(model_dir, content, self.max_seq_length)
        prompts = Prompts(**content.get("prompts", {}))
        prompts.check_room(tokenizer)
        if precision == "int8" or engine == "onnx":
            if device == "gpu":
                raise UserError("--device gpu: ONNX graphs run on a CPU here; leave --device out")
            if precision not in ("fp32", "int8"):
                raise UserError(f"--precision {precision}: an ONNX graph here is fp32 or int8")
            run = onnx_engine(model_dir, INT8 if precision == "int8" else ONNX, threads)
        else:
            run = paddle_engine(model_dir, device, precision, threads)
        super().__init__((lambda ids: truncate(run(ids), kept)) if kept else run, tokenizer,
                         kept or content["dimension"], batch_size, similarity=similarity,
                         prompts=prompts)
