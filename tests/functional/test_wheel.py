"""The wheel: contents, dependencies, and a command that runs from it."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("chalicelib", "sluice")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = {"matplotlib": "report"}


def normalized(name: str) -> str:
    """Returns a distribution's name without version, extras and spelling variants."""
    return re.split(r"[\s\[<>=!~;]", name)[0].lower().replace("_", "-")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "app.py"):
        shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(source / "dist"),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site-packages")
    ZipFile(wheel).extractall(directory)
    return directory


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel: Path) -> None:
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names == files


def test_the_wheel_contains_the_license(wheel: Path) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in ZipFile(wheel).namelist())


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["demo", "--speed", "max"], ["setup", "--help"]],
    ids=lambda arguments: arguments[0],
)
def test_the_command_runs_from_the_wheel(installed: Path, tmp_path: Path, arguments: list[str]) -> None:
    program = f"import sys; sys.path.insert(0, {str(installed)!r}); from sluice.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *arguments], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_deployment_without_a_checkout_is_refused(installed: Path, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "from pathlib import Path\n"
        "from sluice.deploy.resources.chalice_config import Project\n"
        "from sluice.deploy.stage import Refusal\n"
        "try:\n    Project(Path()).config()\n"
        "except Refusal as exc:\n    print(exc)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert "checkout of Sluice" in done.stdout
    assert "--project" in done.stdout


def imported() -> set[str]:
    """Returns the top-level modules imported at run time by the two packages."""
    modules: set[str] = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text())
        typing_only = {
            child
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for child in ast.walk(node)
        }
        for node in set(ast.walk(tree)) - typing_only:
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.split(".")[0])
    return modules - sys.stdlib_module_names - set(PACKAGES)


def test_the_dependencies_are_those_that_the_packages_import() -> None:
    distributions = packages_distributions()
    needed = {normalized(distributions[module][0]) for module in imported()} - {"botocore"}
    required = {normalized(name) for name in PROJECT["dependencies"]}
    optional = {
        normalized(name) for extra in set(OPTIONAL.values()) for name in PROJECT["optional-dependencies"][extra]
    }
    assert needed == required | optional
    assert optional == set(OPTIONAL)


def test_lambda_runs_the_versions_that_are_tested() -> None:
    pins = [line.removesuffix(" \\") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    tested = {normalized(line): line.split("==")[1] for line in (ROOT / "constraints.txt").read_text().split()}
    assert {normalized(pin): pin.split("==")[1] for pin in pins}.items() <= tested.items()
