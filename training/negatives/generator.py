"""The job beside a training: from its newest checkpoint to the next generation of negatives, or to vectors."""

import argparse
import json
import os
import time
from functools import partial

import numpy as np

from models import loading
from models.encoders import fast_encoder
from semindex import manifest, runtime
from semindex.collection import store
from semindex.collection.evaluation import RankingEvaluator
from semindex.directories import atomic_directory, check_replaceable
from semindex.encode.encoder import encode, vector_file
from semindex.encode.text_encoder import TextEncoder
from semindex.encode.vector_file import VectorFile
from semindex.errors import UserError
from semindex.files import named
from semindex.roles import check_kept
from semindex.search.index import IndexSettings
from semindex.text.counted import counted
from semindex.text.tokenizer import TextTokenizer
from training.checkpoints import STATE, Checkpoints
from training.guide import Guide, check, of_collection
from training.negatives.ance import identity, rules_of
from training.negatives.generations import Generation, Generations
from training.negatives.miner import Miner
from training.negatives.patience import Patience
from training.negatives.refresh import check_generations
from training.parallel import anywhere, locked

VECTOR_FILES = ("passages.npy", "queries.npy", "passage_ids.txt", "query_ids.txt")


def _older(path: str) -> set[str] | None:
    """Return the files of vectors from before manifests, see directories.Older."""
    return set(VECTOR_FILES) if set(os.listdir(path)) <= set(VECTOR_FILES) else None


def newest(args: argparse.Namespace) -> tuple[str, str, int, bool] | None:
    """Return (path, identity, step, whether the training ends with it) of the newest whole checkpoint, if any.

    Before the training has one, --init_model_dir, which step -1 tells from it.
    """
    directory = args.training_dir
    path = Checkpoints(directory).latest() if directory and os.path.isdir(directory) else None
    if path is None:
        initial = args.init_model_dir
        return (initial, identity(initial), -1, not directory) if initial else None
    try:
        with open(os.path.join(path, STATE), encoding="utf-8") as file:
            state = json.load(file)
    except OSError:  # a newer one took its place just now
        return None
    return path, identity(path), state["step"], state["step"] >= state["total_steps"]


def load(path: str, args: argparse.Namespace, texts: int) -> tuple[TextEncoder, TextTokenizer] | None:
    """Load an encoder on every rank; None where the checkpoint was removed meanwhile."""
    loaded, gone = None, False
    try:
        model, tokenizer = loading.load(path, {})
        loaded = fast_encoder(model, tokenizer, args.engine, texts, args.batch_size)[0], tokenizer
    except (UserError, OSError):
        if os.path.exists(path):
            raise
        gone = True
    return None if anywhere(gone) else loaded


def _collection_dir(args: argparse.Namespace) -> str:
    return args.data_dir or os.path.join(args.training_dir, "collection")


def watch(args: argparse.Namespace) -> None:
    """Make a generation from each newest checkpoint until the training has ended."""
    directory = _collection_dir(args)
    ann_dir = args.ann_dir or os.path.join(args.training_dir or ".", "ann")
    check(args)
    runtime.on_rank_0(lambda: check_generations(ann_dir))
    _check_initial(args)
    os.makedirs(ann_dir, exist_ok=True)
    generations, guides = Generations(ann_dir), dict[str, Guide | None]()
    waiting, patience = False, Patience()
    while True:
        found = runtime.on_rank_0(lambda: newest(args))
        ready = runtime.on_rank_0(lambda: os.path.isfile(os.path.join(directory, store.MARKER)))
        if not (found and ready):
            if found and (not args.training_dir or args.end_output_num is not None):
                raise UserError(f"{directory}: holds no tokenised collection; prepare_collection.py makes one")
            if not waiting:
                runtime.say(f"waiting for {' and '.join(_parts(bool(found), ready, args)[1])}")
            waiting = True
            patience.look(partial(_seen, bool(found), ready, ann_dir, args))
            time.sleep(args.poll_seconds)
            continue
        path, weights, step, last = found
        before = runtime.on_rank_0(generations.newest)
        # Where the training has made a first one by itself, it wants no other before its first checkpoint.
        done = before is not None and (before.weights == weights or step < 0 and bool(args.training_dir)
                                       and args.end_output_num is None)
        number = before.number if done else before.number + 1 if before else 0
        if step < 0 and args.training_dir and before and not done:  # of an earlier checkpoint that it started from
            runtime.on_rank_0(generations.clear)
            number = 0
        if not done:
            if not _make(path, weights, step, number, directory, generations, guides, args):
                continue
            patience.restart()
        if last or args.end_ann_step and step >= args.end_ann_step or (
                args.end_output_num is not None and number >= args.end_output_num):
            return
        patience.look(partial("seen: {}, which has its negatives; not seen: a newer one, nor the training's end".format,
                              path))
        time.sleep(args.poll_seconds)


def _check_initial(args: argparse.Namespace) -> None:
    """Raise UserError where --init_model_dir is no checkpoint, or has a name that no generation can keep."""
    if args.init_model_dir:
        loading.locate(args.init_model_dir)
        check_kept(args.init_model_dir, "--init_model_dir")


