"""Detections made from offences: one record per evaluation, rule and source, of up to ``MOST_OFFENDERS`` clients."""

from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from itertools import islice

from chalicelib.core.addresses import network_of
from chalicelib.core.logs.requests import Source
from chalicelib.core.portraits import RecentPortraits
from chalicelib.core.rules import Action, Rule
from chalicelib.core.state.detections import Detection, Offender, Terms
from chalicelib.core.view import Offence, Quiet

MOST_OFFENDERS = 1000
"""Most clients in one detection; more are split over several, to keep an item far below DynamoDB's 400 KB."""

MOST_PORTRAYED = 50
"""Most clients with a portrait in one detection, those with the most requests: at most 2 kB each."""

QUIET_MS = 10_000
"""Longest time, in milliseconds, for which an offence is not reported again."""

MOST_ANNOUNCED = 50_000
"""Most clients remembered per container, about 15 MB. Beyond that, those announced longest ago are forgotten."""


class Announced(Quiet):
    """The offences that this container has just reported, so that an attack is not reported with every batch.

    An offence is skipped only if its requests began before a block for the previous one can have ended, and for at most
    ``QUIET_MS``, because the enforcer's reason to ignore it (a pause, an allowlist entry, an earlier block that ends
    meanwhile) may no longer apply. A client that continues is reported as soon as its later requests alone are over the
    limit. A report of requests that Sluice refused itself hides no offence by requests that were served.
    """

    def __init__(self) -> None:
        self._quiet_until: dict[_Announcement, int] = {}
        self._served_quiet_until: dict[_Announcement, int] = {}
        """Only for clients whose last report was of refusals; for the others, it is the same."""

    def until_ms(self, rule: Rule, source: Source, client: bytes) -> int:
        """Returns epoch milliseconds: an offence is reported only if it began then or later."""
        return self._quiet_until.get((rule.name, source, client), 0)

    def served_until_ms(self, rule: Rule, source: Source, client: bytes) -> int:
        """Returns the same for offences by served requests alone."""
        key = rule.name, source, client
        until_ms = self._served_quiet_until.get(key)
        return self._quiet_until.get(key, 0) if until_ms is None else until_ms

    def differ(self) -> bool:
        return bool(self._served_quiet_until)

    def fresh(self, offences: Iterable[Offence]) -> list[Offence]:
        """Returns the offences to report."""
        return [o for o in offences if o.since_ms >= self.until_ms(o.rule, o.source, o.client) or self._served_again(o)]

    def add(self, offences: Iterable[Offence]) -> None:
        """Notes offences that are reported."""
        for offence in offences:
            key = offence.rule.name, offence.source, offence.client
            if self._served_again(offence):
                self._served_quiet_until.pop(key, None)
            else:
                self._served_quiet_until.setdefault(key, self._quiet_until.get(key, 0))
            self._quiet_until.pop(key, None)  # so that the order is that of the announcements
            self._quiet_until[key] = offence.last_ms + quiet_ms(offence.rule)
        for key in list(islice(self._quiet_until, max(0, len(self._quiet_until) - MOST_ANNOUNCED))):
            del self._quiet_until[key]
            self._served_quiet_until.pop(key, None)

    def forget(self, before_ms: Mapping[str, int]) -> None:
        """Has offences reported again whose last report was of requests made before a time, by name of the rule."""
        for key in [key for key, until_ms in self._quiet_until.items() if until_ms < before_ms.get(key[0], 0)]:
            del self._quiet_until[key]
            self._served_quiet_until.pop(key, None)

    def _served_again(self, offence: Offence) -> bool:
        """Returns whether the requests served since their quiet time alone are over the limit."""
        since_ms = offence.served_since_ms or offence.since_ms
        return since_ms >= self.served_until_ms(offence.rule, offence.source, offence.client)


def quiet_ms(rule: Rule) -> int:
    """Returns the time after a reported offence, in milliseconds, within which no block for it can have ended.

    The block may be decided as soon as the offence's last slot has begun, and counts from the whole second.
    """
    return max(0, min(rule.block_for_s * 1000 - rule.slot_ms - 1000, QUIET_MS))


_Announcement = tuple[str, Source, bytes]
"""Rule, source and client."""


def detections_of(
    offences: Iterable[Offence],
    *,
    log: str,
    offset: int,
    rule_set: str,
    detected_ms: int,
    arrived_ms: int,
    portraits: RecentPortraits | None = None,
) -> list[Detection]:
    """Returns the detections of one evaluation, named after the item at ``offset`` of ``log``."""
    groups: dict[tuple[Rule, Source], list[Offence]] = {}
    for offence in offences:
        groups.setdefault((offence.rule, offence.source), []).append(offence)
    return [
        Detection(
            id=detection_id(log, offset, rule.name, source, part),
            terms=terms_of(rule, rule_set, rule.action_at(detected_ms)),
            source=source,
            offenders=_offenders(members[part : part + MOST_OFFENDERS], portraits),
            detected_ms=detected_ms,
            arrived_ms=arrived_ms,
        )
        for (rule, source), members in groups.items()
        for part in range(0, len(members), MOST_OFFENDERS)
    ]


def detection_id(log: str, offset: int, rule: str, source: str, part: int) -> str:
    """Returns the id of a detection; ids of one log sort by offset.

    >>> detection_id("logs/shardId-0@1760000000000", 7, "burst", "cloudfront", 0)
    'logs/shardId-0@1760000000000/000000000007/burst/cloudfront'
    """
    return f"{log}/{offset:012d}/{rule}/{source}" + (f"/{part}" if part else "")


def detection_ids_since(log: str, offset: int) -> tuple[str, str]:
    """Returns exclusive bounds of the ids of a log's detections from ``offset`` on."""
    return f"{log}/{offset:012d}", f"{log}0"  # "0" is the character after "/"


def terms_of(rule: Rule, rule_set: str, action: Action) -> Terms:
    return Terms(
        name=rule.name,
        limit=rule.limit,
        window_s=rule.window_s,
        action=action,
        block_for_s=rule.block_for_s,
        escalate=rule.escalate,
        extend=rule.extend,
        rule_set=rule_set,
        rate=str(rule.rate or ""),
        measure=str(rule.measure),
        respond=rule.respond,
    )


def _offenders(offences: Sequence[Offence], portraits: RecentPortraits | None) -> tuple[Offender, ...]:
    """Returns the clients of one detection, the busiest with their portraits."""
    busiest = {id(offence) for offence in nlargest(MOST_PORTRAYED, offences, key=lambda offence: offence.count)}
    return tuple(_offender(offence, portraits if id(offence) in busiest else None) for offence in offences)


def _offender(offence: Offence, portraits: RecentPortraits | None) -> Offender:
    network = str(network_of(offence.client, *offence.rule.prefixes))
    return Offender(
        network=network,
        count=offence.count,
        first_ms=offence.first_ms,
        last_ms=offence.last_ms,
        since_ms=offence.since_ms,
        served_since_ms=offence.served_since_ms,
        portrait=None if portraits is None else portraits.portrait(offence.source, network, offence.last_ms),
    )
