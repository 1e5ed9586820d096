"""Registers the declared operations with Chalice, with authorizer, CORS, security headers and problem documents."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from chalice.app import Authorizer, AuthRequest, AuthResponse, Chalice, CORSConfig, IAMAuthorizer, Request, Response

import chalicelib.api.routes  # noqa: F401 - importing the module declares the operations
from chalicelib.admin.changes import Caller
from chalicelib.api.operations import JSON, OPERATIONS, ApiCall, Operation
from chalicelib.api.problems import CHALICE, UNAUTHORIZED, Rejected, problem, problem_of
from chalicelib.bootstrap import config, services
from chalicelib.core.tokens import Role, bearer, check

AUTHORIZED_S = 30
"""Seconds for which API Gateway caches the authorizer's answer: a revoked token may be accepted this much longer, in
addition to the time for which ``edges.tokens`` caches the tokens."""

_EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "Cross-Origin-Opener-Policy": "same-origin",
}
ANSWER_HEADERS = _EVERYWHERE | {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
PAGE_HEADERS = _EVERYWHERE | {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


class Unauthorized(Exception):
    """An authorizer that fails with exactly this word makes API Gateway answer 401."""


def authorize(request: AuthRequest) -> AuthResponse:
    """Admits valid tokens to every route; each operation checks the role itself."""
    world = services().world
    token = check(bearer(request.token), world.tokens(), int(world.clock()))
    if token is None:
        raise Unauthorized("Unauthorized")
    return AuthResponse(routes=["*"], principal_id=token.id, context={"name": token.name, "role": token.role})


def caller_of(context: Mapping[str, Any], admin_auth: str) -> Caller:
    """Returns the caller that API Gateway authenticated; ``context`` is the request context. Raises Rejected.

    With IAM every caller is an operator, because its policy (execute-api:Invoke) already names the routes it may call.
    """
    identity = context.get("identity") or {}
    address, request = identity.get("sourceIp") or "", context.get("requestId") or ""
    if admin_auth == "iam" and identity.get("userArn"):
        return Caller(identity["userArn"], Role.OPERATOR, address, request)
    authorized = context.get("authorizer") or {}
    if admin_auth == "token" and authorized.get("name") and authorized.get("role") in tuple(Role):
        return Caller(authorized["name"], Role(authorized["role"]), address, request)
    raise Rejected(UNAUTHORIZED)


def mount(app: Chalice) -> Authorizer:
    """Registers every operation with ``app``. Returns the authorizer, which ``app.py`` must export as ``authorize``."""
    settings = config()
    authorizer: Authorizer = (
        IAMAuthorizer() if settings.admin_auth == "iam" else app.authorizer(ttl_seconds=AUTHORIZED_S)(authorize)
    )
    cors: CORSConfig | bool = False
    if settings.cors_origin:
        cors = CORSConfig(
            settings.cors_origin,
            allow_headers=["If-Match", "Idempotency-Key"],
            expose_headers=["ETag", "Idempotency-Replayed"],
            max_age=600,
        )
    for operation in OPERATIONS:
        options: dict[str, Any] = {"cors": cors} if JSON in operation.media_types else {}
        if operation.role is not None:
            options |= {"authorizer": authorizer, "api_key_required": settings.admin_api_key == "required"}
        app.route(operation.path, methods=[operation.method], **options)(_view(app, operation))
    app.middleware("http")(_finish)
    return authorizer


def _view(app: Chalice, operation: Operation) -> Callable[..., Response]:
    @wraps(operation.function)
    def view(**path: str) -> Response:
        try:
            if operation.role is None:
                return operation.respond(operation.function(**path))
            request, container = app.current_request, services()
            assert request is not None
            caller = caller_of(request.context, container.config.admin_auth)
            return operation.run(request, ApiCall(container, caller, int(container.world.clock() * 1000)))
        except Exception as exc:
            response = problem_of(exc)
            if response is None:
                raise
            return response

    return view


def _finish(event: Request, get_response: Callable[[Request], Response]) -> Response:
    """Adds the security headers, and turns the errors that Chalice itself returns into problem documents."""
    response = get_response(event)
    if response.status_code in CHALICE and isinstance(response.body, dict):
        response = problem(CHALICE[response.status_code], response.body["Message"])
    page = str(response.headers.get("Content-Type", "")).startswith("text/")
    response.headers = {**(PAGE_HEADERS if page else ANSWER_HEADERS), **response.headers}
    return response
