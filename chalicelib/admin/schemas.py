"""A struct for each body and query string that callers send, with the bounds that OpenAPI can express.

The docstring under a field is its description in the OpenAPI document.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chalicelib.core import addresses, durations
from chalicelib.core.durations import LAST_S
from chalicelib.core.logs.requests import LiveSource
from chalicelib.core.responses import Response
from chalicelib.core.rules import LARGEST_LIMIT, Action

MOST_NETWORKS = 40
"""Most networks in one call: two items each, block and history, and one audit record and receipt for all must fit
into a transaction of 100 items."""

MOST_ENTRIES_AT_ONCE = 80
"""Most entries of the allowlist in one call: with the longest comments, its receipt remains below 400 KB."""

MOST_SCOPE = 20
"""Most rules that an entry of the allowlist names."""

LATEST_TIME = 253_402_300_799
"""Latest time accepted: the end of the year 9999, in epoch seconds."""

EpochSeconds = Annotated[int, Meta(ge=0, le=LATEST_TIME)]

EventOutcome = Literal[
    "blocked", "counted", "allowlisted", "proxy", "stale", "ended", "stopped", "resumed", "full", "unreadable"
]

MOST_EVENTS = 200
"""Most events per page."""

Comment = Annotated[
    str,
    Meta(
        max_length=500,
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*\Z",
        description="one line of at most 500 characters, none of them a control or direction character",
    ),
]
"""One line without characters that move a terminal's cursor or change the direction of text."""

NetworkText = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=49,
        pattern=r"^[0-9A-Fa-f:./]+\Z",
        description=addresses.NO_NETWORK.removeprefix("is not "),
        examples=["192.0.2.7", "192.0.2.0/24", "2001:db8::/64"],
    ),
]

DurationText = Annotated[
    str, Meta(pattern=r"^[0-9]{1,9}[smhd]\Z", description=durations.ACCEPTED, examples=["10m", "7d"])
]

RulesToml = Annotated[str, Meta(max_length=100_000, description="TOML of at most 100,000 characters")]
RuleName = Annotated[str, Meta(min_length=1, max_length=64)]
Cursor = Annotated[
    str, Meta(min_length=1, max_length=1000, pattern=r"^[A-Za-z0-9_-]+\Z", description="'next' of the previous page")
]
LONGEST_RECORD = 20_000
"""Most characters of an unreadable record that can be removed: the audit keeps it, and lists 200 changes at once."""

RecordKind = Literal[
    "allow",
    "audit",
    "block",
    "breaker",
    "control",
    "detection",
    "event",
    "feed",
    "feed-networks",
    "known",
    "offence",
    "receipt",
    "rule-set",
    "trend",
    "waiting",
    "warning",
]
RecordId = Annotated[str, Meta(min_length=1, max_length=1024)]
Version = Annotated[int, Meta(ge=1, le=999_999_999)]


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body or a query string; unknown fields are rejected."""


class Nothing(Form, frozen=True):
    """No parameters, or an empty object."""


class NewAllow(Form, frozen=True):
    """A network to add to the allowlist, or one whose entry is to be changed."""

    network: NetworkText
    comment: Comment = ""
    expires_at: Annotated[int, Meta(ge=0, le=LATEST_TIME)] | None = None
    """First second at which the entry is no longer in force; null: never. Epoch seconds, in the future."""
    rules: Annotated[list[RuleName], Meta(max_length=MOST_SCOPE)] = []
    """Names of the rules that do not block it; other rules and operators still can. Empty: it is never blocked."""
    force: bool = False
    """Accept a network wider than the configured prefixes, /0 included, and names of rules that are not in force."""


class NewAllows(Form, frozen=True):
    """Changes to the allowlist, of which either all are made or none."""

    entries: Annotated[list[NewAllow], Meta(max_length=MOST_ENTRIES_AT_ONCE)] = []
    """Networks to add, or whose entries are to be changed."""
    remove: Annotated[list[NetworkText], Meta(max_length=MOST_ENTRIES_AT_ONCE)] = []
    """Networks to remove, as their entries name them; at most 80 together with the entries."""


class NewBlock(Form, frozen=True):
    """A network to block by hand."""

    network: NetworkText
    block_for: DurationText
    """From 1s to 366d, both inclusive."""
    comment: Comment = ""
    respond: Response = Response.BLOCK
    """The response to its requests. One that has no IP sets is rejected."""
    force: bool = False
    """Accept a network that overlaps the allowlist (only the rest of it is blocked), contains your own address, or is
    wider than the configured prefixes."""
    rule: RuleName | None = None
    """Restore the block by this rule, for the client's last offence against it. If none is on record, the block is made
    by hand, with the comment."""


class NewBlocks(Form, frozen=True):
    """Networks to block: all of them or none."""

    blocks: Annotated[list[NewBlock], Meta(min_length=1, max_length=MOST_NETWORKS)]


class RulesText(Form, frozen=True):
    """A rule set to check."""

    text: RulesToml


class NewRules(RulesText, frozen=True):
    """A rule set to activate."""

    comment: Comment = ""
    force: bool = False
    """Accept rules that block every client that makes one request, or a network wider than the configured prefixes,
    and a set without rules in place of one with rules."""


class RuleEdit(Form, frozen=True):
    """New values for keys of one rule; the rest of the text stays as it is."""

    rule: RuleName
    """The rule's name."""
    action: Action | None = None
    """null: unchanged."""
    limit: Annotated[int, Meta(ge=0, le=LARGEST_LIMIT)] | None = None
    """null: unchanged."""
    paused_until: Annotated[int, Meta(ge=0, le=LAST_S)] | None = None
    """Time before which the rule only counts; 0 ends its pause; null: unchanged. Epoch seconds."""
    comment: Comment = ""
    force: bool = False
    """As when a rule set is activated."""


