"""The edge refuses what was published, late in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.addresses import pack, parse_network
from chalicelib.core.responses import Response
from sluice.demo.edge import IMMUNITY_S, SLOW_LIMIT, Edge

Updates = list[tuple[float, str, frozenset[str]]]


def refusals(updates: Updates, client: str, times: list[float], delay_s: float = 1.0) -> list[bool]:
    edge, packed = Edge(updates, delay_s), pack(client)
    assert packed is not None
    return [edge.answer(packed, time) is not None for time in times]


def test_an_update_takes_effect_after_the_delay_whether_it_adds_or_removes() -> None:
    updates: Updates = [(10.0, "v4", frozenset({"192.0.2.0/24"})), (20.0, "v4", frozenset())]
    assert refusals(updates, "192.0.2.7", [10.9, 11.0, 20.9, 21.0]) == [False, True, True, False]


def test_an_update_made_after_the_edge_takes_effect() -> None:
    updates: Updates = []
    edge, client = Edge(updates, 1.0), b"\xc0\x00\x02\x07"
    assert edge.answer(client, 10.0) is None
    updates.append((10.0, "v4", frozenset({"192.0.2.7/32"})))
    assert edge.answer(client, 11.0) is Response.BLOCK


def test_an_address_that_two_sets_hold_is_refused_until_both_release_it() -> None:
    both = frozenset({"2001:db8:1::/64"})
    updates: Updates = [(1.0, "a", both), (2.0, "b", both), (3.0, "a", frozenset()), (4.0, "b", frozenset())]
    assert refusals(updates, "2001:db8:1::9", [2.0, 3.0, 4.0, 5.0]) == [True, True, True, False]


networks = st.builds(
    lambda number, host_bits: f"10.0.{number >> host_bits << host_bits}.0/{24 - host_bits}",
    st.integers(0, 15),
    st.integers(0, 4),
)


@given(
    sets=st.lists(st.tuples(st.sampled_from("ab"), st.frozensets(networks, max_size=4)), max_size=6),
    client=st.integers(0, 15),
)
def test_a_client_is_refused_if_and_only_if_a_network_of_the_latest_sets_contains_it(
    sets: list[tuple[str, frozenset[str]]], client: int
) -> None:
    updates = [(float(number), name, addresses) for number, (name, addresses) in enumerate(sets)]
    latest = dict(sets).values()
    address = parse_network(f"10.0.{client}.1/32")
    expected = any(address.subnet_of(parse_network(each)) for addresses in latest for each in addresses)  # type: ignore[arg-type]
    assert refusals(updates, f"10.0.{client}.1", [len(sets) + 1.0]) == [expected]


@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::c000:207"])
def test_families_are_not_confused(client: str) -> None:
    updates: Updates = [(0.0, "v4", frozenset({"192.0.2.0/24"})), (0.0, "v6", frozenset({"2001:db8::/120"}))]
    assert refusals(updates, client, [1.0]) == [client == "192.0.2.7"]


RESPONSES = {"c": Response.CHALLENGE, "s": Response.SLOW, "w": Response.WATCH}
CLIENT, THE_CLIENT = b"\xc0\x00\x02\x07", frozenset({"192.0.2.7/32"})


def test_a_watched_client_is_served_and_a_slowed_one_up_to_its_rate() -> None:
    assert Edge([(0.0, "w", THE_CLIENT)], 1.0, RESPONSES).answer(CLIENT, 9.0) is None
    slowed = Edge([(0.0, "s", THE_CLIENT)], 1.0, RESPONSES)
    answers = [slowed.answer(CLIENT, 10.0 + n) for n in range(SLOW_LIMIT + 2)]
    assert answers == [None] * SLOW_LIMIT + [Response.SLOW] * 2
    assert slowed.answer(CLIENT, 70.5) is None, "a minute after the first"


def test_who_solves_a_challenge_passes_until_its_token_ends_and_who_does_not_never() -> None:
    updates: Updates = [(0.0, "c", THE_CLIENT)]
    solver, bot = Edge(updates, 1.0, RESPONSES, lambda _: True), Edge(updates, 1.0, RESPONSES)
    times = [10.0, 11.0, 10.0 + IMMUNITY_S - 1, 10.0 + IMMUNITY_S]
    assert [solver.answer(CLIENT, time) for time in times] == [Response.CHALLENGE, None, None, Response.CHALLENGE]
    assert [bot.answer(CLIENT, time) for time in times] == [Response.CHALLENGE] * 4


def test_a_client_that_a_rule_before_sluices_allows_passes_though_it_is_blocked() -> None:
    updates: Updates = [(0.0, "b", THE_CLIENT)]
    edge = Edge(updates, 0.0, RESPONSES, allows=lambda client: client == CLIENT)
    assert edge.answer(CLIENT, 1.0) is None
    assert Edge(updates, 0.0, RESPONSES).answer(CLIENT, 1.0) is Response.BLOCK


def test_of_two_responses_the_harder_one_answers() -> None:
    updates: Updates = [(0.0, "w", THE_CLIENT), (0.0, "c", THE_CLIENT), (0.0, "b", THE_CLIENT), (5.0, "b", frozenset())]
    edge = Edge(updates, 0.0, RESPONSES)
    assert [edge.answer(CLIENT, time) for time in (1.0, 6.0)] == [Response.BLOCK, Response.CHALLENGE]
