"""The records of the state table, by kind, and their JSON form.

Times are in epoch seconds, or in epoch milliseconds if their name ends in ``_ms``. What is stored may be damaged, typed
by hand or of another version: ``StateRecord.read`` returns only records whose values every reader can use.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Annotated, Any, ClassVar, Self, get_args

import msgspec
from msgspec.structs import replace

from chalicelib.core.addresses import Network, parse_network, require_network
from chalicelib.core.logs.requests import LiveSource, Source
from chalicelib.core.responses import BLOCKED, Response, hardness
from chalicelib.core.rules import Action, Escalation

LATEST_S = 253_402_300_799
"""The end of the year 9999, the last that a date can have. Epoch seconds."""
Seconds = Annotated[int, msgspec.Meta(ge=0, le=LATEST_S)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=LATEST_S * 1000)]
LARGEST_COUNT = 2**53
Number = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_COUNT)]
"""A count that every reader of JSON reads exactly."""
PrefixLength = Annotated[int, msgspec.Meta(ge=1, le=128)]

LONGEST_REASON = 200
"""Most characters of the reason why a record cannot be read: it may quote what is stored."""


class Unreadable(msgspec.Struct, frozen=True):
    """A stored record that this version cannot read. Readers skip and report it."""

    kind: str
    id: str
    reason: str
    """The reason why it cannot be read."""


MOST_UNREADABLE = 100
"""Most unreadable records that are listed."""


class StateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of one kind."""

    kind: ClassVar[str]

    @property
    def id(self) -> str:
        """The id under which the record is stored. Kinds without one are stored under an id that the caller chooses."""
        raise NotImplementedError(f"the caller chooses the id of a {self.kind} record")

    def belongs_under(self, id: str) -> bool:  # noqa: ARG002 - any id, unless a kind has a form for its ids
        """Returns whether the record can be stored under ``id``."""
        return True

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def read(cls, id: str, body: bytes) -> Self | Unreadable:
        """Returns the record that is stored under ``id``."""
        if not body:
            return Unreadable(cls.kind, id, "it has no body")
        try:
            record = cls.from_json(body)
            reason = None if record.belongs_under(id) else "its id does not match its content"
        except (msgspec.DecodeError, RecursionError) as exc:
            reason = str(exc)[:LONGEST_REASON]
        return record if reason is None else Unreadable(cls.kind, id, reason)

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Raises msgspec.DecodeError or RecursionError if ``body`` is not such a record."""
        return msgspec.json.decode(body, type=cls)


class NetworkRecord(StateRecord, frozen=True, kw_only=True):
    """A record about a network; the network is its id."""

    network: str

    def __post_init__(self) -> None:
        require_network(self.network)

    @property
    def id(self) -> str:
        return self.network

    def belongs_under(self, id: str) -> bool:
        return id == self.network

    def network_value(self) -> Network:
        return parse_network(self.network)


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

    def belongs_under(self, id: str) -> bool:
        return id == self.id


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


MANUAL = "manual"
FEED_AUTHOR = "feed "
"""Start of the names under which feeds allow and block networks. No token has such a name."""
DAY_S = 86400


class Members(msgspec.Struct, frozen=True, kw_only=True):
    """The clients that make a network guilty, and the innocents in it."""

    number: Number
    """Clients in it that rules have blocked."""
    named: tuple[str, ...]
    """The first of them, in order of their addresses, at most ten."""
    innocents: tuple[str, ...] = ()
    """Known clients in it that no rule has blocked, at most ten; of an IPv6 client, its /48."""
    merged: bool = False
    """True if fewer clients than the rules ask for sufficed, because the IP sets were nearly full."""


class Block(NetworkRecord, frozen=True, kw_only=True):
    """A network whose requests are refused, or answered by a softer response, until a given time."""

    kind: ClassVar[str] = "block"
    blocked_at: Seconds
    """Time of the block. Epoch seconds."""
    until: Seconds
    """First second at which its requests are no longer refused; 0: only softer responses apply. Epoch seconds."""
    rule: str = MANUAL
    """Name of the rule, or 'manual'."""
    offence: Number = 0
    """Number of the offence against the rule, from 1; 0 for a manual block."""
    evidence: Evidence | None = None
    comment: str = ""
    by: str = ""
    """The operator who made a manual block, or 'feed ' and the name of the feed that lists the network."""
    begun_at: Seconds = 0
    """Time since which the network has been blocked without a gap; 0: since ``blocked_at``. Epoch seconds."""
    softer: dict[Response, Seconds] = {}
    """First second at which each softer response is over, if that is later than all harder ones. Epoch seconds."""
    members: Members | None = None
    """Reason for the block of a guilty network; null for any other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network.endswith("/0"):
            raise ValueError(f"{self.network} is wider than /1, the widest that AWS WAF accepts")
        if Response.BLOCK in self.softer:
            raise ValueError("softer: block is not softer than itself")

    @classmethod
    def with_ends(cls, ends: Mapping[Response, int], **fields: Any) -> Self:
        """Returns a block with these ``ends``: for each response, the first second at which it is over."""
        return cls(until=ends.get(Response.BLOCK, 0), softer=_softer(ends), **fields)

    def with_other_ends(self, ends: Mapping[Response, int]) -> Self:
        """Returns the block with other ``ends``."""
        return replace(self, until=ends.get(Response.BLOCK, 0), softer=_softer(ends))

    @property
    def ends(self) -> dict[Response, int]:
        """The first second, by response, at which it is over; the hardest first."""
        return {Response.BLOCK: self.until, **self.softer} if self.until else dict(self.softer)

    @property
    def ends_at(self) -> int:
        """First second at which no response applies any more. Epoch seconds."""
        return max(self.until, *self.softer.values()) if self.softer else self.until

    @property
    def manual(self) -> bool:
        return self.rule == MANUAL

    @property
    def by_operator(self) -> bool:
        """True if an operator made it."""
        return self.manual and not self.by.startswith(FEED_AUTHOR)

    @property
    def refuses_from(self) -> int:
        return self.begun_at or self.blocked_at

    @property
    def refuses_until(self) -> int:
        """First second at which AWS WAF no longer answers its requests itself; 0 if it never does. Epoch seconds."""
        return max((end for response, end in self.ends.items() if response is not Response.WATCH), default=0)

    def in_force(self, now: int) -> bool:
        return now < self.ends_at

    def response_at(self, now: int) -> Response | None:
        """Returns the response at the epoch second ``now``, the hardest that is not over; None if all are."""
        applying = [response for response, end in self.ends.items() if now < end]
        return max(applying, key=hardness, default=None)


