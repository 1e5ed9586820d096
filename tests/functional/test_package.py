"""The deployment package: its content, its size, and its reproducibility."""

import shutil
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.deploy.packaging import WHEELS, chalice, clone

MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The package, built in two checkouts."""
    built = []
    for name in ("one", "two"):
        project = clone(tmp_path_factory.mktemp(name))
        chalice(project, "package", "out")
        built.append(project / "out" / "deployment.zip")
    return built


def test_the_package_is_small_enough(packages: list[Path]) -> None:
    assert packages[0].stat().st_size <= MOST_BYTES


def test_two_builds_give_the_same_bytes(packages: list[Path]) -> None:
    one, two = (package.read_bytes() for package in packages)
    assert one == two


def test_the_package_holds_only_code_that_runs(packages: list[Path]) -> None:
    names = ZipFile(packages[0]).namelist()
    tops = {name.split("/")[0] for name in names if not name.split("/")[0].endswith((".dist-info", ".data"))}
    assert tops == {
        "app.py",
        "aws_lambda_powertools",
        "chalice",
        "chalicelib",
        "jmespath",
        "msgspec",
        "typing_extensions.py",
    }
    assert {name for name in names if "test" in name.lower().split("/")[-1].split("_")} == set()
    assert {name for name in names if name.endswith((".pyc", ".toml", ".md"))} == {"chalicelib/rules.toml"}


def test_compiled_modules_are_for_arm64_and_the_deployed_python(packages: list[Path]) -> None:
    libraries = [name for name in ZipFile(packages[0]).namelist() if name.endswith(".so")]
    tag = "cpython-{}{}-aarch64-linux-gnu".format(*sys.version_info)
    assert libraries
    assert [name for name in libraries if tag not in name] == []


@pytest.mark.skipif(not WHEELS.exists(), reason="'make dev' downloads the wheels")
def test_a_dependency_whose_file_is_another_is_not_packed(tmp_path: Path) -> None:
    """As when an index is compromised: the version is that of requirements.txt, its contents are not."""
    project = clone(tmp_path)
    wheels = tmp_path / "wheels"
    shutil.copytree(WHEELS, wheels)
    (jmespath,) = wheels.glob("jmespath-*.whl")
    with ZipFile(jmespath, "a") as archive:
        archive.writestr("jmespath/planted.py", "")
    with pytest.raises(AssertionError, match="DO NOT MATCH THE HASHES"):
        chalice(project, "package", "out", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
