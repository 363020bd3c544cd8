"""The order of the rooms: each imports only what stands before it, and nothing heavy is imported for --help."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import zsar_cli

PACKAGE = Path(zsar_cli.__file__).parent

# From the ground up. What a room may import stands before it in this list, or in the same room.
ROOMS = (
    "_version",
    "errors",
    "settings",
    "digests",
    "plain",
    "tensors",
    "labels",
    "video",
    "records",
    "transfer",
    "weights",
    "text",
    "networks",
    "models",
    "store",
    "data",
    "engine",
    "evaluation",
    "report",
    "training",
    "scale",
    "cli",
)
BELOW_ENGINE = ROOMS[: ROOMS.index("engine")]
# The one that finds the models a user added, by a variable and the platform's own place for such things.
READS_ENVIRONMENT = ("weights/added.py",)


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything imported, also inside functions, but not what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imports(node)


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_is_in_the_list() -> None:
    rooms = {room_of(file) for file in FILES} - {"__init__", "__main__"}
    assert rooms <= set(ROOMS), "give the new room its place in ROOMS"


def test_the_rooms_are_described_in_their_order() -> None:
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `(\w+)/?` \|", page, flags=re.MULTILINE)
    assert described == [room for room in ROOMS if room != "_version"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_before_it(file: Path) -> None:
    if room_of(file) in ("__init__", "__main__"):
        return
    place = ROOMS.index(room_of(file))
    for name in imports(ast.parse(file.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] == "zsar_cli" and len(parts) > 1 and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) <= place, f"{file.name} imports {name}"


@pytest.mark.parametrize(
    "file", [file for file in FILES if room_of(file) in BELOW_ENGINE], ids=lambda file: str(file.relative_to(PACKAGE))
)
def test_lower_rooms_print_nothing_and_read_no_environment(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{file.name} prints"
        if isinstance(node, ast.Attribute) and file.relative_to(PACKAGE).as_posix() not in READS_ENVIRONMENT:
            assert ast.unparse(node) not in ("os.environ", "os.getenv"), f"{file.name} reads the environment"


def test_no_two_files_import_each_other() -> None:
    modules = {".".join(file.with_suffix("").relative_to(PACKAGE.parent).parts): file for file in FILES}
    graph = {
        name: {other for other in imports(ast.parse(file.read_text(encoding="utf-8"))) if other in modules} - {name}
        for name, file in modules.items()
        if file.name != "__init__.py"
    }
    while free := {name for name, others in graph.items() if not others & set(graph)}:
        graph = {name: others for name, others in graph.items() if name not in free}
    assert not graph, f"circles among: {', '.join(sorted(graph))}"


def test_public_names_are_there_and_listed() -> None:
    for name in zsar_cli.__all__:
        assert getattr(zsar_cli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = zsar_cli.nonsense


# One word, one thing: what a model is given is a window; "clip" belongs to training, to names of models and of numpy.
BANNED = {
    r"\bclips?\b(?!\()": (
        *("networks", "training", "models/rest.py", "cli/train.py", "weights", "models/dual.py", "models/openclip.py"),
        "cli/renamed.py",
    ),
    r"\bchunks?\b": ("networks", "training", "models/rest.py", "video/image_reader.py"),
    r"\bdef run\(": ("cli", "training"),
    "told of|speaks? for|(?<!embeddings )as they come|comes out in its place": (),
}


@pytest.mark.parametrize("pattern", BANNED)
def test_every_word_is_used_for_its_one_thing(pattern: str) -> None:
    for file in FILES:
        place = file.relative_to(PACKAGE).as_posix()
        if not place.startswith(BANNED[pattern]):
            code = re.sub(r"np\.clip|E\[clip|# clip\(", "", file.read_text(encoding="utf-8"))
            assert not re.search(pattern, code), f"{place}: {pattern}"