def _softer(ends: Mapping[Response, int]) -> dict[Response, int]:
    return {response: end for response, end in ends.items() if response is not Response.BLOCK}


OUTCOMES = ["blocked", "extended", "counted", "allowlisted", "proxy", "stale"]
"""Outcomes that a client's history keeps."""


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """The last offence of a client against one rule."""

    offence: Number
    """Number of the offence, from 1."""
    until: Seconds
    """Time until which the client is punished for it, or would have been. Epoch seconds."""
    outcome: Annotated[str, msgspec.Meta(extra_json_schema={"enum": OUTCOMES})]
    evidence: Evidence
    response: Response = Response.BLOCK
    answered_at: Seconds = 0
    """When a response softer than block began; 0 for a block. Epoch seconds."""


class History(NetworkRecord, frozen=True, kw_only=True):
    """A client's past offences, for escalation, and when its requests may have been refused."""

    kind: ClassVar[str] = "offence"
    refused_from: Seconds = 0
    """When the first of its recent blocks that have ended began; 0 if that is unknown. Epoch seconds."""
    ended_at: Seconds = 0
    """When the last of them ended; 0 if none did. Epoch seconds."""
    forgiven_at: Seconds = 0
    """When an operator last lifted a block of it: earlier requests do not count. Epoch seconds."""
    rules: dict[str, Past] = {}


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

    def belongs_under(self, id: str) -> bool:
        return id == self.id


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


