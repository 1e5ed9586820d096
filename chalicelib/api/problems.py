"""Problem documents (RFC 9457): what a refused call is answered with."""

from collections.abc import Sequence

import msgspec
from chalice.app import Response

from chalicelib.admin.errors import Fault, ForceNeeded, Invalid, NotFound, Refused, StaleVersion
from chalicelib.core.tokens import TokensError
from chalicelib.ports import Conflict, Unavailable

MEDIA_TYPE = "application/problem+json"
URN = "urn:sluice:problem:"


class Rejected(Exception):
    """A call refused at the door: malformed, not allowed, or of the wrong form."""

    def __init__(self, status: int, slug: str, title: str, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.status, self.slug, self.title, self.detail, self.faults = status, slug, title, detail, tuple(faults)


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    type: str
    title: str
    status: int
    detail: str
    errors: tuple[Fault, ...] = ()


REFUSALS: dict[type[Refused], tuple[int, str, str]] = {
    Invalid: (422, "invalid", "Not possible"),
    ForceNeeded: (409, "force-needed", "Refused without force"),
    NotFound: (404, "not-found", "Not found"),
    StaleVersion: (412, "version", "Changed meanwhile"),
}

CHALICE: dict[int, tuple[str, str]] = {
    405: ("method", "Method not allowed"),
    415: ("media-type", "Unsupported media type"),
    500: ("internal", "Internal error"),
}
"""What Chalice itself answers, in our words."""


def problem(status: int, slug: str, title: str, detail: str, faults: Sequence[Fault] = ()) -> Response:
    document = Problem(type=URN + slug, title=title, status=status, detail=detail, errors=tuple(faults))
    return Response(
        body=msgspec.json.encode(document).decode(), status_code=status, headers={"Content-Type": MEDIA_TYPE}
    )


def problem_of(exc: Exception) -> Response | None:
    """The answer to a call that raised ``exc``; None if it is nothing a call may raise."""
    match exc:
        case Rejected():
            return problem(exc.status, exc.slug, exc.title, exc.detail, exc.faults)
        case Refused():
            status, slug, title = REFUSALS[type(exc)]
            return problem(status, slug, title, exc.detail, exc.faults)
        case Conflict():
            detail = "Somebody else changed this at the same moment. Nothing was changed by you; look, and try again."
            return problem(409, "conflict", "Changed meanwhile", detail)
        case Unavailable() | TokensError():
            return problem(503, "unavailable", "Unavailable", f"{exc}. Nothing is known to have changed; try again.")
    return None
