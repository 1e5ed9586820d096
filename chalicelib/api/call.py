"""One call and its answer: who asks, what came with it, and how the answer goes out."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec
from chalice.app import Request, Response

from chalicelib.admin.changes import Caller, Done, Once, PlannedChange, make
from chalicelib.admin.errors import Invalid, fault
from chalicelib.admin.live_counts import LiveCounts
from chalicelib.admin.networks import Widest, allowed_now
from chalicelib.api.parsing import read_body, read_json, read_query
from chalicelib.api.problems import Rejected
from chalicelib.api.schemas import Form
from chalicelib.bootstrap import Services
from chalicelib.core.addresses import NetworkSet
from chalicelib.core.tokens import Role
from chalicelib.ports import StateStore

JSON = "application/json"
_F = TypeVar("_F", bound=Form)
_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_ETAG = re.compile(r'"([0-9]{1,9})"', re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiCall:
    request: Request
    here: Services
    caller: Caller
    now_ms: int

    @property
    def now(self) -> int:
        return self.now_ms // 1000

    @property
    def state(self) -> StateStore:
        return self.here.world.state

    @property
    def widest(self) -> Widest:
        return Widest(self.here.config.widest_ipv4, self.here.config.widest_ipv6)

    @property
    def sample_rate(self) -> int:
        return self.here.config.sample_rate

    def live(self) -> LiveCounts:
        """The counts, just looked at. Raises Unavailable."""
        self.here.live.look(self.now_ms)
        return self.here.live

    def allowlist(self) -> NetworkSet:
        return NetworkSet(entry.network_value() for entry in allowed_now(self.state, self.now))

    def query(self, form: type[_F]) -> _F:
        parameters = self.request.query_params
        return read_query({name: parameters.getlist(name) for name in parameters} if parameters else {}, form)

    def body(self, form: type[_F]) -> _F:
        return read_body(self.raw, form)

    def body_if_any(self, form: type[_F]) -> _F:
        """A call without a body is one with an empty object."""
        return read_body(self.raw or b"{}", form)

    def json(self) -> Any:
        return read_json(self.raw)

    @property
    def raw(self) -> bytes:
        body = self.request.raw_body
        return body.encode() if isinstance(body, str) else body

    def based_on(self) -> int:
        """The version in If-Match. Raises Rejected, Invalid."""
        header = self.request.headers.get("if-match")
        if header is None:
            detail = 'Send If-Match with the version you have read, such as "3".'
            raise Rejected(428, "if-match", "If-Match needed", detail)
        match = _ETAG.fullmatch(header)
        if match is None:
            raise Invalid.of([fault("header", "If-Match", header, 'a version in double quotes, such as "3"')])
        return int(match[1])

    def make(self, decide: Callable[[], PlannedChange], *, status: int = 200, tries: int = 1) -> Response:
        """Makes a change; a POST with an idempotency key, once."""
        once = self._once() if self.request.method == "POST" else None
        done = make(self.state, decide, caller=self.caller, now_ms=self.now_ms, once=once, tries=tries)
        return changed(done, status)

    def _once(self) -> Once | None:
        key = self.request.headers.get("idempotency-key")
        if key is None:
            return None
        if _KEY.fullmatch(key) is None:
            accepted = "1 to 128 letters, digits and any of _ . : -"
            raise Invalid.of([fault("header", "Idempotency-Key", key, accepted)])
        call = f"{self.request.method} {self.request.path}\n".encode() + self.raw
        return Once(key, blake2b(call, digest_size=16).hexdigest())


def changed(done: Done, status: int = 200) -> Response:
    headers: dict[str, str | list[str]] = {"Content-Type": JSON}
    if done.replayed:
        headers["Idempotency-Replayed"] = "true"
    version = msgspec.json.decode(done.answer).get("version")
    if version is not None:
        headers["ETag"] = f'"{version}"'
    return Response(body=done.answer.decode(), status_code=status, headers=headers)


def answer(value: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body=msgspec.json.encode(value).decode(), headers={"Content-Type": JSON, **(headers or {})})


def caller_of(context: Mapping[str, Any], admin_auth: str) -> Caller:
    """Who API Gateway says is calling. Raises Rejected if it does not say.

    Whom IAM lets through is an operator: which routes it may call, its policy has said (execute-api:Invoke).
    """
    identity = context.get("identity") or {}
    address, request = identity.get("sourceIp") or "", context.get("requestId") or ""
    if admin_auth == "iam" and identity.get("userArn"):
        return Caller(identity["userArn"], Role.OPERATOR, address, request)
    authorized = context.get("authorizer") or {}
    if admin_auth == "token" and authorized.get("name") and authorized.get("role") in tuple(Role):
        return Caller(authorized["name"], Role(authorized["role"]), address, request)
    raise Rejected(401, "unauthorized", "Not authorized", "The call came without a caller.")
