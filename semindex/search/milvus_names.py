"""What the collections of an index in Milvus are called, and which of them an alias stands for."""

import hashlib
import json
import os
import secrets
import socket
from collections.abc import Sequence

import numpy as np

from semindex.errors import UserError
from semindex.search.milvus_client import Connection
from semindex.search.milvus_collection import Collection


def version_name(alias: str, *about: object) -> str:
    """Return the name of the collection behind an alias, of the encoder and build that `about` tells."""
    return f"{alias}_v{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}"


def temporary_name(connection: Connection, alias: str) -> str:
    """Return the name of a collection that goes with this process; those that killed ones left here are dropped."""
    prefix = f"{alias}_tmp_{hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]}_"
    for name in connection.call("list_collections"):
        process = name.removeprefix(prefix).split("_")[0]
        if name.startswith(prefix) and process.isdigit() and not os.path.exists(f"/proc/{process}"):
            connection.call("drop_collection", name)
    return f"{prefix}{os.getpid()}_{secrets.token_hex(8)}"


def publish(collection: Collection, alias: str) -> None:
    """Have an alias stand for a complete collection; of those it stood for before, the last one is kept.

    Raises UserError where a collection that is no version of ours has the alias's name.
    """
    connection = collection.connection
    names = connection.call("list_collections")
    if alias in names:
        raise UserError(f"--milvus_collection {alias}: {connection} has a collection of this name that is not ours; "
                        "name another one")
    before = target_of(connection, alias, names)
    if before is None:
        collection.call("create_alias", alias)
    elif before != collection.name:
        collection.call("alter_alias", alias)
    kept = {collection.name, before}
    others = sorted(name for name in names if is_version(name, alias) and name not in kept)
    if before == collection.name and others:  # nothing came anew: one step back is still there
        others = others[:-1]
    for name in others:
        connection.call("drop_collection", name)


def check_owner(collection: Collection, alias: str, keys: np.ndarray) -> None:
    """Raise UserError where an alias stands for the texts of another corpus, which publish would put aside."""
    names = collection.connection.call("list_collections")
    before = target_of(collection.connection, alias, names)
    if before is not None and before != collection.name:  # else converge sees to it
        other = Collection(collection.connection, before, collection.dimension)
        other.load()
        other.check_corpus(other.sample(), keys)


def unpublish(collection: Collection, alias: str) -> None:
    """Remove a collection, and the alias where it stands for it."""
    names = collection.connection.call("list_collections")
    if target_of(collection.connection, alias, names) == collection.name:
        collection.connection.call("drop_alias", alias)
    if collection.name in names:
        collection.drop()


def is_version(name: str, alias: str) -> bool:
    """Tell whether a collection is one that an alias stands or stood for."""
    rest = name.removeprefix(f"{alias}_v")
    return rest != name and len(rest) == 16 and set(rest) <= set("0123456789abcdef")


def target_of(connection: Connection, alias: str, names: Sequence[str]) -> str | None:
    """Return the collection that an alias stands for, None where there is none."""
    for name in names:
        if is_version(name, alias) and alias in connection.call("list_aliases", name)["aliases"]:
            return name
    return None
