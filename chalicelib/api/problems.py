"""Problem documents (RFC 9457): the answers to calls that are rejected or that fail."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from chalice.app import Response

from chalicelib.admin.errors import MOST_FAULTS, Fault, ForceNeeded, Invalid, NotFound, Refused, StaleVersion
from chalicelib.core.tokens import TokensError
from chalicelib.ports import Conflict, Unavailable

MEDIA_TYPE = "application/problem+json"
URN = "urn:sluice:problem:"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document as RFC 9457 defines it."""

    type: str
    """The type of problem, as a URN."""
    title: str
    status: Annotated[int, msgspec.Meta(ge=400, le=599)]
    detail: str
    errors: Annotated[tuple[Fault, ...], msgspec.Meta(max_length=MOST_FAULTS)] = ()


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One type of problem: its status, the end of its URN, its title, and when it occurs."""

    status: int
    slug: str
    title: str
    occurs: str
    example: str
    """A ``detail``, for the documentation."""
    faults: tuple[Fault, ...] = ()
    """The ``errors`` of the example."""

    def document(self, detail: str, faults: Sequence[Fault] = ()) -> Problem:
        return Problem(type=URN + self.slug, title=self.title, status=self.status, detail=detail, errors=tuple(faults))


_HOST_BITS = "'192.0.2.7/24' has host bits set; the network is 192.0.2.0/24"
_OVERLAP = "it overlaps 203.0.113.7/32 (uptime probe) on the allowlist; with force only the rest of it is blocked"

BAD_REQUEST = ProblemType(
    400,
    "bad-request",
    "Not understood",
    "The body is not strict JSON, or a query parameter is unknown or repeated.",
    "The body is not valid JSON: the key 'network' is repeated.",
)
UNAUTHORIZED = ProblemType(
    401,
    "unauthorized",
    "Not authorized",
    "The token is missing, unknown, revoked or expired.",
    "API Gateway named no caller for this request.",
)
FORBIDDEN = ProblemType(
    403,
    "role",
    "Not allowed",
    "The caller's role does not cover the call.",
    "PUT /v1/allowlist needs the role 'operator'; 'wallboard' is a viewer.",
)
NOT_FOUND = ProblemType(
    404, "not-found", "Not found", "The rule, version or file does not exist.", "There is no rule-set version 9."
)
METHOD = ProblemType(405, "method", "Method not allowed", "The path has no such method.", "Unsupported method: PATCH")
CONFLICT = ProblemType(
    409,
    "conflict",
    "Changed meanwhile",
    "The same records were changed at the same moment. The call changed nothing.",
    "The same records were changed at the same moment. This call changed nothing: read them again and retry.",
)
FORCE_NEEDED = ProblemType(
    409,
    "force-needed",
    "Refused without force",
    "The call is carried out only with 'force'. Nothing was changed.",
    f"203.0.113.0/24: {_OVERLAP}",
    (Fault("body", "network", "203.0.113.0/24", _OVERLAP),),
)
STALE_VERSION = ProblemType(
    412,
    "version",
    "Changed meanwhile",
    "If-Match names a version that is not the active one. Nothing was changed.",
    "Version 4 (saved by alice) is active, not 3. Read it and try again.",
    (Fault("header", "If-Match", '"3"', '"4"'),),
)
TOO_LARGE = ProblemType(
    413,
    "too-large",
    "Too large",
    "The body exceeds 256 KB.",
    "The body has 300,000 bytes; at most 262,144 are accepted.",
)
MEDIA = ProblemType(
    415,
    "media-type",
    "Unsupported media type",
    "The body is not declared as JSON.",
    "Unsupported media type: text/plain",
)
INVALID = ProblemType(
    422,
    "invalid",
    "Not possible",
    "A value is out of bounds or cannot be used; 'errors' names each field, its value and the accepted form.",
    f"body: network: {_HOST_BITS}",
    (Fault("body", "network", "192.0.2.7/24", _HOST_BITS),),
)
IF_MATCH = ProblemType(
    428,
    "if-match",
    "If-Match needed",
    "The header If-Match is missing.",
    'Send If-Match with the version the change is based on, such as "3".',
)
INTERNAL = ProblemType(
    500, "internal", "Internal error", "Sluice failed to answer.", "An internal server error occurred."
)
UNAVAILABLE = ProblemType(
    503,
    "unavailable",
    "Unavailable",
    "A table cannot be reached. Nothing is known to have changed.",
    "read sluice-state: ThrottlingException. Nothing is known to have changed; try again.",
)

_REFUSALS: dict[type[Refused], ProblemType] = {
    Invalid: INVALID,
    ForceNeeded: FORCE_NEEDED,
    NotFound: NOT_FOUND,
    StaleVersion: STALE_VERSION,
}

CHALICE = {kind.status: kind for kind in (METHOD, MEDIA, INTERNAL)}
"""Problem types for the errors that Chalice itself returns, by status."""


class Rejected(Exception):
    """A call that is rejected before it reaches a use case: malformed, unauthorized, or of the wrong form."""

    def __init__(self, kind: ProblemType, detail: str | None = None) -> None:
        """``detail``: the type's example by default."""
        self.kind, self.detail = kind, detail or kind.example
        super().__init__(self.detail)


def problem(kind: ProblemType, detail: str, faults: Sequence[Fault] = ()) -> Response:
    """Returns the response to a call that met a problem of this type."""
    body = msgspec.json.encode(kind.document(detail, faults)).decode()
    return Response(body=body, status_code=kind.status, headers={"Content-Type": MEDIA_TYPE})


def problem_of(exc: Exception) -> Response | None:
    """Returns the response to a call that raised ``exc``; None for an exception that no call should raise."""
    match exc:
        case Rejected():
            return problem(exc.kind, exc.detail)
        case Refused():
            return problem(_REFUSALS[type(exc)], exc.detail, exc.faults)
        case Conflict():
            return problem(CONFLICT, CONFLICT.example)
        case Unavailable() | TokensError():
            return problem(UNAVAILABLE, f"{exc}. Nothing is known to have changed; try again.")
    return None
