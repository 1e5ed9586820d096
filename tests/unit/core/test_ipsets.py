"""The networks that belong in the IP sets, and the fewest changes that put them there."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Network, collapse_addresses, ip_network
from random import Random
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.addresses import Network, NetworkSet, parse_network
from chalicelib.core.carving import MOST_PIECES
from chalicelib.core.ipsets import CAPACITY, GROUPS, BlockList, IpSet, SetGroup, next_contents, plan, rooms_of, wanted
from chalicelib.core.responses import Response, prolonged
from chalicelib.core.state.blocks import MANUAL, Block
from tests.support.simulation.publishing import without

NOW = 1_760_000_000
V4, V6 = (SetGroup(Response.BLOCK, family) for family in (4, 6))
ROOM = {V4: CAPACITY, V6: CAPACITY}
EMPTY = NetworkSet(())


def block(network: str, *, until: int = 60, at: int = 0, rule: str = "burst") -> Block:
    return Block(network=network, blocked_at=NOW + at, until=NOW + until, rule=rule)


def published(
    blocks: Iterable[Block], allow: Iterable[str] = (), rooms: dict[SetGroup, int] = ROOM
) -> dict[int, list[str]]:
    result = wanted(blocks, NetworkSet(map(parse_network, allow)), rooms, NOW)
    return {family: sorted(map(str, result.networks[SetGroup(Response.BLOCK, family)])) for family in (4, 6)}


def test_blocks_in_force_are_wanted_by_family() -> None:
    blocks = [block("203.0.113.9/32"), block("2001:db8::/64"), block("198.51.100.0/24"), block("192.0.2.1/32", until=0)]
    assert published(blocks) == {4: ["198.51.100.0/24", "203.0.113.9/32"], 6: ["2001:db8::/64"]}


def test_networks_that_fill_a_wider_network_are_replaced_by_it() -> None:
    assert published([block("192.0.2.0/25"), block("192.0.2.128/25"), block("192.0.2.7/32")])[4] == ["192.0.2.0/24"]


def test_of_a_block_with_allowlisted_parts_the_rest_is_published() -> None:
    blocks = [block("192.0.2.0/29"), block("203.0.113.9/32"), block("198.51.100.1/32")]
    allow = ["192.0.2.5", "203.0.0.0/16", "8.8.8.8"]
    rest = ["192.0.2.0/30", "192.0.2.4/32", "192.0.2.6/31"]
    assert published(blocks, allow)[4] == [*rest, "198.51.100.1/32"]
    result = wanted(blocks, NetworkSet(map(parse_network, allow)), ROOM, NOW)
    assert (result.allowlisted, result.overflow, result.blocks) == (1, 0, 3)


def test_a_block_takes_a_bounded_number_of_places_and_leaves_out_the_least() -> None:
    parts = wanted([block("2001:db8::/48")], NetworkSet([parse_network("2001:db8::1")]), ROOM, NOW).networks[V6]
    assert sorted(part.prefixlen for part in parts) == list(range(49, 49 + MOST_PIECES))


def test_full_sets_hold_the_widest_parts_of_a_block_that_does_not_fit_whole() -> None:
    blocks = [block("192.0.2.0/29", at=-5), block("198.51.100.1/32", at=-1), block("198.51.100.3/32", at=-9)]
    assert published(blocks, ["192.0.2.5"], {V4: 3, V6: 0})[4] == ["192.0.2.0/30", "192.0.2.6/31", "198.51.100.1/32"]
    result = wanted(blocks, NetworkSet([parse_network("192.0.2.5")]), {V4: 3}, NOW)
    assert result.overflow == 2, "one in part, and one as a whole"


def test_full_sets_keep_manual_blocks_first_and_then_the_newest() -> None:
    blocks = [
        block("192.0.2.1/32", at=-5),
        block("192.0.2.3/32", at=-9, rule=MANUAL),
        block("192.0.2.5/32", at=-1),
        block("192.0.2.7/32", at=-3),
    ]
    for room, kept in [(4, [1, 3, 5, 7]), (3, [3, 5, 7]), (2, [3, 5]), (1, [3]), (0, [])]:
        assert published(blocks, rooms={V4: room, V6: 0})[4] == [f"192.0.2.{n}/32" for n in kept]
        assert wanted(blocks, EMPTY, {V4: room}, NOW).overflow == 4 - room


def test_full_sets_keep_the_blocks_of_offenders_before_those_of_feeds_however_old() -> None:
    feed = Block(network="192.0.2.1/32", blocked_at=NOW, until=NOW + 60, by="feed drop")
    offenders = [block("192.0.2.3/32", at=-900), block("192.0.2.5/32", at=-300)]
    for room, kept in [(3, [1, 3, 5]), (2, [3, 5]), (1, [5])]:
        assert published([feed, *offenders], rooms={V4: room, V6: 0})[4] == [f"192.0.2.{n}/32" for n in kept]


def test_adjacent_blocks_that_merge_need_the_room_of_one() -> None:
    blocks = [block(f"192.0.2.{n}/32", at=n) for n in range(8)]
    assert published(blocks, rooms={V4: 1, V6: 0})[4] == ["192.0.2.0/29"]


def test_blocks_of_a_family_without_an_ip_set_are_omitted_and_counted() -> None:
    assert wanted([block("2001:db8::/64")], EMPTY, {V4: CAPACITY}, NOW).overflow == 1


near = st.tuples(st.integers(0, 63), st.integers(26, 32)).map(
    lambda drawn: str(ip_network((0xC0000200 + drawn[0], drawn[1]), strict=False))
)
near6 = st.tuples(st.integers(0, 15), st.integers(60, 64)).map(
    lambda drawn: str(ip_network(((0x20010DB8 << 96) + (drawn[0] << 64), drawn[1]), strict=False))
)
networks = near | near6
ends = st.lists(st.tuples(st.sampled_from(Response), st.integers(-2, 5)), min_size=1, max_size=3)


@st.composite
def drawn_blocks(draw: st.DrawFn) -> Block:
    left: dict[Response, int] = {}
    for response, until in draw(ends):
        left = prolonged(left, response, NOW + until)
    at, rule = draw(st.integers(-9, 0)), draw(st.sampled_from(["burst", MANUAL]))
    return Block.with_ends(left, network=draw(networks), blocked_at=NOW + at, rule=rule)


blocks = drawn_blocks()


@given(st.lists(blocks, max_size=12, unique_by=lambda b: b.network), st.lists(networks, max_size=4), st.integers(0, 8))
def test_wanted_networks_are_disjoint_fit_and_never_overlap_the_allowlist(
    blocks: list[Block], allow: list[str], room: int
) -> None:
    allowlist = [parse_network(text) for text in allow]
    result = wanted(blocks, NetworkSet(allowlist), dict.fromkeys(GROUPS, room), NOW)
    running = [b for b in blocks if b.ends_at > NOW]
    parts = {b.network: without(b.network_value(), allowlist) for b in running}
    assert (result.allowlisted, result.blocks) == (sum(not left for left in parts.values()), len(running))
    for group in GROUPS:
        contents = result.networks[group]
        assert len(contents) <= room
        assert not any(_overlap(one, other) for one in contents for other in contents if one is not other)
        assert not any(_overlap(one, a) for one in contents for a in allowlist)
        blocks_of_group = [b for b in running if (b.response_at(NOW), b.network_value().version) == group]
        of_group = [part for b in blocks_of_group for part in parts[b.network]]
        covered = [n for n in of_group if any(n.subnet_of(h) for h in contents)]  # type: ignore[arg-type]
        assert contents == _collapsed(covered), "nothing is published without a block"
        if len(_collapsed(of_group)) <= room:
            assert len(covered) == len(of_group), "with room for all, all are wanted"


replacements = st.tuples(networks, st.none()) | blocks.map(lambda drawn: (drawn.network, drawn))
steps = st.tuples(st.lists(replacements, max_size=4), st.integers(0, 2), st.lists(networks, max_size=2) | st.none())


@given(st.lists(blocks, max_size=8, unique_by=lambda b: b.network), st.lists(steps, max_size=12), st.integers(0, 6))
def test_a_list_that_follows_changes_is_what_all_blocks_at_once_give(
    first: list[Block], steps: list[tuple[list[tuple[str, Block | None]], int, list[str] | None]], room: int
) -> None:
    followed, there = BlockList(first), {b.network: b for b in first}
    now, allowlist, rooms = NOW, EMPTY, dict.fromkeys(GROUPS, room)
    for replacements, passed, allow in steps:
        now += passed
        if allow is not None:
            allowlist = NetworkSet(map(parse_network, allow))
        for network, drawn in replacements:
            followed.replace(network, drawn)
            there.pop(network, None)
            if drawn is not None:
                there[network] = drawn
        result, at_once = followed.wanted(allowlist, rooms, now), wanted(there.values(), allowlist, rooms, now)
        assert result.networks == at_once.networks
        assert replace(result, covers={}) == replace(at_once, covers={})
        assert followed.in_force(now) == sum(b.ends_at > now for b in there.values())
        ends = sorted((b.ends_at, b.network) for b in there.values() if b.ends_at <= now + 2)
        assert followed.ending(now + 2, 3) == tuple(network for _, network in ends[:3])


def test_more_networks_than_nine_tenths_of_the_room_are_a_surplus() -> None:
    result = wanted([block(f"192.0.2.{2 * n}/32") for n in range(12)], EMPTY, {V4: 10}, NOW)
    assert len(result.networks[V4]) == 10
    assert result.surplus({V4: 10, V6: 10, SetGroup(Response.SLOW, 4): 0}) == {V4: 3}
    assert result.surplus({V4: 14}) == {}


def test_a_block_that_is_renewed_regains_its_place_in_a_full_set() -> None:
    followed = BlockList([block("192.0.2.1/32", at=-9), block("192.0.2.3/32", at=-5), block("192.0.2.5/32", at=-1)])
    rooms = {V4: 2, V6: 0}
    assert published_by(followed, rooms) == ["192.0.2.3/32", "192.0.2.5/32"]
    followed.replace("192.0.2.1/32", block("192.0.2.1/32"))
    assert published_by(followed, rooms) == ["192.0.2.1/32", "192.0.2.5/32"]


def published_by(followed: BlockList, rooms: dict[SetGroup, int]) -> list[str]:
    return sorted(map(str, followed.wanted(EMPTY, rooms, NOW).networks[V4]))


def _collapsed(networks: list[Network]) -> frozenset[Network]:
    """Returns the fewest networks that contain the same addresses; all are of one family."""
    return frozenset(collapse_addresses(cast("list[IPv4Network]", networks)))


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


# --- plans

A, B, C = (IpSet(name, name, 4) for name in "abc")
Contents = dict[IpSet, frozenset[Network]]


def of(*numbers: int) -> frozenset[Network]:
    return frozenset(ip_network((0xCB000000 + n, 32)) for n in numbers)


def test_correct_sets_need_no_update() -> None:
    assert plan(of(1, 2), {A: of(1), B: of(2)}) == {}


def test_networks_stay_in_their_set_and_new_ones_go_to_the_emptiest() -> None:
    assert plan(of(1, 2, 3, 9), {A: of(1, 2, 3), B: of()}) == {B: of(9)}
    assert plan(of(1, 3), {A: of(1, 2), B: of(3)}) == {A: of(1)}


def test_a_network_in_two_sets_is_removed_from_one() -> None:
    assert plan(of(1, 2), {A: of(1), B: of(1, 2)}) == {B: of(2)}


def test_networks_added_by_another_program_are_removed() -> None:
    assert plan(of(), {A: of(7)}) == {A: of()}


def test_networks_that_do_not_fit_into_one_set_go_into_the_next() -> None:
    many = of(*range(CAPACITY + 5))
    planned = plan(many, {A: of(), B: of(), C: of()})
    assert sorted(len(contents) for contents in planned.values()) == [5, CAPACITY]
    assert frozenset().union(*planned.values()) == many


def test_a_set_takes_as_many_new_networks_as_it_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.core.ipsets.CAPACITY", 5)
    before = {A: of(0, 1, 2), B: of(3, 4, 5, 6)}
    assert plan(of(*range(9)), before) == {A: of(0, 1, 2, 7, 8)}
    assert plan(of(*range(12)), before) == {A: of(0, 1, 2, 7, 8), B: of(3, 4, 5, 6, 9)}, "the rest finds no room"


numbers = st.frozensets(st.integers(0, 12), max_size=8).map(lambda drawn: of(*drawn))


@given(numbers, numbers, numbers, numbers)
def test_a_plan_reaches_the_wanted_networks_with_the_fewest_changes(
    target: frozenset[Network], in_a: frozenset[Network], in_b: frozenset[Network], in_c: frozenset[Network]
) -> None:
    before: Contents = {A: in_a, B: in_b, C: in_c}
    changes = plan(target, before)
    after = {**before, **changes}
    assert frozenset().union(*after.values()) == target
    assert sum(map(len, after.values())) == len(target), "no network in two sets"
    assert plan(target, after) == {}, "a second plan changes nothing"
    assert all(changes[s] != before[s] for s in changes)
    taken: set[Network] = set()
    for ip_set, contents in before.items():
        stay = (contents & target) - taken
        assert stay <= after[ip_set], "what may stay stays"
        taken |= contents & target
    spoilt = [s for s, contents in before.items() if contents - target or contents & after_others(after, s)]
    news = target - frozenset().union(*before.values())
    assert len(changes) <= len(spoilt) + bool(news), "no set changes without need"


def after_others(after: Contents, but: IpSet) -> frozenset[Network]:
    return frozenset().union(*(contents for s, contents in after.items() if s is not but))


def test_the_two_halves_of_a_family_are_not_merged_because_aws_rejects_that() -> None:
    halves = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]
    blocks = [Block(network=network, blocked_at=0, until=10) for network in halves]
    result = wanted(blocks, NetworkSet(()), {V4: 9, V6: 9}, now=5)
    assert sorted(str(n) for networks in result.networks.values() for n in networks) == sorted(halves)


# --- responses


def test_a_block_is_wanted_in_the_sets_of_its_hardest_response_that_is_not_over() -> None:
    ends = {Response.BLOCK: NOW + 5, Response.WATCH: NOW + 9}
    followed = BlockList([Block.with_ends(ends, network="192.0.2.1/32", blocked_at=NOW)])
    watch = SetGroup(Response.WATCH, 4)
    for now, group in ((NOW, V4), (NOW + 4, V4), (NOW + 5, watch), (NOW + 8, watch), (NOW + 9, None)):
        result = followed.wanted(EMPTY, {V4: 1, watch: 1}, now)
        assert [each for each, of_group in result.networks.items() if of_group] == ([group] if group else [])
    assert followed.in_force(NOW + 8) == 0, "time does not go back"


def test_a_response_without_sets_is_published_nowhere_and_counted() -> None:
    softer = Block.with_ends({Response.CHALLENGE: NOW + 9}, network="192.0.2.1/32", blocked_at=NOW)
    result = wanted([softer], EMPTY, ROOM, NOW)
    assert (result.overflow, any(result.networks.values())) == (1, False)


def test_rooms_are_those_of_the_sets_of_each_response() -> None:
    sets = [IpSet("a", "1", 4), IpSet("b", "2", 4), IpSet("c", "3", 6, Response.SLOW)]
    assert rooms_of(sets) == {V4: 2 * CAPACITY, SetGroup(Response.SLOW, 6): CAPACITY}


BLOCKED, ASKED, WATCHED = (IpSet(name, name, 4, Response(name)) for name in ("block", "challenge", "watch"))


def test_who_moves_up_leaves_the_softer_set_after_it_has_arrived_in_the_harder_one() -> None:
    wanted = {BLOCKED.group: of(1), ASKED.group: of(2)}
    published = {BLOCKED: of(), ASKED: of(1)}
    assert next_contents(wanted, published, EMPTY) == {BLOCKED: of(1), ASKED: of(1, 2)}
    assert next_contents(wanted, {BLOCKED: of(1), ASKED: of(1)}, EMPTY) == {ASKED: of(2)}


def test_who_moves_to_a_set_that_is_out_of_reach_stays_where_the_response_is_softer() -> None:
    up, down = {BLOCKED.group: of(1), ASKED.group: of()}, {BLOCKED.group: of(), ASKED.group: of(1)}
    assert next_contents(up, {ASKED: of(1)}, EMPTY) == {}
    assert next_contents(down, {BLOCKED: of(1)}, EMPTY) == {BLOCKED: of()}, "a block that is over ends"


def test_a_network_that_overlaps_the_allowlist_leaves_before_its_parts_have_arrived() -> None:
    whole, half = (frozenset([ip_network(each)]) for each in ("198.51.100.0/24", "198.51.100.128/25"))
    wanted = {BLOCKED.group: half, ASKED.group: of()}
    published = {BLOCKED: of(), ASKED: whole}
    assert next_contents(wanted, published, EMPTY) == {BLOCKED: half}, "the softer answer is better than none"
    assert next_contents(wanted, published, NetworkSet([ip_network("198.51.100.7")])) == {BLOCKED: half, ASKED: of()}


def test_who_leaves_for_no_other_set_leaves_at_once_whoever_moves() -> None:
    wanted = {BLOCKED.group: of(1), ASKED.group: of()}
    published = {BLOCKED: of(), ASKED: of(1, 2)}
    assert next_contents(wanted, published, EMPTY) == {BLOCKED: of(1), ASKED: of(1)}


def test_nobody_waits_in_a_set_for_another_address_family() -> None:
    other = IpSet("other", "other", 6)
    wanted = {BLOCKED.group: of(), other.group: frozenset([ip_network("::cb00:1/128")])}
    assert next_contents(wanted, {BLOCKED: of(1), other: of()}, EMPTY)[BLOCKED] == of()


def test_a_full_set_keeps_as_many_who_move_as_it_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.core.ipsets.CAPACITY", 3)
    changed = next_contents({BLOCKED.group: of(1, 2), ASKED.group: of(3, 4)}, {BLOCKED: of(), ASKED: of(1, 2)}, EMPTY)
    assert of(3, 4) < changed[ASKED]
    assert len(changed[ASKED]) == 3


states = st.fixed_dictionaries(dict.fromkeys((BLOCKED, ASKED, WATCHED), numbers))


@given(states, states, numbers, st.randoms(use_true_random=False))
def test_updates_in_any_order_reach_the_sets_without_a_gap_for_anybody(
    before: Contents, target: Contents, allowed: frozenset[Network], random: Random
) -> None:
    allowlist = NetworkSet(allowed)
    target = {ip_set: networks - allowed for ip_set, networks in target.items()}
    wanted = {ip_set.group: networks for ip_set, networks in target.items()}
    served = frozenset().union(*target.values())
    published, answered = dict(before), frozenset().union(*before.values()) & served
    for _ in range(2 * len(before)):
        changed = next_contents(wanted, published, allowlist)
        if not changed:
            break
        ip_set = random.choice(sorted(changed, key=lambda each: each.name))
        assert changed[ip_set].isdisjoint(allowed)
        published[ip_set] = changed[ip_set]
        now = frozenset().union(*published.values())
        assert answered <= now, "who was under a response, and is to be under another, is never under none"
        answered |= now & served
    assert published == target


@pytest.mark.slow
def test_full_sets_that_exchange_their_networks_do_so_with_a_gap_rather_than_not_at_all() -> None:
    first, second = of(*range(CAPACITY)), of(*range(CAPACITY, 2 * CAPACITY))
    wanted = {BLOCKED.group: second, ASKED.group: first}
    published = {BLOCKED: first, ASKED: second}
    for _ in range(2):
        changed = next_contents(wanted, published, EMPTY)
        published |= dict([changed.popitem()])
    assert published == {BLOCKED: second, ASKED: first}
