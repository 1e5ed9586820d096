"""What API Gateway answers by itself, to a page of another origin."""

import json
from typing import Any

import pytest

from sluice.deploy.chalice_deployer import configuration
from sluice.deploy.swagger import DeployedSwagger, StackedSwagger
from tests.support.deploy.account import World
from tests.support.deploy.functions import deploy_functions

ORIGIN = "https://ops.example.com"
RESPONSES = "x-amazon-apigateway-gateway-responses"


def allowed(document: dict[str, Any]) -> dict[str, str]:
    """Returns the origin that each gateway response names, with API Gateway's quotes around static values."""
    header = "gatewayresponse.header.Access-Control-Allow-Origin"
    return {kind: each["responseParameters"][header] for kind, each in document.get(RESPONSES, {}).items()}


@pytest.mark.parametrize("generator", [DeployedSwagger, StackedSwagger])
def test_rejections_of_api_gateway_can_be_read_by_the_configured_origin_alone(
    deployable: World, generator: type[Any]
) -> None:
    def described(**variables: str) -> dict[str, Any]:
        settings = deployable.project.config()
        settings["stages"]["dev"]["environment_variables"] |= variables
        app = configuration(deployable.project, "dev", settings).chalice_app
        document: dict[str, Any] = generator().generate_swagger(app)
        return document

    assert allowed(described(CORS_ORIGIN=ORIGIN)) == dict.fromkeys(("DEFAULT_4XX", "DEFAULT_5XX"), f"'{ORIGIN}'")
    assert RESPONSES not in described()


def test_the_deployed_api_has_them(deployable: World) -> None:
    stage = deployable.stage(settings={"CORS_ORIGIN": ORIGIN})
    deployable.set_up(stage)
    imported: list[dict[str, Any]] = []
    session = deployable.account.session
    assert session is not None
    events, name = session.get_component("event_emitter"), "before-parameter-build.api-gateway.ImportRestApi"

    def keep(params: dict[str, Any], **_: Any) -> None:
        imported.append(json.loads(params["body"]))

    events.register(name, keep)
    try:
        deploy_functions(deployable, stage)
    finally:
        events.unregister(name, keep)
    (document,) = imported
    assert allowed(document)["DEFAULT_4XX"] == f"'{ORIGIN}'"