class Allow(NetworkRecord, frozen=True, kw_only=True):
    """A network that is never published, or that some rules do not block."""

    kind: ClassVar[str] = "allow"
    comment: str = ""
    by: str = ""
    added_at: Seconds = 0
    """Time it was added. Epoch seconds."""
    expires_at: Seconds | None = None
    """First second at which it is no longer in force. Epoch seconds."""
    rules: tuple[str, ...] = ()
    """Names of the rules that do not block it; blocks by other rules are published. Empty: it is never published."""

    def in_force(self, now: int) -> bool:
        return self.expires_at is None or now < self.expires_at


class Feed(StateRecord, frozen=True, kw_only=True):
    """A feed, as it was checked last."""

    kind: ClassVar[str] = "feed"
    name: str
    url: str
    respond: Response | None = None
    """The response to its networks' requests; null if they are allowed."""
    checked_at: Seconds = 0
    """Time of the last check. Epoch seconds."""
    changed_at: Seconds = 0
    """Time at which the list in use was read first; 0 if none is in use. Epoch seconds."""
    networks: Number = 0
    """Networks in the list in use, the last one that could be used."""
    problem: str = ""
    """The reason why the last check did not lead to a list; empty if it did."""

    @property
    def id(self) -> str:
        return self.name

    def belongs_under(self, id: str) -> bool:
        return id == self.id


class FeedNetworks(StateRecord, frozen=True, kw_only=True):
    """The networks of a feed that are in use."""

    kind: ClassVar[str] = "feed-networks"
    name: str
    networks: tuple[str, ...]
    """At most 5,000, and during a check also those of the list before: they fit into an item."""

    def __post_init__(self) -> None:
        for network in self.networks:
            require_network(network)

    @property
    def id(self) -> str:
        return self.name

    def belongs_under(self, id: str) -> bool:
        return id == self.id


class StoredRules(StateRecord, frozen=True, kw_only=True):
    """A rule set as an operator wrote it."""

    kind: ClassVar[str] = "rule-set"
    text: str
    by: str = ""
    saved_at: Seconds = 0
    comment: str = ""

    def belongs_under(self, id: str) -> bool:
        return id == ACTIVE or (len(id) == VERSION_DIGITS and id.isascii() and id.isdigit())


ACTIVE = "active"
"""Id of the rule set in force."""

VERSION_DIGITS = 10


def version_id(version: int) -> str:
    """Returns the id under which a version of the rule set is kept; ids sort by version, and before ``ACTIVE``.

    >>> version_id(7)
    '0000000007'
    """
    return f"{version:0{VERSION_DIGITS}d}"


def version_number(rule_set: str) -> int:
    """Returns the version that a rule set is named by; 0 if it is named by a digest of its text, or not at all.

    >>> version_number("7"), version_number("9f86d081"), version_number("")
    (7, 0, 0)
    """
    return int(rule_set) if rule_set.isascii() and rule_set.isdigit() and len(rule_set) <= VERSION_DIGITS else 0


class Control(StateRecord, frozen=True, kw_only=True):
    """A record that exists once, under a fixed id."""

    kind: ClassVar[str] = "control"
    id: ClassVar[str]

    def belongs_under(self, id: str) -> bool:
        return id == self.id

    @classmethod
    def salvaged(cls, body: bytes) -> Self:
        """Returns as much as can be read of a damaged record: the other fields have their defaults."""
        values: dict[str, Any] = {}
        with suppress(msgspec.DecodeError, RecursionError):
            values = msgspec.json.decode(body, type=dict[str, Any])
        kept = {}
        for each in msgspec.structs.fields(cls):
            if each.name in values:
                with suppress(msgspec.ValidationError):
                    kept[each.name] = msgspec.convert(values[each.name], each.type)
        return cls(**kept)


