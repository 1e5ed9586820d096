"""Which offences are reported again, and what a detection says of them."""

from dataclasses import replace

import pytest

from chalicelib.core.detections import QUIET_MS, Announced, detections_of
from chalicelib.core.logs.requests import Source
from chalicelib.core.measures import Measure
from chalicelib.core.portraits import Drawn, Portrait, RecentPortraits
from chalicelib.core.rates import Rate
from chalicelib.core.rules import Action, Rule
from chalicelib.core.state.detections import SERVED_WITHIN_LIMIT, Detection
from chalicelib.core.view import Offence

RULE = Rule(name="burst", limit=50, window_s=5)
AT_MS = 1_760_000_000_000


def offence(since_ms: int, served_since_ms: int = 0) -> Offence:
    """Returns an offence at times relative to ``AT_MS``, which lasts a second."""
    served_ms = AT_MS + served_since_ms if served_since_ms > 0 else served_since_ms
    since_ms += AT_MS
    return Offence(RULE, Source.CLOUDFRONT, b"aaaa", 51, since_ms - 900, since_ms + 1000, since_ms, served_ms)


def is_reported(announced: Announced, *offences: Offence) -> bool:
    """Reports each of ``offences`` if it is fresh; returns whether the last one was."""
    for each in offences:
        fresh = announced.fresh([each])
        announced.add(fresh)
    return bool(fresh)


def test_an_offence_is_reported_again_once_its_requests_alone_suffice_after_the_quiet_time() -> None:
    announced = Announced()
    assert is_reported(announced, offence(0))
    assert not is_reported(announced, offence(QUIET_MS))
    assert is_reported(announced, offence(QUIET_MS + 1000))


@pytest.mark.parametrize(
    ("block_for_s", "slot_s", "quiet_s"), [(1, 0.05, 0), (10, 0.05, 8.95), (10, 6, 3), (60, 6, 10)]
)
def test_no_offence_after_the_shortest_block_for_the_previous_one_is_skipped(
    block_for_s: int, slot_s: float, quiet_s: float
) -> None:
    """The requests may have been made as soon as their slot began, and the block with the whole second before."""
    rule = Rule(name="r", limit=50, window_s=60, resolution=round(60 / slot_s), block_for_s=block_for_s)
    first = replace(offence(0), rule=rule)
    announced = Announced()
    announced.add([first])
    after_ms = first.last_ms + round(quiet_s * 1000)
    assert announced.fresh([replace(first, since_ms=after_ms, last_ms=after_ms)])
    assert not announced.fresh([replace(first, since_ms=after_ms - 1)])
    earliest_end_ms = first.last_ms - rule.slot_ms - 1000 + 1000 * block_for_s
    assert after_ms <= max(first.last_ms, earliest_end_ms)


def test_a_report_of_refusals_hides_no_offence_by_served_requests() -> None:
    refused, served = offence(11_000, SERVED_WITHIN_LIMIT), offence(14_000, 13_000)
    announced = Announced()
    assert is_reported(announced, offence(0), refused)
    assert not is_reported(announced, replace(served, served_since_ms=SERVED_WITHIN_LIMIT))
    assert is_reported(announced, served)
    assert not is_reported(announced, served)


def test_served_requests_that_were_reported_are_not_reported_with_each_report_of_refusals() -> None:
    announced = Announced()
    assert is_reported(announced, offence(0, 100))
    assert not is_reported(announced, offence(2_000, 100))
    assert is_reported(announced, offence(12_000, 100), offence(11_500, 11_400))


def test_of_too_many_clients_those_announced_longest_ago_are_forgotten_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chalicelib.core.detections.MOST_ANNOUNCED", 3)
    offences = [replace(offence(0), client=client) for client in (b"aaaa", b"bbbb", b"cccc", b"dddd")]
    announced = Announced()
    announced.add(offences[:3])
    announced.add([replace(offences[0], since_ms=AT_MS + 20_000, last_ms=AT_MS + 21_000), offences[3]])
    assert [each.client for each in announced.fresh(offences)] == [b"bbbb"]


def test_a_detection_says_since_when_served_requests_alone_are_over_the_limit() -> None:
    (detection,) = detections_of(
        [offence(14_000, 13_000)], log="l@1", offset=1, rule_set="7", detected_ms=1, arrived_ms=1
    )
    (offender,) = detection.offenders
    assert offender.served_since_ms == AT_MS + 13_000


@pytest.mark.parametrize(("detected_s", "action"), [(9, Action.COUNT), (10, Action.BLOCK)])
def test_a_paused_rule_only_counts_what_is_detected_before_the_end_of_its_pause(
    detected_s: int, action: Action
) -> None:
    paused = replace(offence(0), rule=replace(RULE, paused_until=10))
    (detection,) = detections_of(
        [paused], log="l@1", offset=1, rule_set="7", detected_ms=detected_s * 1000, arrived_ms=1
    )
    assert detection.terms.action is action


def test_a_detection_says_what_its_rule_counts_and_at_which_rate() -> None:
    bucket = Rule(name="r", limit=50, window_s=60, rate=Rate(2, 1), measure=Measure.BYTES)
    for each, terms in ((bucket, ("2/s", "bytes")), (RULE, ("", "requests"))):
        (detection,) = detections_of(
            [replace(offence(0), rule=each)], log="l@1", offset=1, rule_set="7", detected_ms=1, arrived_ms=1
        )
        assert (detection.terms.rate, detection.terms.measure) == terms


def test_the_busiest_clients_of_a_detection_have_their_portraits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.core.detections.MOST_PORTRAYED", 2)
    networks = {bytes([192, 0, 2, host]): f"192.0.2.{host}/32" for host in range(1, 5)}
    counts = dict(zip(networks, (7, 9, 6, 8), strict=True))
    offences = [replace(offence(0), client=client, count=count) for client, count in counts.items()]
    portraits = RecentPortraits()
    portraits.add([Drawn(Source.CLOUDFRONT, network, Portrait(requests=1)) for network in networks.values()], AT_MS)
    (detection,) = detections_of(
        offences, log="l@1", offset=1, rule_set="7", detected_ms=1, arrived_ms=1, portraits=portraits
    )
    portrayed = {offender.network for offender in detection.offenders if offender.portrait is not None}
    assert portrayed == {"192.0.2.2/32", "192.0.2.4/32"}
    assert Detection.from_json(detection.to_json()) == detection
