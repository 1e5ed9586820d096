"""Floods of addresses: cost and memory do not grow with what an attacker can make up (G4). Counted, not timed."""

import sys
import tracemalloc
from functools import partial
from ipaddress import IPv6Address
from random import Random

import pytest

from chalicelib import bootstrap
from chalicelib.core import roll_ups
from chalicelib.core.addresses import MEMO_ENTRIES
from chalicelib.core.detections import MOST_ANNOUNCED, MOST_OFFENDERS
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.detections import Detection
from chalicelib.core.tally import Tallier, pack
from chalicelib.core.view import View
from chalicelib.pipeline import quotas as quotas_module
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.quotas import Quotas
from chalicelib.pipeline.rule_breakers import stopped_rules
from chalicelib.pipeline.stored import State
from chalicelib.ports import LogItem
from sluice.local.stores import MemoryRollUps, MemoryTallyLogs
from tests.support.attacks import PER_BATCH, PREFIX, batches
from tests.support.known import remember
from tests.support.target import HONEYPOT, NOW, Target, line

WHOLE_ADDRESSES = """
[[rule]]
name = "burst"
limit = 20
window = "5s"
aggregate = { ipv6 = 128 }
"""
SLOTS_A_SECOND = 20
"""Slots per second of a window of five seconds."""

KEPT_S = 120 + 60 + 15 + 60
"""Reach of a view: the lateness, the longest window, a stretch, and a minute's batch, which is dropped as a whole."""


def test_g4_a_million_addresses_of_one_network_are_one_client() -> None:
    rng, target = Random(1), Target()
    addresses = iter(lambda: PREFIX + rng.getrandbits(64), None)
    for records in batches(addresses, 100):
        assert target.ingest(records).requests == PER_BATCH
        target.evaluate()
        target.now += 10
    (rule, _) = target.rule_set.rules
    assert dict(target.view.clients(Source.CLOUDFRONT, rule)).keys() == {PREFIX.to_bytes(16, "big")}
    assert target.view.entries <= KEPT_S * SLOTS_A_SECOND
    assert target.logs.write_units <= 100, "one per batch"
    assert target.blocked() == {"2001:db8::/64"}
    assert len(target.services.ingest._decoder.cloudfront._addresses) <= MEMO_ENTRIES + PER_BATCH


def test_g4_always_new_networks_cost_bytes_but_no_writes_of_their_own() -> None:
    rng = Random(2)
    target = Target(settings={"VIEW_ENTRIES": "30000"})
    addresses = iter(lambda: PREFIX + (rng.getrandbits(32) << 64), None)
    dropped = most = 0
    for records in batches(addresses, 10):
        target.ingest(records)
        report = target.evaluate()
        target.now += 10
        dropped += report.dropped
        most = max(most, report.view_entries)
        assert report.detections == []
    assert most <= 30_000
    assert dropped > 10 * PER_BATCH - 30_000, "the view is full, and says so"
    assert target.logs.calls["append"] == 10
    assert target.logs.write_units * 60 <= 10 * PER_BATCH


def test_a_view_never_outgrows_the_memory_of_its_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "entries_that_fit", lambda *memory_mb: 1000)
    rng, target = Random(7), Target()
    addresses = iter(lambda: PREFIX + (rng.getrandbits(32) << 64), None)
    target.ingest(next(batches(addresses, 1))[:3000])
    report = target.evaluate()
    assert report.view_entries <= 1000
    assert report.dropped >= 2000


def test_the_admin_api_remembers_fewer_clients_than_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "LIVE_ENTRIES", 1000)
    rng, target = Random(8), Target()
    addresses = iter(lambda: PREFIX + (rng.getrandbits(32) << 64), None)
    target.ingest(next(batches(addresses, 1))[:3000])
    assert target.evaluate().dropped == 0
    live = target.services.live
    live.look(target.now_ms)
    assert 0 < live.view.entries <= 1000


def test_a_client_near_its_limit_is_not_pushed_out_of_the_view() -> None:
    rng = Random(3)
    target = Target(settings={"VIEW_ENTRIES": "3000"})
    near = [line(NOW + 0.1 * n, "203.0.113.9") for n in range(20)]
    target.ingest(near)
    target.evaluate()
    addresses = iter(lambda: PREFIX + (rng.getrandbits(32) << 64), None)
    flood = next(batches(addresses, 1))
    target.ingest(flood[:5000])
    assert target.evaluate().dropped > 2000
    target.ingest([line(NOW + 3, "203.0.113.9")])
    assert target.blocked() == {"203.0.113.9/32"}


