"""Announcements of events and of changes by operators, as the log and EventBridge carry them."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from chalicelib.core.addresses import parse_network
from chalicelib.core.rules import NETWORKS
from chalicelib.core.state.detections import Evidence
from chalicelib.core.state.events import Event
from chalicelib.core.state.operators import Audit
from chalicelib.core.wording import RESPONSES, event_detail, plural

SOURCE = "sluice"
"""Source of all announcements in EventBridge."""

CLIENT_BLOCKED, CLIENT_UNBLOCKED, WOULD_BE_BLOCKED = "Client Blocked", "Client Unblocked", "Client Would Be Blocked"
NETWORK_BLOCKED, NETWORK_UNBLOCKED = "Network Blocked", "Network Unblocked"
BREAKER_OPENED, BREAKER_RESET = "Breaker Opened", "Breaker Reset"
SETS_FULL, LOG_UNREADABLE = "IP Sets Nearly Full", "Log Unreadable"
SUMMARISED = "Events Summarised"

WARNINGS = {"full": SETS_FULL, "unreadable": LOG_UNREADABLE}
"""Type of the announcement of a warning, by its outcome."""

CHANGES = {
    "pause": "Enforcement Paused",
    "resume": "Enforcement Resumed",
    "rules": "Rules Changed",
    "allowlist": "Allowlist Changed",
    "breaker": BREAKER_RESET,
}
"""Type of the announcement of a change by an operator, by the first word of its action in the audit.

Blocks by operators are events, so their audit is not announced.
"""

TYPES = (
    *(CLIENT_BLOCKED, CLIENT_UNBLOCKED, WOULD_BE_BLOCKED),
    *(NETWORK_BLOCKED, NETWORK_UNBLOCKED),
    *(BREAKER_OPENED, BREAKER_RESET),
    *WARNINGS.values(),
    *(each for each in CHANGES.values() if each != BREAKER_RESET),
    SUMMARISED,
)
"""All types of announcements: the detail types in EventBridge."""

MOST_COUNTS = 20
"""Most counts in a summary, the largest ones."""


class AnnouncedCount(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one type against one rule within a minute."""

    type: str
    rule: str
    number: int


