"""From the flags of serve.py to the application."""

import argparse
import functools
import os
from dataclasses import replace
from typing import Any

from deploy.service.activation import Activation, Kept, Record
from deploy.service.app import create
from deploy.service.cache import Cache
from deploy.service.forwarding import Writer
from deploy.service.generation import Model
from deploy.service.guard import Limits
from deploy.service.serving import Service
from deploy.service.workers import Worker
from semindex import runtime
from semindex.encode.exported import Predictor, fingerprint_of
from semindex.errors import UserError
from semindex.faq.asking import open_faq
from semindex.search.index import IndexSettings
from semindex.search.methods import Calibration
from semindex.text.tables import read_labelled

LOCAL = ("localhost", "127.0.0.1", "::1")


def open_model(path: str, engine: str, threads: int, trust: bool, batch_size: int | None = None,
               truncate_dim: int = 0) -> Model:
    """Return the encoder of an export. engine: auto is onnx where the export has it; batch_size: None for the usual;
    truncate_dim: see Predictor."""
    if engine == "auto":
        engine = "onnx" if os.path.isfile(os.path.join(path, "model.onnx")) else "static"
    encoder = Predictor(path, "cpu", "paddle" if engine == "static" else "onnx", "int8" if engine == "int8" else "fp32",
                        threads, None, batch_size, trust, truncate_dim)
    return Model(encoder, fingerprint_of(path, engine, encoder.truncate_dim), path)


def _model_dir(args: argparse.Namespace, faq: Any) -> str:
    if faq and not args.model_dir and faq.encoder["kind"] != "export":
        raise UserError(f"{args.faq_dir}: was built with a checkpoint; the service runs an export: name it with "
                        "--model_dir, or build the FAQ with build_faq.py --model_dir")
    path = args.model_dir or (faq.encoder["path"] if faq else None)
    if not path:
        raise UserError("name the encoder with --model_dir, or a FAQ with --faq_dir")
    return os.path.abspath(path)


def _width(args: argparse.Namespace, faq: Any) -> int:
    """Return how many numbers of a vector to keep, 0 for all: what the flag says, else what the FAQ was built with."""
    return int(faq.encoder.get("truncate_dim", 0) if faq and args.truncate_dim is None else args.truncate_dim or 0)


def _live(args: argparse.Namespace, model: Model, calibration: Calibration | None,
          opener: Any) -> tuple[Kept, Model, Calibration | None]:
    """Return what to start with: what was live last, unless the flags name another export than then."""
    kept = Kept.load(args.data_dir, model.fingerprint)
    if kept and kept.current.fingerprint != model.fingerprint:
        try:
            found = opener(kept.current.path)
            if found.fingerprint == kept.current.fingerprint:
                return kept, found, kept.current.load()
            runtime.warn(f"{kept.current.path}: is another export than the one that was live; {model.path} is taken")
        except UserError as error:
            runtime.warn(f"what was live cannot be opened ({error}); {model.path} is taken")
        kept = None
    elif kept and kept.current.calibration:  # it came back, calibrated by the service
        calibration = kept.current.load()
    if calibration and not kept:  # for the way back
        path = os.path.join(args.data_dir, "calibrations", f"{model.fingerprint[:16]}.json")
        calibration.save(path)
        return Kept(model.fingerprint, Record(model.path, model.fingerprint, path)), model, calibration
    return kept or Kept(model.fingerprint, Record(model.path, model.fingerprint)), model, calibration


def _hosts(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the names that the service is asked by; none for any, where it listens for other machines."""
    if args.host in LOCAL:
        return tuple(dict.fromkeys([*LOCAL, *(name.lower() for name in args.allowed_hosts)]))
    return tuple(name.lower() for name in args.allowed_hosts)


def index_settings(args: argparse.Namespace) -> IndexSettings:
    """Return how snapshots are searched: by as many threads as encode, where no flag says otherwise."""
    found = IndexSettings.from_flags(args)
    return replace(found, threads=found.threads or args.cpu_threads)


def build(args: argparse.Namespace, worker: Worker | None) -> tuple[Service, Any]:
    """Return the service and its application; UserError where something is not there or does not fit."""
    faq = calibration = None
    if args.faq_dir:
        faq, calibration, _ = open_faq(args)
    elif args.calibration:
        raise UserError("--calibration needs --faq_dir, the FAQ that it was made for")
    path = _model_dir(args, faq)
    opener = functools.partial(open_model, engine=args.engine, threads=args.cpu_threads, trust=args.trust_files,
                               batch_size=args.batch_size, truncate_dim=_width(args, faq))
    model = opener(path)
    if calibration and faq and model.fingerprint != faq.encoder["fingerprint"]:
        runtime.warn(f"the calibration was made with another encoder than {path}; it is left out")
        calibration = None
    kept, model, calibration = _live(args, model, calibration, opener)
    dev: tuple[list[str], list[str]] = read_labelled(args.dev_file, False) if args.dev_file else ([], [])
    service = Service(args.data_dir, model, calibration, args.rebuild_after, Cache(args.cache_size, args.cache_seconds),
                      args.max_waiting, args.timeout, faq.keyword.settings if faq else None,
                      worker is None or worker.number == 0, index_settings(args), args.hnsw_threads or 1)
    service.log_texts = args.log_texts
    if args.watch_models and not args.dev_file:
        raise UserError("--watch_models takes a new encoder live by itself; name a --dev_file, which tells whether it "
                        "is better")
    if args.models_dir and not os.path.isdir(args.models_dir):
        raise UserError(f"--models_dir {args.models_dir}: no such directory")
    models = args.models_dir or os.path.dirname(path)
    activation = Activation(service, kept, opener, models, dev, args.precision)
    limits = Limits(args.timeout, args.max_body, args.read_key, args.write_key, tuple(args.cors_origins),
                    _hosts(args))
    writer = Writer(worker.writer) if worker and worker.number else None
    return service, create(service, faq.entries if faq else (), limits, args.grace, activation, args.watch_models,
                           writer)