def test_addresses_with_colliding_numbers_do_not_collide_as_keys() -> None:
    # Python hashes an integer modulo 2**61 - 1: these would all share one slot of a dictionary of integers.
    numbers = [PREFIX + (2**61 - 1) * number for number in range(1, 5001)]
    assert len(set(map(hash, numbers))) == 1
    (counted,) = Tallier(parse_rules(WHOLE_ADDRESSES).meters()).tally(
        BatchDecoder().decode([line(NOW, str(IPv6Address(number))) for number in numbers]).requests
    )
    assert counted.clients().keys() == {number.to_bytes(16, "big") for number in numbers}
    assert len({hash(key) & 0xFFFFFFFF for key in counted.clients()}) > 4990
    assert sys.flags.hash_randomization, "the hashes of bytes and text are keyed anew in each process"


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_g4_a_flood_of_offenders_costs_one_detection_per_thousand(batch: int) -> None:
    rng, target = Random(4), Target(rules=HONEYPOT)
    networks = [rng.getrandbits(32) << 64 for _ in range(PER_BATCH)]
    total = 0
    for _ in range(batch):
        # The same ones again and again: reported once while their blocks cannot have ended.
        records = [line(target.now - 1, str(IPv6Address(PREFIX + n + rng.getrandbits(64)))) for n in networks]
        target.ingest(records)
        total += len(target.evaluate().detections)
        target.now += 1
    offenders = len(set(networks))
    assert total == -(-offenders // MOST_OFFENDERS)
    assert target.state.write_units * 10 <= offenders, "in the state table"
    assert len(list(target.state.query(Detection.kind))) == total
    assert len(target.services.evaluate._announced._quiet_until) == offenders <= MOST_ANNOUNCED


def test_the_memory_of_reported_clients_is_bounded() -> None:
    rng, target = Random(5), Target(rules=HONEYPOT)
    for _ in range(8):
        target.ingest(
            [line(target.now - 1, str(IPv6Address(PREFIX + (rng.getrandbits(32) << 64)))) for _ in range(PER_BATCH)]
        )
        target.evaluate()
        target.now += 1
    assert len(target.services.evaluate._announced._quiet_until) <= MOST_ANNOUNCED


def flood(rng: Random) -> list[bytes]:
    return [line(NOW - 1, str(IPv6Address(PREFIX + (rng.getrandbits(32) << 64)))) for _ in range(PER_BATCH)]


def test_g9_a_flood_of_strangers_is_blocked_and_stops_no_rule() -> None:
    target = Target(rules=HONEYPOT)
    remember(target.state, ["203.0.113.9"], NOW)
    target.ingest(flood(Random(6)))
    assert len(target.blocked()) > 9_900
    assert list(stopped_rules(State(target.state))) == []


def test_g9_while_nobody_is_known_a_flood_is_blocked_minute_by_minute() -> None:
    target = Target(rules=HONEYPOT, settings={"BREAKER_PACE": "3000"})
    target.ingest(flood(Random(6)))
    detected = sum(len(detection.offenders) for detection in target.evaluate().detections)
    blocked = [len(target.enforce().blocks)]
    while sum(blocked) < detected:
        target.now += 60
        target.services.sweep.run()
        blocked.append(len(target.enforce().blocks))
    # A /48 counts once, however many of its networks offend.
    assert min(blocked[:-1]) >= 3000
    assert len(blocked) == 4


def test_g9_one_machine_with_a_52_neither_stops_a_rule_nor_uses_up_its_pace() -> None:
    target = Target(rules=HONEYPOT, settings={"BREAKER_PACE": "2"})
    target.ingest([line(NOW - 1, str(IPv6Address(PREFIX + (n << 64)))) for n in range(4096)])
    assert len(target.blocked()) == 4096
    target.ingest([line(NOW - 1, "203.0.113.9")])
    assert "203.0.113.9/32" in target.blocked()


def test_one_client_in_every_slot_of_an_hour_needs_a_few_thousand_entries() -> None:
    target = Target()
    for minute in range(60):
        target.now = NOW + 60 * (minute + 1)
        target.ingest([line(NOW + 60 * minute + slot / 20, "203.0.113.9") for slot in range(1200)])
        target.evaluate()
    assert target.view.entries <= KEPT_S * SLOTS_A_SECOND


@pytest.mark.slow
def test_g4_a_flood_of_clients_takes_quotas_bounded_memory_in_bounded_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """With bounds that are a fiftieth of what they are, so that it takes a fiftieth of the time."""
    for module, name in ((quotas_module, "SLICE"), (quotas_module, "MOST_PENDING"), (roll_ups, "PIECE")):
        monkeypatch.setattr(module, name, getattr(module, name) // 50)
    rng, rules, most = Random(8), parse_rules('[[rule]]\nname = "day"\nlimit = 99\nwindow = "1d"\n'), 6000
    logs, meter, now_ms = MemoryTallyLogs(), rules.rules[0].meter, NOW * 1000
    logs.register("shard", (), ("shard@1",))
    quotas = Quotas(
        logs=logs,
        roll_ups=MemoryRollUps(),
        rules=lambda _: RulesInUse(rules),
        new_view=partial(View, sample_rate=100, most_entries=most, drops_at_once=False),
        detect=lambda _: None,
    )
    quotas.run(now_ms)
    for offset in range(15):
        clients = {rng.randbytes(4): {now_ms // meter.slot_ms: 1} for _ in range(1000)}
        body = pack([MeterTally.of(Source.CLOUDFRONT, meter, clients)])
        item = LogItem(body=body, last_sequence=offset, written_ms=now_ms, first_slot_ms=now_ms, last_slot_ms=now_ms)
        logs.append("shard@1", offset, [item])
    steps = iter(range(100_000))
    tracemalloc.start()
    try:
        report = quotas.run(now_ms + 60_000, lambda: 60 + next(steps))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report is not None
    assert (report.items, report.unfinished) == (15, None)
    assert report.entries <= most
    assert report.dropped + report.entries >= 14_995
    assert peak < 2_000_000
    assert next(steps) > 100
