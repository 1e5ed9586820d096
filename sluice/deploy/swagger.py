"""Chalice's descriptions of the admin API, with headers for another origin on what API Gateway answers by itself.

API Gateway rejects an expired token, a missing key or too many requests before a function runs, so a page of
``CORS_ORIGIN`` could not read why. Source: API Gateway Developer Guide, "Gateway responses in API Gateway" and
"x-amazon-apigateway-gateway-responses object".
"""

from typing import Any

from chalice.app import Chalice
from chalice.deploy.models import RestAPI
from chalice.deploy.swagger import CFNSwaggerGenerator, SwaggerGenerator, TemplatedSwaggerGenerator

REJECTIONS = ("DEFAULT_4XX", "DEFAULT_5XX")


class _ForAnotherOrigin(SwaggerGenerator):
    def generate_swagger(self, app: Chalice, rest_api: RestAPI | None = None) -> dict[str, Any]:
        document: dict[str, Any] = super().generate_swagger(app, rest_api)
        entries = (entry for methods in app.routes.values() for entry in methods.values())
        origins = {entry.cors.allow_origin for entry in entries if entry.cors}
        for origin in origins:
            headers = {"gatewayresponse.header.Access-Control-Allow-Origin": f"'{origin}'"}
            responses = {kind: {"responseParameters": headers} for kind in REJECTIONS}
            document["x-amazon-apigateway-gateway-responses"] = responses
        return document


class DeployedSwagger(_ForAnotherOrigin, TemplatedSwaggerGenerator):
    """The description that is deployed without a stack."""


class StackedSwagger(_ForAnotherOrigin, CFNSwaggerGenerator):
    """The description in the template of a stack."""