class Pause(Control, frozen=True, kw_only=True):
    """The pause of enforcement."""

    id: ClassVar[str] = "pause"
    paused: bool = False
    release: bool = False
    """True if the IP sets are emptied as well."""
    at: Seconds = 0
    """Time of the last pause or resume; 0: never. Epoch seconds."""
    by: str = ""
    until: Seconds = 0
    """First second at which enforcement has resumed by itself; 0: it is paused until an operator resumes it. Epoch
    seconds."""
    comment: str = ""
    """The operator's reason."""

    @property
    def released(self) -> bool:
        return self.paused and self.release

    def as_of(self, now: int) -> "Pause":
        """Returns the pause in force at ``now``, in epoch seconds: none from its end on.

        >>> Pause(paused=True, until=10).as_of(9).paused, Pause(paused=True, until=10).as_of(10).paused
        (True, False)
        """
        return Pause(at=self.until, by=self.by) if self.paused and 0 < self.until <= now else self


class Breaker(Control, frozen=True, kw_only=True):
    """The circuit breaker."""

    id: ClassVar[str] = "breaker"
    open: bool = False
    """True if rules block no new client until an operator resets it."""
    at: Seconds = 0
    """Time at which it opened or was reset; 0: never. Epoch seconds."""
    would_block: Number = 0
    """Number of new blocks by rules, within a minute, that opened it."""
    ignore_until: Seconds = 0
    """Time until which it stays closed after a reset, because an operator has looked. Epoch seconds."""
    by: str = ""
    """The operator who reset it."""


