"""Known clients: digests of bounded size, which merge in any order, and who is known at a moment."""

from collections.abc import Collection
from random import Random
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import known_clients
from chalicelib.core.addresses import pack, parse_network
from chalicelib.core.known_clients import (
    KEPT_S,
    MEMORY_S,
    MOST_MARKS,
    PERIOD_S,
    Digest,
    KnownClients,
    digest_of,
    known_record,
    may_be_noted,
    period_of,
)
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.rules import Rule
from chalicelib.core.state.breakers import Known

START = period_of(1_760_000_000)
ADDRESSES = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_clients, "MOST_MARKS", 8)


def packed(*addresses: str) -> list[bytes]:
    return [address for text in addresses if (address := pack(text)) is not None]


def digest(*addresses: str) -> Digest:
    return Digest().plus(packed(*addresses))


def record(*addresses: str, at: int = START, since: int | None = None) -> Known:
    return known_record(at, at if since is None else since, digest(*addresses))


def known_at(records: Collection[Known], now: int, network: str) -> bool:
    known = KnownClients.at(records, now)
    return known is not None and bool(known.within(parse_network(network)))


# Digests


@given(st.lists(st.lists(ADDRESSES, max_size=30), max_size=5), st.randoms())
def test_the_order_and_number_of_additions_and_merges_is_irrelevant(parts: list[list[bytes]], random: object) -> None:
    once = Digest().plus([address for part in parts for address in part])
    merged = Digest()
    for part in [*parts, *parts[::-1]]:
        merged = merged.merged(Digest().plus(part))
    assert merged == once
    assert all(once.plus(part) is once for part in parts)


@pytest.mark.usefixtures("small")
@given(st.sets(ADDRESSES, max_size=40), st.integers(0, 40))
def test_a_full_digest_is_a_sample_that_says_how_large(addresses: set[bytes], cut: int) -> None:
    """Whoever is left out by one container is left out by all, so that samples can be compared and merged."""
    marks = {address[:6] for address in addresses}
    full = Digest().plus(addresses)
    assert len(full.marks) <= 8
    assert full.marks == {m for m in marks if crc32(m) < 1 << (32 - full.halvings)}
    assert full.halvings == 0 or len({m for m in marks if crc32(m) < 2 << (32 - full.halvings)}) > 8
    first, rest = list(addresses)[:cut], list(addresses)[cut:]
    assert Digest().plus(first).merged(Digest().plus(rest)) == full
    assert Digest().plus(first).plus(rest) == full


def test_the_estimate_of_a_full_digest_is_close() -> None:
    clients = [number.to_bytes(4, "big") for number in range(0xC0000200, 0xC0000200 + 10 * MOST_MARKS)]
    known = KnownClients(Digest().plus(clients))
    assert MOST_MARKS / 2 < known.marks <= MOST_MARKS
    assert known.estimate == pytest.approx(10 * MOST_MARKS, rel=0.05)


@pytest.mark.slow
def test_a_stranger_is_never_taken_for_a_known_client() -> None:
    known = KnownClients(Digest().plus(number.to_bytes(4, "big") for number in range(0, 2 * MOST_MARKS, 2)))
    assert not any(known.within(parse_network(f"0.0.{n >> 8}.{n & 255}")) for n in range(1, MOST_MARKS, 2))


def test_the_record_of_the_fullest_digest_fits_into_an_item() -> None:
    fullest = Digest(frozenset(number.to_bytes(6, "big") for number in range(MOST_MARKS)))
    assert len(known_record(START, START, fullest).to_json()) < 350_000


@given(st.sets(ADDRESSES, max_size=40))
def test_a_record_holds_its_digest(addresses: set[bytes]) -> None:
    noted = Digest().plus(addresses)
    stored = Known.from_json(known_record(START, START, noted).to_json())
    assert digest_of(stored) == noted


def test_a_truncated_record_is_read_up_to_its_last_whole_mark() -> None:
    damaged = Known(started_at=START, counted_since=START, ipv4=bytes(4) + b"\1\2", ipv6=bytes(5))
    assert digest_of(damaged).marks == {bytes(4)}


# Who is known


def test_an_ipv6_client_is_known_by_its_48() -> None:
    records = [record("2001:db8:7:1::1")]
    assert known_at(records, START + 86400, "2001:db8:7:ffff::/64")
    assert not known_at(records, START + 86400, "2001:db8:8:1::/64")


@given(st.sets(st.integers(0, 255), max_size=20), st.integers(24, 32), st.integers(0, 255))
def test_the_known_clients_within_a_network_are_those_with_its_prefix(hosts: set[int], prefix: int, at: int) -> None:
    clients = [bytes([192, 0, 2, host]) for host in hosts]
    network = parse_network(f"192.0.2.{at >> (32 - prefix) << (32 - prefix)}/{prefix}")
    expected = [
        client
        for client in sorted(clients)
        if int.from_bytes(client, "big") >> (32 - prefix) == int(network.network_address) >> (32 - prefix)
    ]
    assert KnownClients(Digest().plus(clients)).within(network) == expected


def test_a_wide_ipv6_network_holds_the_known_clients_of_all_its_48s() -> None:
    known = KnownClients(digest("2001:db8:1::1", "2001:db8:1:2::1", "2001:db8:2::1", "2001:db9::1"))
    assert len(known.within(parse_network("2001:db8::/32"))) == 2


def test_nobody_is_known_until_a_day_is_remembered() -> None:
    records = [record("192.0.2.1", since=START + 100)]
    assert KnownClients.at(records, START + 100 + MEMORY_S - 1) is None
    assert known_at(records, START + 100 + MEMORY_S, "192.0.2.1")
    assert KnownClients.at([], START) is None


@pytest.mark.parametrize(
    ("after_s", "known"),
    [(2 * PERIOD_S - 1, False), (2 * PERIOD_S, True), (KEPT_S + PERIOD_S - 1, True), (KEPT_S + PERIOD_S, False)],
)
def test_a_client_is_known_from_a_period_after_it_was_counted_for_three_days(after_s: int, known: bool) -> None:
    """So an attack that crosses midnight, or a change of periods, makes no attacker known."""
    records = [record("198.51.100.1", at=START - MEMORY_S), record("192.0.2.1")]
    assert known_at(records, START + after_s, "192.0.2.1") is known
    records = [
        record("198.51.100.1", at=START - MEMORY_S),
        record("192.0.2.1"),
        record("198.51.100.1", at=START + 7 * PERIOD_S),
    ]
    assert known_at(records, START + after_s, "192.0.2.1") is known


def test_without_a_client_that_is_known_there_is_no_memory() -> None:
    assert KnownClients.at([record("192.0.2.1")], START + KEPT_S + PERIOD_S) is None


@pytest.mark.parametrize("halvings", [0, 1, 5, 8, 9, 12])
def test_clients_that_a_digest_keeps_are_those_that_may_be_noted(halvings: int) -> None:
    rng = Random(halvings)
    clients = {rng.randbytes(4): {1: 1} for _ in range(5000)} | {rng.randbytes(16): {1: 1} for _ in range(500)}
    counted = MeterTally.of(Source.WAF, Rule(name="r", limit=1, window_s=10).meter, clients)
    some = may_be_noted(counted, halvings)
    digest = Digest(halvings=halvings)
    assert digest.plus(some) == digest.plus(clients)
    assert len(some) <= 500 + 2 * 5000 / 2 ** min(8, halvings)
