"""What import_weights.py does: an encoder of any source, made smaller if asked, to a checkpoint."""

import argparse
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from models import loading, weights
from models.encoders import dynamic
from models.model_card import RECORDS
from models.settings import SETTINGS
from models.static_encoder import StaticModel
from models.weights import Pretrained, principal, reduce, scratch
from semindex import manifest, roles, runtime
from semindex.directories import atomic_directory, check_replaceable
from semindex.errors import UserError
from semindex.text.counted import counted
from semindex.text.tables import open_binary, read_rows
from semindex.text.tokenizer_file import FileTokenizer

PCA_TEXTS = 10_000  # are enough for the axes of a few hundred numbers


def texts_of(files: list[str], skip_bad_lines: bool) -> Iterator[str]:
    """Yield the texts of some files: a line's parts between tabs."""
    for path in files:
        for _, fields in read_rows(path, range(1, 100), skip_bad_lines, what="texts", may_lack=True):
            yield from fields


def _check_texts(args: argparse.Namespace) -> None:
    """Read the files of texts once: what is wrong with one is told before the encoder is loaded."""
    for flag in ("vocabulary_texts", "pca_texts"):
        files = getattr(args, flag) or []
        for path in files:
            if path == "-":
                raise UserError(f"--{flag} -: the texts are read twice, so they must be files")
            open_binary(path).close()
        for _ in texts_of(files, args.skip_bad_lines):
            pass


def _of_checkpoint(path: str, args: argparse.Namespace) -> tuple[str, Pretrained]:
    """Return the encoder of a checkpoint of this project, and where its weights came from.

    Raises UserError for one that cannot be cut or turned, and for flags that contradict it.
    """
    given = vars(args) | {"model_name_or_path": None}
    model, tokenizer = loading.load(path, given | ({"output_emb_size": None} if args.pca_texts else {}))
    if model.norm is not None or isinstance(model.ptm, StaticModel):
        kind = "a static encoder" if model.norm is None else "for inner products"
        raise UserError(f"--model_name_or_path {path}: is {kind}, which stays as it is; use it with --params_path")
    settings = asdict(model.settings)
    if args.layers or args.vocabulary_texts or args.output_emb_size:
        settings["threshold"] = None  # other cosines than those that it was found with
    layer = model.emb_reduce_linear
    state = {key: value.numpy() for key, value in layer.state_dict().items()} if layer else {}
    source = settings.pop("encoder")
    return source, Pretrained(model.ptm, tokenizer.with_length, settings, state)


def _turn(name: str, found: Pretrained, args: argparse.Namespace) -> None:
    """Turn the vectors to the principal axes of --pca_texts; see principal.turn."""
    if not found.projection:
        found.settings["output_emb_size"] = 0  # the axes come in place of a layer from random numbers
    whole, tokenizer = loading.assemble(name, found, vars(args) | {"output_emb_size": None})
    if whole.activation is not None:
        raise UserError(f"--pca_texts: behind the linear layer of {name} stands {whole.settings.projection_activation},"
                        " and vectors cannot be turned through it; leave the flag out")
    if whole.settings.truncate_dim and not found.projection:  # the cut becomes a layer, which can be turned
        found.projection = {"weight": np.eye(whole.width, whole.dimension, dtype=np.float32)}
    texts = list(dict.fromkeys(texts_of(args.pca_texts, args.skip_bad_lines)))
    some = [texts[place] for place in np.linspace(0, len(texts) - 1, min(len(texts), PCA_TEXTS)).astype(int)]
    whole.eval()
    vectors = dynamic(whole, tokenizer).side("passage")(some)
    shares = principal.turn(found, vectors, args.output_emb_size or whole.dimension)
    if len(some) < whole.dimension:
        runtime.warn(f"--pca_texts: {counted(len(some), 'different text')} say little of {whole.dimension} numbers; "
                     "give some thousands, a corpus for example")
    widths = ", ".join(f"{share:.0%} in the first {1 + int(np.searchsorted(shares, share))}"
                       for share in (0.9, 0.95, 0.99))
    runtime.say(f"turned to the principal axes of {counted(len(some), 'text')}: of the vectors' squared length "
                f"{widths} of {whole.dimension} numbers")


def import_weights(args: argparse.Namespace) -> None:
    """Write the checkpoint; UserError where the source cannot be loaded, cut or turned."""
    _check_texts(args)
    name = args.model_name_or_path
    if scratch.claims(name):
        raise UserError(f"--model_name_or_path {name}: there is nothing to import, training makes it with the "
                        "vocabulary of its texts: give it to a training script")
    if os.path.isdir(name):
        roles.check_kept(name, "--model_name_or_path")
        name = os.path.normpath(name)
    check_replaceable(args.output_path, "--output_path", "checkpoint", loading.older_files)
    checkpoint = name if os.path.isfile(os.path.join(name, SETTINGS)) else None
    name, found = _of_checkpoint(name, args) if checkpoint else (name, weights.load(name, None))
    runtime.say(f"Loaded {checkpoint or name}")  # where nothing can be said, nothing is written
    if args.layers:
        chosen = reduce.keep_layers(found, args.layers)
        runtime.say(f"layers {', '.join(str(place + 1) for place in chosen)} kept")
    if args.vocabulary_texts:
        whole = found.make_tokenizer(8192)
        # What may stand before a text: the source's prompts, and those that the flags give it in their place.
        prompts = [prompt for side in ("query_prompt", "passage_prompt")
                   for prompt in (found.settings.get(side), getattr(args, side)) if prompt]
        before, after, count = reduce.keep_vocabulary(found, texts_of(args.vocabulary_texts, args.skip_bad_lines),
                                                       prompts)
        small = found.make_tokenizer(8192)
        assert isinstance(whole, FileTokenizer) and isinstance(small, FileTokenizer)
        other = reduce.cut_differently(whole, small, texts_of(args.vocabulary_texts, args.skip_bad_lines))
        runtime.say(f"{after} of {before} pieces kept; {other} of {counted(count, 'text')} "
                    f"({100 * other / max(count, 1):.2f} %) cut differently than before")
    if args.pca_texts:
        _turn(name, found, args)
    # What was kept of the vectors is settled by now.
    model, tokenizer = loading.assemble(name, found, vars(args) | ({"output_emb_size": None} if args.pca_texts else {}))
    model.eval()
    with atomic_directory(args.output_path, "checkpoint", loading.older_files) as partial:
        loading.save(model, tokenizer, partial)
        for record in RECORDS[:1] if checkpoint else ():
            if os.path.isfile(os.path.join(checkpoint or "", record)):
                shutil.copy(os.path.join(checkpoint or "", record), partial)
        manifest.write(partial, "checkpoint")
    size = sum(parameter.size for parameter in model.parameters())
    runtime.say(f"{args.output_path}: {size / 1e6:.1f} million parameters, {model.dimension} wide, at most "
                f"{model.settings.max_seq_length} tokens a text")
