"""Roll-ups: the sums of tallies for quotas, in slots of a quarter of an hour."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import roll_ups
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.roll_ups import SLOT_MS, entries, finest_slots, for_quotas, packed, rolled_up, summed
from chalicelib.core.rules import Meter, RuleSet, refusals_topic
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.tally import Tally, count, unpack

RULES = parse_rules("".join(f'[[rule]]\nname = "q{days}"\nlimit = 9\nwindow = "{days}d"\n' for days in (7, 31)))
METER = RULES.rules[0].meter
TOPIC = METER.topic
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
    stored = [part for tally in summed(tallies) for body in packed(tally) for part in unpack(body)]
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
    parts = list(packed(rolled_up([counted(requests, 50)], [TOPIC])))
    assert len(parts) > 2
    assert max(map(len, parts)) <= 400
    assert totals([part for body in parts for part in unpack(body)]).total() == len(requests)


@given(st.lists(made, min_size=1, max_size=4), st.sampled_from([1, 2, 5]))
def test_counts_are_added_up_in_pieces_with_each_client_in_one(
    batches: list[list[tuple[bytes, int]]], piece: int
) -> None:
    tallies = [
        [counted(batch, SLOT_MS), MeterTally.of(Source.CLOUDFRONT, METER.refusals(), counted(batch, SLOT_MS).clients())]
        for batch in batches
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roll_ups, "PIECE", piece)
        pieces = list(summed(tallies))
    assert sum(map(totals, pieces), Counter()) == totals([part for tally in tallies for part in tally])
    clients = [{key for part in each for key in part.keys()} for each in pieces]  # noqa: SIM118
    assert sum(map(len, clients)) == len(set().union(*clients))
    assert all(len({(part.source, part.topic) for part in each}) == len(each) == 2 for each in pieces)


def test_a_piece_of_many_clients_is_as_large_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_ups, "PIECE", 1000)
    batches = [[(number.to_bytes(4, "big"), START_MS) for number in range(first, 10_000, 2)] for first in (0, 1)]
    again = [[counted(batch, SLOT_MS)] for batch in batches * 5]
    *sizes, _ = [entries([piece]) for piece in summed(again)]
    assert min(sizes) >= 500
    assert max(sizes) < 1500


def test_nothing_has_no_parts() -> None:
    assert list(summed([])) == list(summed([[]])) == []
    assert finest_slots(RuleSet(())) == {}
