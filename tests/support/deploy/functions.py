"""A checkout from which the functions can be deployed, without packaging them."""

import shutil
import zipfile
from dataclasses import replace
from typing import Any

import pytest
from chalice.deploy import deployer

from sluice.deploy.deploying import deploy
from sluice.deploy.stage import Stage
from tests.support.deploy.account import REGION, ROOT, World
from tests.support.deploy.front import run_no_functions


@pytest.fixture
def deployable(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An account and a checkout with a package that is built already, because building it takes most of the time."""
    shutil.copy(ROOT / "app.py", world.project.directory / "app.py")
    package = world.project.directory / "package.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("app.py", "")

    def pack(self: Any, config: Any, resource: Any) -> None:
        resource.filename = str(package)

    monkeypatch.setattr(deployer.DeploymentPackager, "handle_deploymentpackage", pack)
    world.account = replace(world.account, sleep=lambda _: None)
    return world


def deploy_functions(world: World, stage: Stage, *, reserve: bool = True) -> list[str]:
    """Deploys the functions and returns the reported lines. moto runs none of the functions afterwards."""
    lines: list[str] = []
    try:
        deploy(stage, world.account, world.project, reserve=reserve, report=lines.append)
    finally:
        run_no_functions(REGION)
    return lines