class Announcement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The detail of an EventBridge event. Times are in ISO 8601, in UTC. Members that do not apply are left out."""

    version: int
    """Version of this form; members may be added to it."""
    id: str
    """Unique, and the same whenever the announcement is sent again; for an event, its id in the history."""
    stage: str
    """The setting SERVICE, such as sluice-prod."""
    type: str
    at: str
    """When it was decided."""
    title: str
    """The announcement in a few words, at most 250 characters."""
    text: str
    """Why, until when and by whom, in words."""
    network: str = ""
    family: int = 0
    """4 or 6."""
    rule: str = ""
    """Name of the rule, or 'manual'."""
    outcome: str = ""
    """As in the history."""
    response: str = ""
    offence: int = 0
    number: int = 0
    """Offences or clients that it stands for."""
    since: str = ""
    until: str = ""
    evidence: Evidence | None = None
    action: str = ""
    """Action of a change by an operator, as in the audit."""
    by: str = ""
    comment: str = ""
    counts: tuple[AnnouncedCount, ...] = ()
    """The largest counts of a summary."""

    @property
    def about_clients(self) -> bool:
        """True if clients can cause any number of such announcements."""
        return self.type in ABOUT_CLIENTS


ABOUT_CLIENTS = frozenset((CLIENT_BLOCKED, CLIENT_UNBLOCKED, WOULD_BE_BLOCKED, NETWORK_BLOCKED, NETWORK_UNBLOCKED))


def type_of(event: Event) -> str:
    """Returns the type of the announcement of an event."""
    match event.outcome:
        case "blocked":
            return NETWORK_BLOCKED if event.rule == NETWORKS else CLIENT_BLOCKED
        case "ended":
            return NETWORK_UNBLOCKED if event.rule == NETWORKS else CLIENT_UNBLOCKED
        case "stopped":
            return BREAKER_OPENED
        case "resumed":
            return BREAKER_RESET
        case "full" | "unreadable":
            return WARNINGS[event.outcome]
        case _:
            return WOULD_BE_BLOCKED


def of_event(event: Event, id: str, at_ms: int, stage: str) -> Announcement:
    """Returns the announcement of an event that was decided at ``at_ms``; ``id``: its id in the history."""
    until = _iso(event.until) if event.until else ""
    detail = f"{'Ended ' if event.outcome == 'ended' else ''}{event_detail(event)}"
    sentences = [detail] if not event.network or event.outcome == "ended" else [detail, _ending(event, until)]
    return Announcement(
        version=1,
        id=id,
        stage=stage,
        type=type_of(event),
        at=_iso(at_ms // 1000),
        title=_title(event, stage),
        text=". ".join(each for each in sentences if each) + ".",
        network=event.network,
        family=parse_network(event.network).version if event.network else 0,
        rule=event.rule,
        outcome=event.outcome,
        response="" if event.outcome in ("stopped", "resumed", "unreadable") else event.response,
        offence=event.offence,
        number=event.number,
        since=_iso(event.since) if event.since else "",
        until=until,
        evidence=event.evidence,
        by=event.by,
        comment=event.comment,
    )


def of_change(audit: Audit, id: str, stage: str) -> Announcement | None:
    """Returns the announcement of a change by an operator, stored under ``id``; None if it is not announced as such."""
    type = CHANGES.get(audit.action.partition(".")[0])
    if type is None:
        return None
    return Announcement(
        version=1,
        id=f"change/{id}",
        stage=stage,
        type=type,
        at=_iso(audit.at_ms // 1000),
        title=f"{stage}: {type.lower()} by {audit.by}"[:250],
        text=f"{audit.target}: {audit.detail}.",
        action=audit.action,
        by=audit.by,
    )


def summary(minute: int, events: Mapping[tuple[str, str], int], stage: str) -> Announcement:
    """Returns the summary of a minute's events.

    ``minute``: its start in epoch seconds. ``events``: the number of events by type and rule.
    """
    total = sum(events.values())
    largest = Counter(events).most_common(MOST_COUNTS)
    words = ", ".join(f"{number:,} {type.lower()} ({rule})" for (type, rule), number in largest)
    others = total - sum(number for _, number in largest)
    return Announcement(
        version=1,
        id=f"minute/{minute}",
        stage=stage,
        type=SUMMARISED,
        at=_iso(minute),
        title=f"{stage}: {plural(total, 'event')} within a minute",
        text=f"{words}{f', and {others:,} others' if others else ''}. Not all are announced one by one; "
        "'sluice history' lists them.",
        number=total,
        counts=tuple(AnnouncedCount(type=type, rule=rule, number=number) for (type, rule), number in largest),
    )


def _title(event: Event, stage: str) -> str:
    clients, response = event.network or plural(event.number, "client"), RESPONSES[event.response]
    titles = {
        "blocked": f"{clients} {response}",
        "ended": f"{clients} not {response} any more",
        "counted": f"{clients} would be {response}",
        "stopped": f"rule {event.rule} is stopped",
        "resumed": f"rule {event.rule} blocks again",
        "full": "IP sets are nearly full",
        "unreadable": "logs cannot be read",
    }
    return f"{stage}: {titles.get(event.outcome, f'{clients} not {response} ({event.outcome})')}"


def _ending(event: Event, until: str) -> str:
    return f"{'Until' if event.outcome == 'blocked' else 'It would last until'} {until}" if until else ""


def _iso(seconds: int) -> str:
    """Returns a time in ISO 8601; ``seconds``: epoch seconds.

    >>> _iso(1_760_000_000)
    '2025-10-09T08:53:20Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
