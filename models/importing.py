"""What import_weights.py does: an encoder of any source, made smaller if asked, to a checkpoint."""

import argparse
import os
from collections.abc import Iterator

from models import loading, weights
from models.weights import reduce, scratch
from semindex import manifest, roles, runtime
from semindex.directories import atomic_directory, check_replaceable
from semindex.errors import UserError
from semindex.text.counted import counted
from semindex.text.tables import open_binary, read_rows
from semindex.text.tokenizer_file import FileTokenizer


def texts_of(files: list[str], skip_bad_lines: bool) -> Iterator[str]:
    """Yield the texts of some files: a line's parts between tabs."""
    for path in files:
        for _, fields in read_rows(path, range(1, 100), skip_bad_lines, what="texts", may_lack=True):
            yield from fields


def import_weights(args: argparse.Namespace) -> None:
    """Write the checkpoint; UserError where the source cannot be loaded or cut."""
    for path in args.vocabulary_texts or ():
        if path == "-":
            raise UserError("--vocabulary_texts -: the texts are read twice, so they must be files")
        open_binary(path).close()  # one that is not there is told at once
    for _ in texts_of(args.vocabulary_texts or [], args.skip_bad_lines):
        pass  # what is wrong with a line too: loading takes longer
    name = args.model_name_or_path
    if scratch.claims(name):
        raise UserError(f"--model_name_or_path {name}: there is nothing to import, training makes it with the "
                        "vocabulary of its texts: give it to a training script")
    if os.path.isdir(name):
        roles.check_kept(name, "--model_name_or_path")
        name = os.path.normpath(name)
    check_replaceable(args.output_path, "--output_path", "checkpoint", loading.older_files)
    found = weights.load(name, None)
    runtime.say(f"Loaded {name}")  # where nothing can be said, nothing is written
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
    model, tokenizer = loading.assemble(name, found, vars(args))
    model.eval()
    with atomic_directory(args.output_path, "checkpoint", loading.older_files) as partial:
        loading.save(model, tokenizer, partial)
        manifest.write(partial, "checkpoint")
    size = sum(parameter.size for parameter in model.parameters())
    runtime.say(f"{args.output_path}: {size / 1e6:.1f} million parameters, {model.dimension} wide, at most "
                f"{model.settings.max_seq_length} tokens a text")
