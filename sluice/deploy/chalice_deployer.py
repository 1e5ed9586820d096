"""Chalice's deployer, run in this process with the account's credentials, retries and reservations.

``chalice deploy`` writes down what it created only after everything has succeeded, so that an interrupted first
deployment could neither be repeated nor removed. Here the record is made from the account before and after each run
(``chalice_record.py``), whatever the file said, and ``chalice deploy`` can continue from it.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError
from chalice.app import Chalice
from chalice.awsclient import TypedAWSClient
from chalice.config import Config
from chalice.deploy import deployer
from chalice.deploy.appgraph import ApplicationGraphBuilder, DependencyBuilder
from chalice.deploy.executor import Executor
from chalice.deploy.planner import PlanStage, RemoteState
from chalice.deploy.sweeper import ResourceSweeper
from chalice.utils import UI, OSUtils

from chalicelib.bootstrap import config as runtime_config
from sluice.deploy.account import AwsAccount, AwsError, attempting
from sluice.deploy.deployed import API_STAGE
from sluice.deploy.resources.chalice_config import ChaliceConfig, Project
from sluice.deploy.swagger import DeployedSwagger

LATE_ROLE = ("Cannot access stream", "ensure the role can perform", "does not have permissions")
"""Parts of Lambda's messages while a role or its policy is new, and not yet known everywhere."""

APP_MODULES = ("app", "chalicelib.handlers")
"""Modules that register the functions when they are imported, with the settings of that moment."""


class PatientClient(TypedAWSClient):
    """Chalice's client of AWS, which waits until a new role is known."""

    LAMBDA_CREATE_ATTEMPTS = 36
    """Attempts, five seconds apart: three minutes."""

    def _is_iam_role_related_error(self, error: ClientError) -> bool:
        message = error.response["Error"].get("Message", "")
        return any(part in message for part in LATE_ROLE) or bool(super()._is_iam_role_related_error(error))


class Messages(UI):
    """Chalice's messages about its progress, passed on line by line."""

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__()
        self._report = report

    def write(self, msg: str) -> None:
        # Chalice would continue, with functions that cannot import the package.
        if "Could not install dependencies" in msg:
            raise AwsError(f"could not package the functions: {' '.join(msg.split())}")
        self._report(msg.rstrip())


def run_chalice(
    account: AwsAccount, project: Project, stage: str, *, reserve: bool, report: Callable[[str], None]
) -> None:
    """Packages and deploys the functions, their roles, event sources, schedule and API of a stage.

    Starts from Chalice's record of the stage, which has to agree with the account. ``reserve`` is False for an account
    with too few concurrent executions for reservations. Raises AwsError, also if a dependency cannot be installed.
    """
    if account.session is None:
        raise AwsError("this account has no session for Chalice")
    settings = without_reservations(project.config()) if not reserve else project.config()
    config = configuration(project, stage, settings)
    client = PatientClient(account.session, sleep=account.sleep)
    files = OSUtils()
    run = deployer.Deployer(
        application_builder=ApplicationGraphBuilder(),
        deps_builder=DependencyBuilder(),
        build_stage=deployer.create_build_stage(files, Messages(report), DeployedSwagger(), config),
        plan_stage=PlanStage(
            osutils=files, remote_state=RemoteState(client, config.deployed_resources(config.chalice_stage))
        ),
        sweeper=ResourceSweeper(),
        executor=Executor(client, Messages(report)),
        recorder=deployer.NoopResultsRecorder(osutils=files),
    )
    with attempting("deploy the functions"):
        try:
            run.deploy(config, chalice_stage_name=stage)
        except deployer.ChaliceDeploymentError as exc:
            if isinstance(exc.original_error, ClientError):
                raise exc.original_error from exc
            raise AwsError(f"could not deploy the functions: {exc.original_error}") from exc


def configuration(project: Project, stage: str, settings: ChaliceConfig) -> Config:
    """Returns Chalice's configuration of a checkout, with the application as it is under the stage's variables."""
    variables = settings["stages"][stage].get("environment_variables", {})
    return Config(
        chalice_stage=stage,
        user_provided_params={"project_dir": str(project.directory), "chalice_app": load_app(project, variables)},
        config_from_disk=settings,
        default_params={"api_gateway_stage": API_STAGE, "autogen_policy": False},
    )


def without_reservations(config: Mapping[str, Any]) -> ChaliceConfig:
    """Returns Chalice's configuration without any reservation of concurrent executions."""
    copy: ChaliceConfig = json.loads(json.dumps(config))
    for part in (copy, *copy.get("stages", {}).values()):
        for function in part.get("lambda_functions", {}).values():
            function.pop("reserved_concurrency", None)
    return copy


def load_app(project: Project, variables: Mapping[str, str]) -> Chalice:
    """Returns the application that ``app.py`` of the checkout defines with these environment variables."""
    with _surroundings(project, variables):
        app: Chalice = importlib.import_module("app").app
        return app


@contextmanager
def _surroundings(project: Project, variables: Mapping[str, str]) -> Iterator[None]:
    """Provides environment and path to the application, and restores both, and the modules, afterwards."""
    environment, path = dict(os.environ), list(sys.path)
    modules = {name: sys.modules.pop(name) for name in APP_MODULES if name in sys.modules}
    os.environ.update(variables)
    sys.path.insert(0, str(project.directory))
    runtime_config.cache_clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        for name in APP_MODULES:
            sys.modules.pop(name, None)
        sys.modules.update(modules)
        runtime_config.cache_clear()
