"""Detections: the clients over a rule's limit, and the reason."""

from typing import Annotated, ClassVar, get_args

import msgspec
from msgspec.structs import replace

from chalicelib.core.addresses import require_network
from chalicelib.core.logs.requests import LiveSource, Source
from chalicelib.core.portraits import Portrait
from chalicelib.core.responses import BLOCKED, Response
from chalicelib.core.rules import Action, Escalation
from chalicelib.core.state.records import LATEST_S, Milliseconds, Number, StateRecord
from chalicelib.core.state.rule_sets import version_number


class Offender(msgspec.Struct, frozen=True, array_like=True):
    """One client of a detection."""

    network: str
    count: Number
    first_ms: Milliseconds
    last_ms: Milliseconds
    since_ms: Milliseconds
    """The latest time from which the requests up to ``last_ms`` alone are over the limit."""
    served_since_ms: Annotated[int, msgspec.Meta(ge=-1, le=LATEST_S * 1000)] = 0
    """The same for the requests that were not answered as Sluice's own refusals are: the latest time from which they
    alone, within one window, are over the limit; -1 if they are within it, and 0 for ``since_ms``."""
    portrait: Portrait | None = None
    """The looks of its requests; None if none of its batches brought it close to a limit."""

    def __post_init__(self) -> None:
        require_network(self.network)


SERVED_WITHIN_LIMIT = -1
"""``Offender.served_since_ms`` of a client that is over the limit only with requests that Sluice may have refused."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it stood at the offence, so that later edits do not affect the decision."""

    name: str
    limit: Number
    window_s: Number
    action: Action
    block_for_s: Number
    escalate: Escalation | None = None
    extend: bool = False
    rule_set: str = ""
    rate: str = ""
    """Rate of the rule's bucket, such as '2/s'; empty for a limit per window."""
    measure: str = "requests"
    """Unit of the limit: requests, bytes, or, for time, milliseconds."""
    respond: Annotated[tuple[Response, ...], msgspec.Meta(min_length=1)] = BLOCKED
    """The response to the first remembered offence, the second, and so on; the last one stays."""

    @property
    def version(self) -> int:
        """Version of the rule set; 0 if it is not a stored one."""
        return version_number(self.rule_set)


class Detection(StateRecord, frozen=True, kw_only=True):
    """Clients over one rule's limit in one source, as one evaluation found them."""

    kind: ClassVar[str] = "detection"
    id: str
    terms: Terms
    source: Source
    offenders: tuple[Offender, ...]
    detected_ms: Milliseconds
    arrived_ms: Milliseconds
    """When the oldest record of the batches with an offender arrived in Kinesis."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Reason why a client is over a limit."""

    rule: str
    count: Number
    """Requests in the window, scaled up if only a sample of the requests is logged."""
    limit: Number
    window_s: Number
    first_ms: Milliseconds
    """Start of the slot of the window's first request. Epoch milliseconds."""
    last_ms: Milliseconds
    """Last millisecond of the slot of the window's last request. Epoch milliseconds."""
    source: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(get_args(LiveSource))})]
    """The log that the requests were read from."""
    detection: str
    """Id of the detection, made of the shard's log, an offset, the rule and the source."""
    arrived_ms: Milliseconds
    """When the oldest record of the batches with an offender arrived in Kinesis. Epoch milliseconds."""
    rate: str = ""
    """Rate of the rule's bucket, such as '2/s'; empty for a limit per window. ``count`` is then the number of requests
    above this rate, and ``limit`` is the burst."""
    measure: str = "requests"
    """Unit of ``count`` and ``limit``: requests, bytes, or, for time, milliseconds."""
    portrait: Portrait | None = None
    """The looks of the client's requests; null in blocks, and if none of its batches brought it close to a limit."""

    def without_portrait(self) -> "Evidence":
        """Returns the evidence as a block holds it: publishers read all blocks, and the history has the portrait."""
        return self if self.portrait is None else replace(self, portrait=None)
