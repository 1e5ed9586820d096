"""Imports point one way, and the core knows no world."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("chalicelib.core", "chalicelib", "chalicelib.edges", "chalicelib.bootstrap", "chalicelib.handlers", "app")
"""Each may import itself and what stands before it; the second stands for the use cases and their ports."""

COMPOSED = ("chalicelib.api", "chalicelib.handlers", "chalicelib.bootstrap")
"""Modules above the edges: they get everything from bootstrap, or are it."""

WORLDLY = {"os", "time", "socket.socket", "boto3", "botocore", "random", "datetime", "threading", "subprocess"}


def modules(folder: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def layer(module: str) -> int:
    for name in COMPOSED:
        if module.startswith(name):
            return LAYERS.index("chalicelib.bootstrap")
    if module.startswith("chalicelib.core"):
        return 0
    if module.startswith("chalicelib.edges"):
        return 2
    return 1


RUNTIME = list(modules("chalicelib"))


@pytest.mark.parametrize(("module", "path"), RUNTIME, ids=[module for module, _ in RUNTIME])
def test_imports_point_one_way(module: str, path: Path) -> None:
    upward = {name for name in imports(path) if name.startswith("chalicelib.") and layer(name) > layer(module)}
    # tailing.py holds the table's retention, which the edge reads; nothing below reads an edge.
    assert not upward


@pytest.mark.parametrize(("module", "path"), RUNTIME, ids=[module for module, _ in RUNTIME])
def test_what_is_deployed_knows_nothing_of_the_desk(module: str, path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] in {"sluice", "bench", "tests", "click", "rich"}}


CORE = [(module, path) for module, path in RUNTIME if module.startswith("chalicelib.core")]


@pytest.mark.parametrize(("module", "path"), CORE, ids=[module for module, _ in CORE])
def test_the_core_has_no_clock_no_environment_and_no_io(module: str, path: Path) -> None:
    assert not {name for name in imports(path) if name in WORLDLY or name.split(".")[0] in WORLDLY}
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input"}
