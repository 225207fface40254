"""paddlenlp without what its package imports by itself: data sets, trainers, prompts, servers, a task flow.

Encoders and tokenizers need none of these 1,700 modules. A start takes half the CPU time without them
(docs/performance.md). What is left out is still there for who names it: `paddlenlp.datasets` is imported when it
is asked for. SEMINDEX_PADDLENLP=full turns this off.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

NAME = "paddlenlp"


class _Loader(importlib.abc.Loader):
    """Executes, in place of the package's own __init__.py, what encoders need of it."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Take the usual module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module."""
        import paddle

        module.__version__ = importlib.metadata.version(NAME)  # type: ignore[attr-defined]
        module.__getattr__ = _lacking  # type: ignore[method-assign]
        importlib.import_module(f"{NAME}.data")  # first, as there: data and transformers import one another
        paddle.disable_signal_handler()  # as there


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        """Return the package's spec with the loader above, None for every other module."""
        if name != NAME:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.submodule_search_locations:
            spec.loader = _Loader()
        return spec


def _lacking(name: str) -> Any:
    """Return a part of the package that nobody has imported yet."""
    if name.startswith("__"):
        raise AttributeError(name)
    for module in (f"{NAME}.{name}", f"{NAME}.taskflow", f"{NAME}.server"):
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            continue
        if module.endswith(f".{name}"):
            return found
        if hasattr(found, name):
            return getattr(found, name)
    raise AttributeError(f"module '{NAME}' has no attribute '{name}'")


def install() -> None:
    """Have later imports of paddlenlp be lean, unless it is imported already or the variable says otherwise."""
    ours = any(type(finder).__name__ == _Finder.__name__ for finder in sys.meta_path)
    if NAME not in sys.modules and not ours and os.environ.get("SEMINDEX_PADDLENLP") != "full":
        sys.meta_path.insert(0, _Finder())