class BlockLengths(Control, frozen=True, kw_only=True):
    """The prefix lengths of the stored blocks, by which the blocks of wider networks are found.

    It may name lengths that no longer occur, but never lacks one that does.
    """

    id: ClassVar[str] = "block-lengths"
    ipv4: dict[PrefixLength, Seconds] = {}
    ipv6: dict[PrefixLength, Seconds] = {}
    """By length, a time after which all such blocks are over. Epoch seconds."""

    def covers(self, blocks: Iterable[Block]) -> bool:
        """Returns whether the lengths of ``blocks`` are named, until their ends."""
        return self.with_blocks(blocks) is self

    def with_blocks(self, blocks: Iterable[Block]) -> "BlockLengths":
        """Returns the lengths with those of ``blocks``; the same object if they are named already.

        Ends are rounded up to a whole day, so that most blocks change nothing.
        """
        families = {4: self.ipv4, 6: self.ipv6}
        for block in blocks:
            network = block.network_value()
            ends = families[network.version]
            if ends.get(network.prefixlen, 0) < block.ends_at:
                end = (block.ends_at // DAY_S + 1) * DAY_S
                families[network.version] = {**ends, network.prefixlen: end}
        if families[4] is self.ipv4 and families[6] is self.ipv6:
            return self
        return BlockLengths(ipv4=families[4], ipv6=families[6])

    def wider(self, network: Network, since: int) -> list[Network]:
        """Returns the networks wider than ``network`` that contain it and may have had a block since ``since``."""
        ends = self.ipv4 if network.version == 4 else self.ipv6
        lengths = [length for length, end in ends.items() if length < network.prefixlen and end > since]
        return [network.supernet(new_prefix=length) for length in lengths]

    def narrower_until(self, network: Network) -> int:
        """Returns a time after which all blocks narrower than ``network`` are over; 0 if there were none."""
        ends = self.ipv4 if network.version == 4 else self.ipv6
        return max((end for length, end in ends.items() if length > network.prefixlen), default=0)


class Known(StateRecord, frozen=True, kw_only=True):
    """The client networks that were counted in one period (``known_clients``)."""

    kind: ClassVar[str] = "known"
    started_at: Seconds
    """Start of the period."""
    counted_since: Seconds
    """When counting began in this period: later than its start only if the memory of clients began in it."""
    halvings: Annotated[int, msgspec.Meta(ge=0, le=32)] = 0
    """Number of times that one half of all clients was left out, for want of room."""
    ipv4: bytes = b""
    """IPv4 addresses of 4 bytes, in order."""
    ipv6: bytes = b""
    """The first 6 bytes of IPv6 addresses, in order."""

    @property
    def id(self) -> str:
        return f"{self.started_at:010d}"

    def belongs_under(self, id: str) -> bool:
        return id == self.id


class RuleBreaker(StateRecord, frozen=True, kw_only=True):
    """The circuit breaker of one rule (``core.breaker``)."""

    kind: ClassVar[str] = "breaker"
    rule: str
    limit: Number = 0
    window_s: Number = 0
    """The rule's limit and window that are judged."""
    rule_set: Number = 0
    """The latest version of the rule set that is known to have them; 0 if none is known."""
    stopped_at: Seconds = 0
    """Time at which the rule was stopped; 0 while it is not. Epoch seconds."""
    would_hit: Number = 0
    """Number of known clients that it would have hit within ten minutes when it was stopped last."""
    known: Number = 0
    """Number of known clients at that time."""
    clients: tuple[str, ...] = ()
    """At most ten of the networks whose known clients it would have hit, the worst first."""
    hits: dict[str, Seconds] = {}
    """Known clients that it has hit in the last ten minutes, or would have, by mark, and when. Epoch seconds."""
    spared_until: Seconds = 0
    """Known clients that have waited since this time or earlier are spared; 0: no client is. Epoch seconds."""
    reset_at: Seconds = 0
    """Time of the last reset by an operator; 0: never. Epoch seconds."""
    ignore_until: Seconds = 0
    """Time until which the rule is not stopped after a reset. Epoch seconds."""
    by: str = ""
    """The operator who reset it."""
    minute: Number = 0
    """The latest minute in which it was paced, counted since the epoch."""
    paced: Number = 0
    """New blocks in this minute; those within one IPv6 /48 count as one."""
    paced_48s: tuple[str, ...] = ()
    """The /48's among them."""

    @property
    def id(self) -> str:
        return self.rule

    def belongs_under(self, id: str) -> bool:
        return id == self.id

    @property
    def changed_at(self) -> int:
        return max(self.stopped_at, self.spared_until, self.reset_at)


class Waiting(StateRecord, frozen=True, kw_only=True):
    """A detection with offenders that wait, because their rule is stopped or its pace is used up."""

    kind: ClassVar[str] = "waiting"
    rule: str
    detection: str
    """Id of the detection."""
    since: Seconds
    """When they began to wait. Epoch seconds."""
    worst: Number
    """The highest count of their requests in the window."""
    decided_above: Number | None = None
    """Offenders with a higher count have been decided about; null: none have."""

    def waits(self, count: int) -> bool:
        """Returns whether the detection's offenders with this count may still be waiting."""
        return self.decided_above is None or count <= self.decided_above

    @property
    def id(self) -> str:
        return f"{self.rule}/{self.detection}"

    def belongs_under(self, id: str) -> bool:
        return id == self.id


class Heartbeat(Control, frozen=True, kw_only=True):
    """The last sweep."""

    id: ClassVar[str] = "heartbeat"
    at: Seconds = 0
    blocks: Number = 0
    """Blocks in force."""
    lifted: Number = 0
    unreadable: tuple[Unreadable, ...] = ()
    """The first 100 records that cannot be read, by kind and id."""
    inspected: dict[str, str] = {}
    """For each kind, the id up to which it has been searched for such records; empty to begin again."""


class Publisher(Control, frozen=True, kw_only=True):
    """The publisher that follows the stream, and what it notes for the sweep."""

    id: ClassVar[str] = "publisher"
    name: str = ""
    """Name of the container that leads: the only one that may rely on its memory of the blocks."""
    at: Seconds = 0
    """When the following was noted. Epoch seconds."""
    blocks: Number = 0
    """Blocks in force."""
    ending: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=64)], ...] = ()
    """Networks whose blocks are over by then or end within two minutes, at most 5,000, the soonest first."""


class Guilty(msgspec.Struct, frozen=True, kw_only=True):
    """A guilty network (``core.networks``)."""

    network: str
    ends: dict[Response, Seconds]
    """First second at which it is no longer guilty enough for each response. Epoch seconds."""
    since: Seconds
    """Time since which the first of its members has been blocked. Epoch seconds."""
    members: Members

    def __post_init__(self) -> None:
        require_network(self.network)


