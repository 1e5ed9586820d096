"""Imports run one way, and the core has no clock, no environment and no I/O."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.statements import statements_of

ROOT = Path(__file__).parent.parent
LAYERS = (
    ("chalicelib.core",),
    ("chalicelib.config", "chalicelib.reports"),
    ("chalicelib.ports",),
    ("chalicelib.pipeline",),
    ("chalicelib.admin", "chalicelib.edges"),
    ("chalicelib.bootstrap",),
    ("chalicelib.api",),
    ("chalicelib.handlers",),
    ("sluice.logs",),
    ("sluice.replay",),
    ("sluice.analysis",),
    ("sluice.api_client", "sluice.deploy", "sluice.local", "sluice.owners", "sluice.undo"),
    ("sluice.demo", "sluice.migration"),
    ("sluice.commands",),
    ("sluice.cli",),
    ("sluice.__main__",),
)
"""Rooms from bottom to top. A room imports from the layers below its own, never from its neighbours."""

WORLDLY = {"os", "time", "socket.socket", "boto3", "botocore", "random", "threading", "subprocess"}


def modules(folder: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in statements_of(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def room(name: str) -> str:
    """Returns the room of a module or of a name imported from it; for the package itself, the package."""
    return ".".join(name.split(".")[:2])


FLOORS = {name: number for number, layer in enumerate(LAYERS) for name in layer}
RUNTIME = list(modules("chalicelib"))
MODULES = [*RUNTIME, *modules("sluice")]


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[module for module, _ in MODULES])
def test_imports_run_one_way(module: str, path: Path) -> None:
    here = room(module)
    assert here in FLOORS or here in ("chalicelib", "sluice"), f"{here} stands in no layer"
    imported = {room(name) for name in imports(path)} & set(FLOORS)
    assert not {name for name in imported if name != here and FLOORS[name] >= FLOORS.get(here, 0)}


@pytest.mark.parametrize(("module", "path"), RUNTIME, ids=[module for module, _ in RUNTIME])
def test_the_deployed_code_imports_nothing_from_the_command(module: str, path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] in {"sluice", "bench", "tests", "click", "rich"}}


CORE = [(module, path) for module, path in RUNTIME if module.startswith("chalicelib.core")]


@pytest.mark.parametrize(("module", "path"), CORE, ids=[module for module, _ in CORE])
def test_the_core_has_no_clock_no_environment_and_no_io(module: str, path: Path) -> None:
    assert not {name for name in imports(path) if name in WORLDLY or name.split(".")[0] in WORLDLY}
    called = [node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert not {each.id for each in called if isinstance(each, ast.Name)} & {"open", "print", "input"}
    # The module ``datetime`` is allowed for its types; ruff forbids what depends on the local time zone.
    assert not {each.attr for each in called if isinstance(each, ast.Attribute)} & {"now", "today", "utcnow"}


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[module for module, _ in MODULES])
def test_text_reaches_the_terminal_through_the_one_console_that_takes_it_for_text(module: str, path: Path) -> None:
    text = path.read_text()
    assert "from_markup" not in text
    assert module == "sluice.commands.shared.output" or not re.search(r"\bConsole\(", text)


def test_no_two_public_classes_or_types_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for module, path in MODULES:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef):
                name = node.name
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
            else:
                continue
            if re.fullmatch(r"[A-Z]\w*[a-z]\w*", name):
                places.setdefault(name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


TESTS_AND_BENCH = [*modules("tests"), *modules("bench")]
IMPORT = re.compile(r"^\s*(?:from [\w.]+ import (?:\([^)]*\)|.*)|import .*)", re.MULTILINE)


@pytest.mark.parametrize(("module", "path"), TESTS_AND_BENCH, ids=[module for module, _ in TESTS_AND_BENCH])
def test_nothing_imports_a_module_of_tests(module: str, path: Path) -> None:
    assert not [text for text in IMPORT.findall(path.read_text()) if re.search(r"\btests\b.*\btest_", text, re.DOTALL)]
