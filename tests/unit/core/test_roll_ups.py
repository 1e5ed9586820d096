"""Roll-ups: the sums of tallies for quotas, in slots of a quarter of an hour."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import roll_ups
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.roll_ups import SLOT_MS, bodies, finest_slots, for_quotas, rolled_up
from chalicelib.core.rules import Meter, RuleSet, refusals_topic
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.tally import Tally, count, unpack

RULES = parse_rules("".join(f'[[rule]]\nname = "q{days}"\nlimit = 9\nwindow = "{days}d"\n' for days in (7, 31)))
TOPIC = RULES.rules[0].meter.topic
START_MS = 1_760_000_000_000
made = st.lists(
    st.tuples(st.sampled_from([b"aaaa", b"bbbb", b"c" * 16]), st.integers(START_MS, START_MS + 3 * SLOT_MS)), min_size=1
)


def counted(requests: list[tuple[bytes, int]], slot_ms: int, meter: Meter = RULES.rules[0].meter) -> MeterTally:
    finer = Meter(meter.scope, *meter.prefixes, slot_ms)
    keys, times = zip(*requests, strict=True)
    return MeterTally.of(Source.CLOUDFRONT, finer, count(keys, times, slot_ms))


def totals(tally: Tally) -> Counter[tuple[bytes, int, int]]:
    """Returns the requests by client, slot length and slot."""
    sums: Counter[tuple[bytes, int, int]] = Counter()
    for part in tally:
        for client, slots in part.clients().items():
            sums.update({(client, part.slot_ms, slot): number for slot, number in slots.items()})
    return sums


@given(st.lists(made, min_size=1, max_size=4), st.sampled_from([1, 50, SLOT_MS]))
def test_a_roll_up_has_each_request_once_in_its_quarter_of_an_hour(
    batches: list[list[tuple[bytes, int]]], slot_ms: int
) -> None:
    tallies = [rolled_up([counted(batch, slot_ms)], [TOPIC]) for batch in batches]
    stored = [part for body in bodies(tallies) for part in unpack(body)]
    assert totals(stored) == Counter((client, SLOT_MS, ms // SLOT_MS) for batch in batches for client, ms in batch)
    hour = for_quotas(stored, finest_slots(RULES))
    assert totals(hour) == Counter((client, 3_600_000, ms // 3_600_000) for batch in batches for client, ms in batch)


def test_a_topic_that_was_counted_at_two_slot_lengths_enters_once() -> None:
    requests = [(b"aaaa", START_MS)]
    tally = rolled_up([counted(requests, 50), counted(requests, 1000)], [TOPIC])
    assert totals(tally) == {(b"aaaa", SLOT_MS, START_MS // SLOT_MS): 1}


def test_only_topics_of_quotas_are_rolled_up_and_their_refusals_are() -> None:
    (other,) = parse_rules('[[rule]]\nname = "r"\nlimit = 9\nwindow = "5s"\nscope = { path = ["/a"] }').rules
    refused = counted([(b"aaaa", START_MS)], SLOT_MS)
    parts = [
        counted([(b"aaaa", START_MS)], 50, other.meter),
        MeterTally.of(Source.CLOUDFRONT, RULES.rules[0].meter.refusals(), refused.clients()),
    ]
    assert [part.topic for part in rolled_up(parts, [TOPIC])] == [refusals_topic(TOPIC)]


def test_a_large_roll_up_is_cut_into_parts_that_fit_into_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_ups, "LARGEST_BODY", 400)
    requests = [(number.to_bytes(4, "big"), START_MS + number) for number in range(0, 400_000, 1000)]
    parts = bodies([rolled_up([counted(requests, 50)], [TOPIC])])
    assert len(parts) > 2
    assert max(map(len, parts)) <= 400
    assert totals([part for body in parts for part in unpack(body)]).total() == len(requests)


def test_nothing_has_no_parts() -> None:
    assert bodies([]) == []
    assert finest_slots(RuleSet(())) == {}
