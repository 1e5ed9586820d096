"""One authenticated call: its caller, its time, and the services that answer it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.admin.changes import Caller
from chalicelib.admin.inputs import Widest
from chalicelib.admin.live_counts import LiveCounts
from chalicelib.api.problems import UNAUTHORIZED, Rejected
from chalicelib.bootstrap import Services
from chalicelib.core.tokens import Role
from chalicelib.pipeline.stored import State


@dataclass(frozen=True, slots=True)
class ApiCall:
    services: Services
    caller: Caller
    now_ms: int

    @property
    def now(self) -> int:
        return self.now_ms // 1000

    @property
    def state(self) -> State:
        return self.services.state

    @property
    def widest(self) -> Widest:
        return Widest(self.services.config.widest_ipv4, self.services.config.widest_ipv6)

    @property
    def sample_rate(self) -> int:
        return self.services.config.sample_rate

    def live(self) -> LiveCounts:
        """Returns the live counts, refreshed. Raises Unavailable."""
        self.services.live.look(self.now_ms)
        return self.services.live


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
