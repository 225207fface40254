"""The house: which room may import which. The arrows are those of CONTRIBUTING.md."""

import ast

import pytest
from conftest import ROOT

# Lower rooms first; a room imports lower ones and its own. Rooms of one line do not import each other.
FLOORS = [
    ["semindex.errors"],
    ["semindex.locks", "semindex.peers", "semindex.registry", "semindex.roles"],
    ["semindex.cli", "semindex.fields", "semindex.files", "semindex.environment"],
    ["semindex.manifest", "semindex.milvus_flags"],
    ["semindex.directories"],
    ["semindex.flags", "semindex.collection_flags", "semindex.document_flags", "semindex.runtime", "semindex.pictures"],
    ["semindex.search_flags"],
    ["semindex.text"],
    ["semindex.encode"],
    ["semindex.search"],
    ["semindex.measure"],
    ["semindex.collection", "semindex.faq"],
    ["data", "ann_util"],
    ["models"],
    ["training"],
    ["scripts"],
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
OURS = {"semindex", "models", "training", "data", "ann_util", "deploy"}
# Beside the floors: what a room must not import at all.
NEVER = {"semindex": {"paddlenlp"}, "models.heads": {"data"}, "deploy": {"models", "training", "data", "ann_util", "paddlenlp"}}
# semindex asks for paddlenlp in one place, for encoders whose tokenizer has no other form, and says so where it is absent.
SAID = {("semindex.encode.exported", "paddlenlp")}


def room_of(module):
    parts = module.split(".")
    if parts[0] == "semindex" and len(parts) > 1:
        return ".".join(parts[:2])
    return parts[0] if parts[0] in LEVEL else "deploy" if parts[0] == "deploy" else "scripts"


def modules():
    for path in sorted([*ROOT.glob("*.py"), *(p for folder in ("semindex", "models", "training", "deploy") for p in
                                              ROOT.glob(f"{folder}/**/*.py"))]):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                assert name.asname is None or name.asname in ("np", "F", "plt") or name.name.split(".")[0] not in OURS, (
                    f"{path}: a module keeps its name")
                yield name.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports say where from"
            yield node.module
            for name in node.names:
                yield f"{node.module}.{name.name}"


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: str(value) if isinstance(value, str) else "")
def test_imports_go_down(module, path):
    room = room_of(module)
    for name in imports(path):
        for where, never in NEVER.items():
            if module.startswith(where) and (module, name.split(".")[0]) not in SAID:
                assert name.split(".")[0] not in never, f"{module} imports {name}"
        if name.split(".")[0] not in OURS or name == "semindex":
            continue
        other = room_of(name)
        assert room == "deploy" or other == room or LEVEL[other] < LEVEL[room], f"{module} imports {name}, which is above or beside it"


def test_no_file_is_long():
    for module, path in modules():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= (89 if "." not in module and module not in ("data", "ann_util") else 300), f"{path}: {lines} lines"
    for path in (*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path
