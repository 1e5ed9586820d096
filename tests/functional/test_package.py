"""The deployment package: what is in it, how large it is, and that it is the same each time."""

from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.deploy.packaging import chalice, clone

MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same package, made in two checkouts."""
    made = []
    for name in ("one", "two"):
        project = clone(tmp_path_factory.mktemp(name))
        chalice(project, "package", "out")
        made.append(project / "out" / "deployment.zip")
    return made


def test_it_is_small_enough(packages: list[Path]) -> None:
    assert packages[0].stat().st_size <= MOST_BYTES


def test_it_is_the_same_each_time(packages: list[Path]) -> None:
    one, two = (package.read_bytes() for package in packages)
    assert one == two


def test_it_holds_what_runs_and_nothing_else(packages: list[Path]) -> None:
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
