"""From offences to detections: one record per batch and rule, however many clients it names."""

from collections.abc import Iterable, Sequence

from chalicelib.core.addresses import network_of
from chalicelib.core.rules import Rule
from chalicelib.core.state import Detection, Offender, Terms
from chalicelib.core.windows import Offence

MOST_OFFENDERS = 1000
"""In one detection; more are split over several, which keeps an item far below DynamoDB's 400 KB."""

QUIET_MS = 10_000
MOST_ANNOUNCED = 50_000


class Announced:
    """Remembers what this container has just reported, so that an attack is not reported again with every batch.

    An offence is left out only if its requests began before the block for the last one can have ended, and for at
    most ``QUIET_MS``: whatever made the enforcer ignore it (a pause, an allowlist entry) may be over by then.
    """

    def __init__(self) -> None:
        self._quiet_until: dict[tuple[str, str, bytes], int] = {}

    def fresh(self, offences: Iterable[Offence]) -> list[Offence]:
        return [o for o in offences if o.since_ms >= self._quiet_until.get(_who(o), 0)]

    def add(self, offences: Sequence[Offence], now_ms: int) -> None:
        if len(self._quiet_until) > MOST_ANNOUNCED:
            self._quiet_until = {who: until for who, until in self._quiet_until.items() if until > now_ms}
        if len(self._quiet_until) > MOST_ANNOUNCED:
            self._quiet_until.clear()
        for offence in offences:
            quiet_ms = min(offence.rule.block_for_s * 1000, QUIET_MS)
            self._quiet_until[_who(offence)] = offence.last_ms + quiet_ms


def _who(offence: Offence) -> tuple[str, str, bytes]:
    return offence.rule.name, offence.source, offence.client


def detections_of(
    offences: Iterable[Offence], *, place: str, rule_set: str, detected_ms: int, arrived_ms: int
) -> list[Detection]:
    """``place`` names the log and offset the batch was counted at; with the rule it makes up the ids."""
    groups: dict[tuple[Rule, str], list[Offence]] = {}
    for offence in offences:
        groups.setdefault((offence.rule, offence.source), []).append(offence)
    detections = []
    for (rule, _), members in groups.items():
        for part in range(0, len(members), MOST_OFFENDERS):
            some = members[part : part + MOST_OFFENDERS]
            detections.append(
                Detection(
                    id=f"{place}/{rule.name}/{some[0].source}" + (f"/{part}" if part else ""),
                    terms=terms_of(rule, rule_set),
                    source=some[0].source,
                    offenders=tuple(map(_offender, some)),
                    detected_ms=detected_ms,
                    arrived_ms=arrived_ms,
                )
            )
    return detections


def terms_of(rule: Rule, rule_set: str) -> Terms:
    return Terms(
        name=rule.name,
        limit=rule.limit,
        window_s=rule.window_s,
        action=rule.action,
        block_for_s=rule.block_for_s,
        escalate=rule.escalate,
        extend=rule.extend,
        rule_set=rule_set,
    )


def _offender(offence: Offence) -> Offender:
    network = network_of(offence.client, *offence.rule.prefixes)
    return Offender(str(network), offence.count, offence.first_ms, offence.last_ms, offence.since_ms)