class Rollback(Form, frozen=True):
    """A version of the rule set to activate again."""

    version: Version
    comment: Comment = ""
    force: bool = False
    """As when a rule set is activated."""


class NewPause(Form, frozen=True):
    """A pause of enforcement."""

    release: bool = False
    """Also empty the IP sets."""
    until: EpochSeconds | None = None
    """First second at which enforcement has resumed by itself; null: an operator resumes it. Epoch seconds, in the
    future."""
    comment: Comment = ""
    """The reason."""


class BreakerReset(Form, frozen=True):
    """A reset of the circuit breakers."""

    quiet_for: DurationText = "10m"
    """Time for which they stay closed, whichever clients the rules hit; at most 1d."""
    rule: RuleName | None = None
    """The only rule to reset; null for all."""


class RecordQuery(Form, frozen=True):
    """A stored record that cannot be read."""

    kind: RecordKind
    """The kind of record."""
    id: RecordId
    """Its id."""


class UnreadableRecord(Form, frozen=True):
    """A record that cannot be read, to put back."""

    kind: RecordKind
    """The kind of record."""
    id: RecordId
    """Its id."""
    body: Annotated[str, Meta(max_length=LONGEST_RECORD)]
    """The record as it was stored."""
    expires_at: Annotated[int, Meta(ge=0, le=LATEST_TIME)] | None = None
    """When the store may remove it; null: never. Epoch seconds."""


class DisallowQuery(Form, frozen=True):
    network: Annotated[list[NetworkText], Meta(min_length=1, max_length=MOST_ENTRIES_AT_ONCE)]
    """The network as its entry names it. Repeat the parameter for several; either all are removed or none."""


class AddressQuery(Form, frozen=True):
    address: NetworkText
    """An address or a network."""


class AllowlistQuery(Form, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    """Entries per page."""
    cursor: Cursor | None = None


class BlocksQuery(Form, frozen=True):
    rule: RuleName | None = None
    """Only blocks by this rule; 'manual' for manual blocks."""
    source: LiveSource | None = None
    """Only blocks for requests read from this log."""
    text: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    """Only blocks with this text, in upper or lower case, in network, rule, comment or author. An address or network
    also finds the blocks that overlap it."""
    sort: Literal["blocked_at", "-blocked_at", "until", "-until", "count", "-count", "network", "-network"] = (
        "-blocked_at"
    )
    """Order; '-' means descending."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    """Entries per page."""
    cursor: Cursor | None = None


class UnblockQuery(Form, frozen=True):
    network: Annotated[list[NetworkText], Meta(min_length=1, max_length=MOST_NETWORKS)]
    """The network as the block names it. Repeat the parameter for several; all are unblocked or none."""
    forget: bool = False
    """Also forget the clients' offences, so that the next block is no longer than a first one. Without it, a client
    that offends again is blocked for as long as its offences call for."""


class TopQuery(Form, frozen=True):
    rule: RuleName | None = None
    """Only clients under this rule; under every rule if omitted."""
    n: Annotated[int, Meta(ge=1, le=100)] = 10
    """Clients per rule and log."""


class RulesQuery(Form, frozen=True):
    format: Literal["json", "toml"] = "json"
    """toml: only the text."""
    version: Version | None = None
    """The version to return; the active one if omitted."""


class HistoryQuery(Form, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    """Entries per page."""
    cursor: Cursor | None = None


class EventsQuery(Form, frozen=True):
    since: EpochSeconds | None = None
    """The earliest time; null: as far back as events are kept. Epoch seconds."""
    until: EpochSeconds | None = None
    """The time before which events were decided; null: now. Epoch seconds."""
    rule: RuleName | None = None
    """Only events of this rule; 'manual' for blocks made by hand."""
    network: NetworkText | None = None
    """Only events about networks that overlap this address or network."""
    outcome: EventOutcome | None = None
    """Only events with this outcome."""
    limit: Annotated[int, Meta(ge=1, le=MOST_EVENTS)] = 50
    """Entries per page."""
    cursor: Cursor | None = None


class AuditQuery(Form, frozen=True):
    since: EpochSeconds | None = None
    """The earliest time; null: as far back as the audit is kept. Epoch seconds."""
    until: EpochSeconds | None = None
    """The time before which changes were made; null: now. Epoch seconds."""
    by: Annotated[str, Meta(max_length=200)] = ""
    """Only changes by this operator: the name of the token, or the ARN."""
    text: Annotated[str, Meta(max_length=100)] = ""
    """Only changes with this text in operator, target or detail; case is ignored."""
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    """Entries per page."""
    cursor: Cursor | None = None


class SeriesQuery(Form, frozen=True):
    span: Annotated[int, Meta(ge=60, le=900)] = 900
    """Seconds back from now."""
    step: Annotated[int, Meta(ge=1, le=300)] = 10
    """Seconds per step."""


class TrendsQuery(Form, frozen=True):
    span: DurationText = "1d"
    """Time back from the latest quarter hour that is over: from 15m to 31d. Longer than 50 hours, it is extended to
    whole steps."""
    until: EpochSeconds | None = None
    """End of that time instead, within the last 38 days; of a quarter hour, its start. Epoch seconds."""