class GuiltyNetworks(Control, frozen=True, kw_only=True):
    """The networks that the publisher, which knows all blocks, has found guilty. Enforce blocks them."""

    id: ClassVar[str] = "guilty"
    at: Seconds = 0
    """When it found them. Epoch seconds."""
    networks: tuple[Guilty, ...] = ()
    """At most 500, those with the most members first."""


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


class EarlierRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of a web ACL that is evaluated before Sluice's and may end the evaluation of a request."""

    name: str
    priority: Number
    effect: str
    """Its effect on the requests that it matches, in words."""
    may_allow: bool
    """True if it can let a request of a blocked client pass."""


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The place of Sluice's rules in one web ACL."""

    web_acl: str
    """Its name."""
    place: Number
    """1 if it is evaluated first; 0 if the web ACL has none of Sluice's rules."""
    rules: Number
    """Rules in the web ACL."""
    before: tuple[EarlierRule, ...] = ()
    """In the order of evaluation."""

    @property
    def bypassed(self) -> bool:
        """True if requests of blocked clients may pass."""
        return not self.place or any(rule.may_allow for rule in self.before)


class WebAcls(Control, frozen=True, kw_only=True):
    """The web ACLs to which setup added Sluice's rules, as an operator's command last found them."""

    id: ClassVar[str] = "web-acls"
    at: Seconds = 0
    """When it last found them; 0: never. Epoch seconds."""
    web_acls: tuple[Placed, ...] = ()


class Recall(Control, frozen=True, kw_only=True):
    """A publisher's call to itself: there is more to publish as soon as AWS accepts it."""

    id: ClassVar[str] = "recall"
    nonce: str = ""
    """Different each time, because the stream does not report a record that is rewritten unchanged."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call of the admin API, ready to be made."""

    method: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["PUT", "POST", "DELETE"]})]
    path: str
    """Path below the address of the API, such as /v1/blocks."""
    query: dict[str, list[str]] = {}
    """Values of each parameter."""
    headers: dict[str, str] = {}
    """Headers other than Authorization."""
    body: dict[str, Any] | None = None
    """JSON body, or null if there is none."""


class Audit(StateRecord, frozen=True, kw_only=True):
    """A change made by an operator, or the end of a pause. Ids ascend with time."""

    kind: ClassVar[str] = "audit"
    at_ms: Milliseconds
    """Time of the change. Epoch milliseconds."""
    by: str
    """Name of the token, or ARN."""
    address: str
    """Address the call came from; empty for the end of a pause."""
    request: str
    """API Gateway's id of the call; empty for the end of a pause."""
    action: str
    """Such as allowlist.put or block.delete."""
    target: str
    """The network, rule set or control that was changed."""
    detail: str
    """The change in words."""
    undo: Call | None = None


class Receipt(StateRecord, frozen=True, kw_only=True):
    """The answer to a call that came with an idempotency key; the id stands for caller and key."""

    kind: ClassVar[str] = "receipt"
    request: str
    """Digest of the call."""
    answer: str
    """JSON."""


RECORDS: tuple[type[StateRecord], ...] = (
    Detection,
    Block,
    History,
    Allow,
    Feed,
    FeedNetworks,
    StoredRules,
    Known,
    RuleBreaker,
    Waiting,
    Events,
    Warned,
    Audit,
    Receipt,
)
CONTROLS: tuple[type[Control], ...] = (
    Pause,
    Breaker,
    BlockLengths,
    Heartbeat,
    Publisher,
    GuiltyNetworks,
    Unannounced,
    WebAcls,
    Recall,
)


def record_type(kind: str, id: str) -> type[StateRecord] | None:
    """Returns the type of the records of a kind, of which ``control`` has one per id; None if there is none."""
    return _CONTROLS.get(id) if kind == Control.kind else _RECORDS.get(kind)


_RECORDS = {of.kind: of for of in RECORDS}
_CONTROLS = {of.id: of for of in CONTROLS}
