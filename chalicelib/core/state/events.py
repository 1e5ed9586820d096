"""Events, and what has been announced of them."""

from collections.abc import Collection
from hashlib import blake2b
from typing import Annotated, ClassVar

import msgspec

from chalicelib.core.addresses import require_network
from chalicelib.core.durations import DAY_S
from chalicelib.core.responses import Response
from chalicelib.core.state.blocks import MANUAL
from chalicelib.core.state.detections import Evidence
from chalicelib.core.state.records import Control, Milliseconds, Number, Seconds, StateRecord

HISTORY_S = 30 * DAY_S
"""Seconds for which events are kept where nothing else is configured."""

EVENT_OUTCOMES = [
    *("blocked", "counted", "allowlisted", "proxy", "stale"),
    *("ended", "stopped", "resumed"),
    *("full", "unreadable"),
]
"""The outcomes of offences that are recorded, the end of a block, what a breaker did with its rule, and warnings: of IP
sets that are nearly full, and of logs that cannot be read."""


class Event(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A block, its end, an offence for which no client was blocked, a rule that is stopped or resumed, or a warning."""

    outcome: Annotated[str, msgspec.Meta(extra_json_schema={"enum": EVENT_OUTCOMES})]
    network: str = ""
    """Empty if the event is about a rule, or about clients of whom only the number is known."""
    rule: str = MANUAL
    """Name of the rule, or 'manual'; empty for a warning."""
    until: Seconds = 0
    """First second at which the block is over, would have been over, or was over; 0 for other events. Epoch seconds."""
    since: Seconds = 0
    """When the block that ended began; 0 for other events. Epoch seconds."""
    response: Response = Response.BLOCK
    """The response to the client's requests; the hardest of a block that ended."""
    offence: Number = 0
    """Number of the offence against the rule, from 1; 0 for a manual block, and if no offence is meant."""
    evidence: Evidence | None = None
    by: str = ""
    """The operator who made or ended a block."""
    comment: str = ""
    number: Number = 1
    """Number of offences that the event stands for; for a stopped or resumed rule, of known clients that it would have
    hit; for logs, of pieces that cannot be read. For nearly full IP sets, the percentage in use."""

    def __post_init__(self) -> None:
        if self.network:
            require_network(self.network)


class Warned(StateRecord, frozen=True, kw_only=True):
    """The last warning about something."""

    kind: ClassVar[str] = "warning"
    subject: str
    """'unreadable', or 'full/', the response, '/v' and the family of nearly full IP sets."""
    at: Seconds
    """Time of the warning. Epoch seconds."""

    @property
    def id(self) -> str:
        return self.subject


class Events(StateRecord, frozen=True, kw_only=True):
    """The events of one transaction. Ids ascend with time."""

    kind: ClassVar[str] = "event"
    at_ms: Milliseconds
    """Time of the decision. Epoch milliseconds."""
    events: tuple[Event, ...]

    @property
    def id(self) -> str:
        return f"{events_from(self.at_ms)}-{blake2b(self.to_json(), digest_size=8).hexdigest()}"

    def belongs_under(self, id: str) -> bool:
        # Not the digest: another version may write another form.
        return id.startswith(f"{events_from(self.at_ms)}-")


def events_from(at_ms: int) -> str:
    """Returns a text that sorts after the ids of all events before ``at_ms``, and before all others."""
    return f"{at_ms:013d}"


class Unannounced(Control, frozen=True, kw_only=True):
    """The minutes whose events are not all announced (``pipeline.announce``), by their starts in epoch seconds."""

    id: ClassVar[str] = "unannounced"
    flooded: tuple[Seconds, ...] = ()
    """Minutes with too many events to announce one by one, in order of time."""
    failed: tuple[Seconds, ...] = ()
    """Minutes of which some announcements could not be sent, in order of time."""

    def covers(self, flooded: Collection[int], failed: Collection[int]) -> bool:
        """Returns whether these minutes are noted."""
        return {*flooded} <= {*self.flooded} and {*failed} <= {*self.failed}

    def with_minutes(self, flooded: Collection[int], failed: Collection[int], most: int) -> "Unannounced":
        """Returns the record with these minutes added; of each kind, it keeps the latest ``most``."""
        return Unannounced(
            flooded=tuple(sorted({*self.flooded, *flooded})[-most:]),
            failed=tuple(sorted({*self.failed, *failed})[-most:]),
        )

    def without(self, minutes: Collection[int]) -> "Unannounced":
        """Returns the record without these minutes."""
        return Unannounced(
            flooded=tuple(each for each in self.flooded if each not in minutes),
            failed=tuple(each for each in self.failed if each not in minutes),
        )
