"""Operations: each one's declaration, and the steps from a request to its answer.

``route`` declares an operation. Its function's signature is part of the declaration: a parameter ``query`` or ``body``
names the form to parse (a union of forms accepts any of them), ``based_on`` asks for the header If-Match, and the
return annotation is the answer. A function that returns a ``PlannedChange`` decides a change, which is then made
together with its audit record; a POST that changes something also accepts the header Idempotency-Key. The OpenAPI
document is generated from the same declarations.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar, cast, get_args, get_origin

import msgspec
from chalice.app import Request, Response

from chalicelib.admin.changes import Caller, Once, PlannedChange, make
from chalicelib.admin.errors import Invalid, fault
from chalicelib.admin.inputs import Widest
from chalicelib.admin.listed_blocks import ListedBlocks
from chalicelib.admin.live_counts import LiveCounts
from chalicelib.admin.rule_sets import RuleBounds
from chalicelib.admin.schemas import Form, Nothing
from chalicelib.api import problems
from chalicelib.api.parsing import parse_body, parse_query
from chalicelib.api.problems import ProblemType, Rejected
from chalicelib.bootstrap import Services
from chalicelib.core.sampling import Sampling
from chalicelib.core.tokens import Role
from chalicelib.pipeline.stored import State

JSON = "application/json"
ETAG = r'"([0-9]{1,9})"'
IDEMPOTENCY_KEY = r"[A-Za-z0-9_.:-]{1,128}"
_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One authenticated call: its caller, its time, and the services that answer it."""

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
    def blocks(self) -> ListedBlocks:
        return self.services.blocks

    @property
    def widest(self) -> Widest:
        return {4: self.services.config.widest_ipv4, 6: self.services.config.widest_ipv6}

    @property
    def rule_bounds(self) -> RuleBounds:
        return RuleBounds(self.services.config.responses, self.widest)

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.services.config.sample_rate)

    def live(self) -> LiveCounts:
        """Returns the live counts, refreshed. Raises Unavailable."""
        self.services.live.look(self.now_ms)
        return self.services.live


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer that is sent as it is, not encoded as JSON."""

    text: str
    media_type: str
    version: int | None = None
    """For the ETag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    method: str
    path: str
    role: Role | None
    """Least role that may call it; None if it is open to all callers."""
    tag: str
    function: Callable[..., Any]
    query: type[Form]
    bodies: tuple[type[Form], ...]
    """Accepted forms of the body; empty if it takes none."""
    takes: frozenset[str]
    """Parameters of the function."""
    answers: tuple[Any, ...]
    """The struct that it answers with; none if its answer is always raw."""
    changes: bool
    status: int = 200
    etag: bool = False
    """Answers carry their ``version`` as ETag."""
    media_types: tuple[str, ...] = (JSON,)
    raises: tuple[ProblemType, ...] = ()
    """Types of problem besides those that follow from the rest of the declaration."""
    path_values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Values of each parameter in the path."""
    tries: int = 1
    """Attempts at a change that conflicts with another."""

    @property
    def based_on(self) -> bool:
        """True if it requires If-Match."""
        return "based_on" in self.takes

    @property
    def idempotent(self) -> bool:
        """True if it accepts an Idempotency-Key."""
        return self.changes and self.method == "POST"

    @property
    def body_required(self) -> bool:
        return all(any(field.required for field in msgspec.structs.fields(form)) for form in self.bodies)

    @property
    def problems(self) -> list[ProblemType]:
        """The types of problem it may answer with."""
        kinds = [problems.MEDIA, *self.raises]
        if self.role is not None:
            kinds += [problems.BAD_REQUEST, problems.UNAUTHORIZED, problems.FORBIDDEN]
            kinds += [problems.INVALID, problems.UNAVAILABLE]
        if self.bodies:
            kinds.append(problems.TOO_LARGE)
        if self.changes:
            kinds.append(problems.CONFLICT)
        if self.based_on:
            kinds += [problems.STALE_VERSION, problems.IF_MATCH]
        return kinds

    def run(self, request: Request, call: ApiCall) -> Response:
        """Checks the caller and the request against the declaration, calls the function, and encodes its answer."""
        if self.role is not None and not call.caller.role.covers(self.role):
            caller = f"{call.caller.name!r} is a {call.caller.role}"
            raise Rejected(problems.FORBIDDEN, f"{self.method} {self.path} needs the role '{self.role}'; {caller}.")
        arguments = self._arguments(request)
        if not self.changes:
            return self.respond(self.function(call, **arguments))
        answer, replayed = make(
            call.state,
            lambda: self.function(call, **arguments),
            self.answers[0],
            caller=call.caller,
            now_ms=call.now_ms,
            once=_once(request) if self.idempotent else None,
            tries=self.tries,
            history_s=call.services.config.history_s,
        )
        return self.respond(answer, {"Idempotency-Replayed": "true"} if replayed else {})

    def respond(self, answer: Any, headers: Mapping[str, str] | None = None) -> Response:
        if isinstance(answer, RawAnswer):
            body, media_type = answer.text, answer.media_type
        else:
            body, media_type = msgspec.json.encode(answer).decode(), JSON
        sent: dict[str, str | list[str]] = {"Content-Type": media_type, **(headers or {})}
        if self.etag:
            sent["ETag"] = f'"{answer.version}"'
        return Response(body=body, status_code=self.status, headers=sent)

    def _arguments(self, request: Request) -> dict[str, Any]:
        """Parses the query, the body and If-Match. Raises Rejected, Invalid."""
        parameters = request.query_params
        query = {name: parameters.getlist(name) for name in parameters} if parameters else {}
        parsed: dict[str, Any] = {"query": parse_query(query, self.query)}
        if self.bodies:
            raw = _raw(request)
            parsed["body"] = parse_body(raw if raw or self.body_required else b"{}", self.bodies)
        if self.based_on:
            parsed["based_on"] = _based_on(request)
        return {name: value for name, value in parsed.items() if name in self.takes}


OPERATIONS: list[Operation] = []
"""Every declared operation, in the order of declaration."""


def route(method: str, path: str, *, role: Role | None, tag: str, **options: Any) -> Callable[[_FunctionT], _FunctionT]:
    """Declares the function below as an operation; ``options`` are further fields of ``Operation``."""

    def declare(function: _FunctionT) -> _FunctionT:
        types = inspect.get_annotations(function)
        returned: Any = types.pop("return")
        body = types.get("body", Nothing if method == "POST" else None)
        operation = Operation(
            method=method,
            path=path,
            role=role,
            tag=tag,
            function=function,
            query=types.get("query", Nothing),
            bodies=get_args(body) or ((body,) if body else ()),
            takes=frozenset(types),
            answers=tuple(kind for kind in get_args(returned) or (returned,) if kind is not RawAnswer),
            changes=get_origin(returned) is PlannedChange,
            **options,
        )
        OPERATIONS.append(operation)
        return function

    return declare


def _raw(request: Request) -> bytes:
    return cast("bytes", request.raw_body)  # Chalice encodes a text, although the annotation allows one


def _based_on(request: Request) -> int:
    """Returns the version in If-Match. Raises Rejected, Invalid."""
    header = request.headers.get("if-match")
    if header is None:
        raise Rejected(problems.IF_MATCH)
    match = re.fullmatch(ETAG, header, re.ASCII)
    if match is None:
        raise Invalid(fault("header", "If-Match", header, 'a version in double quotes, such as "3"'))
    return int(match[1])


def _once(request: Request) -> Once | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if re.fullmatch(IDEMPOTENCY_KEY, key, re.ASCII) is None:
        accepted = "1 to 128 letters, digits and any of _ . : -"
        raise Invalid(fault("header", "Idempotency-Key", key, accepted))
    call = f"{request.method} {request.path}\n".encode() + _raw(request)
    return Once(key, blake2b(call, digest_size=16).hexdigest())