def _parts(found: bool, ready: bool, args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return what there is of the two things that a generation is made from, and what is lacking."""
    seen: list[str] = []
    lacking: list[str] = []
    for there, what, where in ((found, "a checkpoint", args.training_dir or args.init_model_dir),
                               (ready, "a tokenised collection", _collection_dir(args))):
        (seen if there else lacking).append(f"{what} in {where}" + " (no such directory)" * (not os.path.exists(where)))
    return seen, lacking


def _seen(found: bool, ready: bool, ann_dir: str, args: argparse.Namespace) -> str:
    seen, lacking = _parts(found, ready, args)
    return (f"seen: {' and '.join(seen) or 'nothing'}; not seen: {' and '.join(lacking)}; --training_dir is to be the "
            f"--save_dir of train_ance.py --refresh async, --data_dir and --ann_dir (here {ann_dir}) the same for both")


def _make(path: str, weights: str, step: int, number: int, directory: str, generations: Generations,
          guides: dict[str, Guide | None], args: argparse.Namespace) -> bool:
    collection = store.load(directory)
    loaded = load(path, args, collection.about.passages)
    if loaded is None:
        return False
    encoder, tokenizer = loaded
    collection.check_tokenizer(tokenizer, encoder.prompts, path)
    runtime.say(f"generation {number} from {path}")
    index = IndexSettings.from_flags(args)
    dev = RankingEvaluator(collection, index) if len(collection.judged(training=False)) else None
    generation = Generation(number, max(step, 0), "ann" if step >= 0 else "init", collection.about.key, weights)
    if collection.about.key not in guides:  # it reads a collection once, for all generations
        guides[collection.about.key] = of_collection(args, collection, everywhere=False)
    miner = Miner(collection, rules_of(args), index, args.connected_positives, guides[collection.about.key])
    # On the disk: memory need not hold them, and a killed job goes on with them if the checkpoint is still the newest.
    files: list[VectorFile] = []
    files_place = os.path.join(generations.directory, "passages")

    def file_of(rows: slice) -> VectorFile:
        files.append(vector_file(f"{files_place}_{runtime.rank()}", encoder,
                                 range(rows.start, rows.stop),
                                 f"{weights} {collection.about.key} {args.engine} {rows}"))
        return files[0]

    with named(generations.directory), locked(files_place, "--ann_dir"):
        out = miner.publish(encoder, generation, generations, dev=dev, file=file_of)
    files[0].remove()
    runtime.say(f"published {out}: " + ", ".join(f"{name} {value} s" for name, value in generation.seconds.items()))
    return True


def write_vectors(args: argparse.Namespace) -> None:
    """Write passages.npy and queries.npy, float32 [n, dimension], and passage_ids.txt and query_ids.txt beside them.

    Raises UserError where the directory holds something else.
    """
    check_replaceable(args.output_dir, "--output_dir", "vectors", _older)
    _check_initial(args)
    collection = store.load(_collection_dir(args))
    found = runtime.on_rank_0(lambda: newest(args))
    loaded = load(found[0], args, collection.about.passages) if found else None
    if loaded is None:
        raise UserError(f"--training_dir {args.training_dir}: holds no checkpoint")
    collection.check_tokenizer(loaded[1], loaded[0].prompts, found[0])
    runtime.say(f"Loaded parameters from {found[0]}")
    # A killed run goes on: the vectors grow beside the directory, which takes its name when all is there.
    file = vector_file(args.output_dir, loaded[0], collection.passages,
                       f"{found[1]} {collection.about.key} {args.engine}")

    def write() -> None:
        with atomic_directory(args.output_dir, "vectors", _older) as partial:
            np.save(os.path.join(partial, "passages.npy"), passages)
            np.save(os.path.join(partial, "queries.npy"), queries)
            with open(os.path.join(partial, "query_ids.txt"), "w", encoding="utf-8") as out:
                out.writelines(f"{name}\n" for name in collection.query_ids)
            names = list(collection.document_ids) if collection.about.chunks == 1 else None
            with open(os.path.join(partial, "passage_ids.txt"), "w", encoding="utf-8") as out:
                for row, owner in enumerate(collection.owner.tolist()):
                    name = names[owner] if names else collection.document_ids[owner]
                    chunk = row - int(collection.first_passage[owner])
                    out.write(f"{name}\t{chunk}\n" if collection.about.chunks > 1 else f"{name}\n")
            manifest.write(partial, "vectors")
        file.remove()
        runtime.say(f"{args.output_dir}: {counted(len(passages), 'passage')}, "
                    f"{counted(len(queries), 'query', 'queries')}, {passages.shape[1]} wide")

    with locked(args.output_dir, "--output_dir"):
        with named(args.output_dir):
            passages = encode(loaded[0], collection.passages, "encode passages", file)
        queries = encode(loaded[0], collection.query_tokens(np.arange(collection.about.queries)), "encode queries")
        runtime.on_rank_0(write)
