"""manifest.json: what a directory of this project holds, with checksums. Written last, checked before all else.

One manifest for checkpoints, exports, indexes, collections and generations. Directories from before it have none, or
one of their own; they are read with a warning where nothing can be checked.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from semindex import cli
from semindex.errors import UserError
from semindex.fields import check_fields, object_of, paths_below, text, whole

NAME, FORMAT = "manifest.json", 2
READ_BY_LOADERS = (".json", ".txt", ".pdparams", ".pdopt", ".safetensors", ".npy", ".bin", ".model")
TO_EDIT = (".md",)  # a model card: people go on writing it, no loader reads it
_FILE = object_of({"bytes": whole(0, 2**62).optional(), "sha256": text()}, others=True)
FIELDS = {"kind": text(), "files": paths_below(_FILE)}
BLOCK = 64 << 20  # bytes; of a larger file the blocks are hashed beside each other, and then their checksums


def _block(path: str, start: int, size: int) -> bytes:
    found = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while size > 0 and (part := file.read(min(size, 1 << 20))):
            found.update(part)
            size -= len(part)
    return found.digest()


def checksums(directory: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return {name: {"bytes": size, "sha256": checksum}} of files; all cores share the work. Raises OSError."""
    sizes = {name: os.path.getsize(os.path.join(directory, name)) for name in names}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        parts = {name: [threads.submit(_block, os.path.join(directory, name), start, BLOCK)
                        for start in range(0, max(size, 1), BLOCK)] for name, size in sizes.items()}
        found = {}
        for name, size in sizes.items():
            blocks = [part.result() for part in parts[name]]
            joined = blocks[0] if len(blocks) == 1 else hashlib.sha256(b"".join(blocks)).digest()
            found[name] = {"bytes": size, "sha256": joined.hex()}
    return found


def files_below(directory: str, folders: Iterable[str] | None = None) -> set[str]:
    """Return the files of a directory and of the folders in it, `folder/file`; folders: those alone, not all."""
    found: set[str] = set()
    for place, inner, names in os.walk(directory):
        if place == directory and folders is not None:
            inner[:] = [name for name in inner if name in folders]
        found.update(os.path.relpath(os.path.join(place, name), directory) for name in names)
    return found


def top(names: Iterable[str]) -> set[str]:
    """Return what stands in the directory itself of files and `folder/file`."""
    return {name.split("/")[0] for name in names}


def _seal(content: dict[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write(directory: str, kind: str, about: dict[str, Any] | None = None) -> None:
    """Write the manifest of a directory whose other files are all there.

    kind: checkpoint, export, sentence-transformers, index, collection or generation. about: what else it tells. Raises
    OSError.
    """
    names = sorted(name for name in files_below(directory) if name != NAME)
    _dump(directory, {"made_by": "semindex", "format": FORMAT, "kind": kind, **(about or {}),
                      "files": checksums(directory, names)})


def _dump(directory: str, content: dict[str, Any]) -> None:
    content["seal"] = _seal(content)
    with open(os.path.join(directory, NAME), "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=2)
        file.flush()
        os.fsync(file.fileno())


def join(directory: str, kind: str, about: dict[str, Any], folders: Iterable[str]) -> None:
    """Write the manifest of a directory of directories, each with a manifest of its own, which was checked just now.

    The checksums are taken from there: a large file is not read again. Raises OSError.
    """
    files: dict[str, Any] = {}
    for folder in folders:
        inner = read(os.path.join(directory, folder)) or {"files": {}}
        files |= {f"{folder}/{name}": value for name, value in inner["files"].items()}
        files |= checksums(directory, [f"{folder}/{NAME}"])
    _replace(directory, {"made_by": "semindex", "format": FORMAT, "kind": kind, **about, "files": files})


def _replace(directory: str, content: dict[str, Any]) -> None:
    from semindex.files import atomic_file

    content["seal"] = _seal(content)
    with atomic_file(os.path.join(directory, NAME)) as file:
        json.dump(content, file, ensure_ascii=False, indent=2)


def forget(directory: str, names: Iterable[str]) -> None:
    """Take files out of a manifest, so that they may be removed; nothing where there is none."""
    content = read(directory)
    if content is None:
        return
    for name in names:
        content["files"].pop(name, None)
    _replace(directory, content)


def read(directory: str) -> dict[str, Any] | None:
    """Return the manifest of a directory, None where there is none of ours; UserError where it was altered."""
    path = os.path.join(directory, NAME)
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise UserError(f"{directory}: is a file, a directory was expected") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}), or not of this project; name another directory, or see to it "
                        "yourself") from None
    if not isinstance(content, dict):
        return None
    version = content.get("format")
    if version == 1 and all(isinstance(content.get(key), dict) for key in ("files", "tokenizer")):
        return content | {"kind": "export"}  # of an export from before: no seal
    if sum(key in content for key in ("made_by", "kind", "seal")) < 2:  # somebody else's: one altered byte spares two
        return None
    if content.get("seal") != _seal(content):
        raise UserError(f"{path}: was altered (its seal does not fit); write the directory anew elsewhere")
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(f"{path}: written by a newer version of this project (format {version})")
    return check_fields(path, content, FIELDS, others=True, advice="write the directory anew elsewhere")


_believed: set[tuple[Any, ...]] = set()  # directories that this process has checked, and that have not changed since


def check(directory: str, kind: str, trust: bool = False) -> dict[str, Any] | None:
    """Return the manifest once every file is what it says; None where the directory is from before there was one.

    trust: whether to believe the files, as after --trust_files. Raises UserError for a directory of another kind, a
    file that is missing, altered, cut, or that the manifest does not know although a loader might read it.
    """
    while True:
        content = read(directory)
        if content is None:
            return None
        try:
            _check(directory, kind, content, trust or cli.trusting)
        except UserError:
            if (read(directory) or {}).get("seal") == content.get("seal"):
                raise  # else what it holds was changed meanwhile by whom it belongs to
        else:
            return content


def _check(directory: str, kind: str, content: dict[str, Any], trust: bool) -> None:
    if content["kind"] != kind:
        raise UserError(f"{directory}: is of kind {content['kind']}, expected {kind}")
    wanted = {name: value if isinstance(value, dict) else {"sha256": value} for name, value in content["files"].items()}
    for name in wanted:
        if not os.path.isfile(os.path.join(directory, name)):
            raise UserError(f"{os.path.join(directory, name)}: missing; write the {kind} anew")
    strange = sorted(name for name in files_below(directory, top(wanted)) if name not in wanted and name != NAME
                     and name.endswith(READ_BY_LOADERS))
    if strange:
        raise UserError(f"{os.path.join(directory, strange[0])}: was added to the {kind} after it was written; "
                        "remove it")
    wanted = {name: value for name, value in wanted.items() if not name.endswith(TO_EDIT)}
    stats = [os.stat(os.path.join(directory, name)) for name in wanted]
    state = (os.path.realpath(directory), content.get("seal"), *((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats))
    if trust or state in _believed:
        return
    try:
        found = checksums(directory, wanted)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
    for name, value in wanted.items():
        own = found[name]["sha256"]
        if "bytes" not in value and found[name]["bytes"] > BLOCK:  # from before: one checksum, however large
            own = _block(os.path.join(directory, name), 0, found[name]["bytes"]).hex()
        if value.get("bytes", found[name]["bytes"]) != found[name]["bytes"] or own != value.get("sha256"):
            raise UserError(f"{os.path.join(directory, name)}: changed since it was written (its checksum differs from "
                            f"{NAME}); write the {kind} anew, or pass --trust_files to believe it")
    _believed.add(state)
