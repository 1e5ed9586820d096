"""Guilty networks: examples, and the definition as a slow and obvious oracle."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.addresses import Network, NetworkSet, parse_network
from chalicelib.core.ipsets import BlockList, SetGroup
from chalicelib.core.known_clients import Digest, KnownClients, Mark
from chalicelib.core.networks import GuiltyClients, guilty_networks
from chalicelib.core.responses import Response, hardness
from chalicelib.core.rules import NetworkTerms
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.publishing import Guilty

NOW = 1000
TERMS = NetworkTerms()


def known(*networks: str) -> KnownClients:
    """Returns the clients known by the first addresses of ``networks``, and one far away."""
    clients = [parse_network(each).network_address.packed for each in ("9.9.9.9", *networks)]
    return KnownClients(Digest().plus(clients))


def block(network: str, until: int = 2000, *, rule: str = "burst", response: Response = Response.BLOCK) -> Block:
    return Block.with_ends({response: until}, network=str(parse_network(network)), blocked_at=NOW, rule=rule)


def clients(network: str, number: int, first: int = 0, step: int = 1) -> list[str]:
    """Returns addresses of ``network``, or /64's if it is of IPv6."""
    of = ip_network(network)
    if of.version == 6:
        return [f"{of.network_address + ((first + n * step) << 64)}/64" for n in range(number)]
    return [str(of.network_address + first + n * step) for n in range(number)]


def blocks(*networks: str) -> list[Block]:
    return [block(each) for each in networks]


def names(guilty: Iterable[Guilty]) -> list[str]:
    return [each.network for each in guilty]


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        pytest.param(clients("192.0.2.0/24", 8, step=31), ["192.0.2.0/24"], id="eight clients of a /24"),
        pytest.param(clients("192.0.2.0/24", 7, step=31), [], id="seven are too few"),
        pytest.param(clients("192.0.2.0/24", 8), ["192.0.2.0/29"], id="the smallest network that holds them"),
        pytest.param(
            clients("192.0.2.0/24", 8, step=31) + clients("192.0.3.0/24", 8, step=31),
            ["192.0.2.0/23"],
            id="both of a /23",
        ),
        pytest.param(
            clients("192.0.2.0/24", 8, step=31) + clients("192.0.3.0/24", 3), ["192.0.2.0/24"], id="one of a /23"
        ),
        pytest.param(
            clients("192.0.2.0/24", 8, step=31) + clients("192.0.3.0/24", 4),
            ["192.0.2.0/23"],
            id="one and a half of a /23",
        ),
        pytest.param(
            clients("192.0.0.0/24", 8, step=31) + clients("192.0.7.0/24", 8, step=31),
            ["192.0.0.0/21"],
            id="two of eight",
        ),
        pytest.param(
            clients("192.0.0.0/24", 8, step=31) + clients("192.0.15.0/24", 8, step=31),
            ["192.0.0.0/24", "192.0.15.0/24"],
            id="two of sixteen",
        ),
        pytest.param(clients("2001:db8::/48", 8, step=31), ["2001:db8::/56"], id="eight /64's of a /56"),
        pytest.param(clients("2001:db8::/48", 8, step=256), ["2001:db8::/53"], id="eight /56's of a /48"),
        pytest.param(clients("2001:db8::/48", 8, step=256 * 36), ["2001:db8::/48"], id="eight /56's all over a /48"),
        pytest.param(clients("2001:db8::/48", 7, step=256 * 36), [], id="seven /56's"),
        pytest.param([f"2001:db8::{n:x}" for n in range(20)], [], id="addresses of one /64 are one client"),
        pytest.param(["192.0.0.0/16", *clients("192.0.2.0/24", 7)], [], id="a wider block is no member"),
    ],
)
def test_the_smallest_network_that_explains_its_members_is_guilty(networks: list[str], expected: list[str]) -> None:
    assert names(guilty_networks(blocks(*networks), TERMS, known(), NOW)) == expected


def test_nothing_is_wider_than_the_terms_allow() -> None:
    two = [*clients("192.0.2.0/24", 8, step=31), *clients("192.0.3.0/24", 8, step=31)]
    assert names(guilty_networks(blocks(*two), NetworkTerms(ipv4=24), known(), NOW)) == ["192.0.2.0/24", "192.0.3.0/24"]


def test_blocks_by_operators_and_of_networks_make_no_network_guilty() -> None:
    made = [block(each, rule=rule) for rule in ("manual", "[networks]") for each in clients("192.0.2.0/24", 200)]
    assert not guilty_networks(made, TERMS, known(), NOW)


def test_no_network_with_more_innocents_than_allowed_is_guilty_but_a_part_without_them_is() -> None:
    guilty = [*clients("192.0.2.0/24", 8), *clients("192.0.2.128/25", 1)]
    innocents = clients("192.0.2.64/26", 3)
    assert names(guilty_networks(blocks(*guilty), TERMS, known(*innocents), NOW)) == ["192.0.2.0/29"]
    (whole,) = guilty_networks(blocks(*guilty), TERMS, known(*innocents[:2]), NOW)
    assert whole.network == "192.0.2.0/24"
    assert whole.members.innocents == ("192.0.2.64/32", "192.0.2.65/32")


def test_a_known_client_that_is_guilty_is_no_innocent() -> None:
    guilty = clients("192.0.2.0/24", 8, step=31)
    assert names(guilty_networks(blocks(*guilty), TERMS, known(*guilty), NOW)) == ["192.0.2.0/24"]
    over = [block(each, until=NOW) for each in guilty[:3]]
    more = blocks(*guilty[3:], *clients("192.0.2.0/24", 3, first=200))
    assert not guilty_networks([*over, *more], TERMS, known(*guilty), NOW)


V4 = SetGroup(Response.BLOCK, 4)


def merged(blocks: Iterable[Block], surplus: int, *innocents: str, group: SetGroup = V4) -> list[str]:
    made = list(blocks)
    listed = BlockList(made)
    listed.wanted(NetworkSet(()), {}, NOW)
    return names(GuiltyClients(made).merges(TERMS, known(*innocents), NOW, {group: surplus}, listed.places_within))


def test_as_many_networks_as_it_takes_are_merged_those_with_the_most_members_first() -> None:
    fleets = [
        *clients("192.0.2.0/24", 4, step=64),
        *clients("198.51.100.0/24", 6, step=40),
        *clients("203.0.113.0/24", 2, step=128),
        "10.0.0.1",
    ]
    assert merged(blocks(*fleets), 0) == []
    assert merged(blocks(*fleets), 5) == ["198.51.100.0/24"]
    assert merged(blocks(*fleets), 6) == ["198.51.100.0/24", "192.0.2.0/24"]
    assert merged(blocks(*fleets), 99) == ["198.51.100.0/24", "192.0.2.0/24", "203.0.113.0/24"]


def test_no_network_is_merged_that_holds_more_innocents_than_allowed() -> None:
    fleet = blocks(*clients("192.0.2.0/24", 4, step=64))
    innocents = clients("192.0.2.128/25", 3, first=1)
    assert merged(fleet, 9, *innocents[:2]) == ["192.0.2.0/24"]
    assert merged(fleet, 9, *innocents) == ["192.0.2.0/25"]


def test_networks_are_merged_only_in_the_sets_that_lack_room() -> None:
    fleet = blocks(*clients("192.0.2.0/24", 4, step=64))
    assert merged(fleet, 9, group=SetGroup(Response.BLOCK, 6)) == []
    assert merged(fleet, 9, group=SetGroup(Response.CHALLENGE, 4)) == []


def test_a_network_that_is_guilty_without_is_not_merged() -> None:
    fleet = blocks(*clients("192.0.2.0/24", 8, step=31), *clients("192.0.3.0/24", 2, step=100))
    assert merged(fleet, 99) == ["192.0.2.0/23"]
    assert merged(fleet[:8], 99) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=24), st.integers(1, 20))
def test_merged_networks_are_apart_and_save_what_is_asked_if_they_can(
    parts: list[tuple[int, int]], surplus: int
) -> None:
    fleet = sorted({f"192.0.{third}.{32 * last}" for third, last in parts})
    made = [parse_network(each) for each in merged(blocks(*fleet), surplus)]
    assert not any(one.overlaps(other) for one in made for other in made if one is not other)
    inside = [sum(network.overlaps(parse_network(each)) for each in fleet) for network in made]
    saved = [number - 1 for number in inside]
    assert all(number > 0 for number in saved)
    assert sum(saved[:-1]) < surplus, "no more than it takes"


def test_nothing_is_guilty_before_clients_are_known() -> None:
    assert not guilty_networks(blocks(*clients("192.0.2.0/24", 200)), TERMS, None, NOW)


def test_a_sample_of_known_clients_stands_for_all() -> None:
    guilty = blocks(*clients("192.0.2.0/24", 8, step=31))
    marks = frozenset(parse_network(each).network_address.packed for each in ("9.9.9.9", "192.0.2.5"))
    assert guilty_networks(guilty, TERMS, KnownClients(Digest(marks, halvings=1)), NOW)
    assert not guilty_networks(guilty, TERMS, KnownClients(Digest(marks, halvings=2)), NOW)


def test_a_network_is_guilty_until_its_members_are_too_few() -> None:
    made = [block(each, until=2000 + n) for n, each in enumerate(clients("192.0.2.0/24", 10, step=25))]
    (guilty,) = guilty_networks(made, TERMS, known(), NOW)
    assert guilty.ends == {Response.BLOCK: 2002}
    assert guilty.members.number == 10
    assert names(guilty_networks(made, TERMS, known(), 2001)) == ["192.0.2.0/24"]
    assert not guilty_networks(made, TERMS, known(), 2002)


def test_a_network_meets_the_response_that_enough_of_its_members_meet() -> None:
    challenged = [block(each, 3000, response=Response.CHALLENGE) for each in clients("192.0.2.0/24", 5, step=31)]
    blocked = blocks(*clients("192.0.2.0/24", 3, first=200))
    (guilty,) = guilty_networks([*challenged, *blocked], TERMS, known(), NOW)
    assert guilty.ends == {Response.CHALLENGE: 2000}


PLACES = [
    *clients("192.0.0.0/24", 6, step=50),
    *clients("192.0.1.0/24", 6, step=1),
    *clients("192.0.2.0/24", 6, step=7),
    *clients("192.0.7.0/24", 6, step=50),
    *clients("2001:db8::/48", 6, step=9),
    *clients("2001:db8::/48", 6, first=512, step=256),
    *clients("2001:db8:1::/48", 6, step=20000),
]
ENDS = st.one_of(
    st.integers(NOW - 1, NOW + 5).map(lambda end: {Response.BLOCK: end}),
    st.integers(NOW - 1, NOW + 5).map(lambda end: {Response.WATCH: end}),
    st.integers(NOW - 1, NOW + 5).map(lambda end: {Response.BLOCK: end, Response.WATCH: end + 3}),
)
GUILTY = st.dictionaries(st.sampled_from(PLACES), ENDS, min_size=12)
KNOWN = st.lists(st.sampled_from([*PLACES, "192.0.1.77", "192.0.2.77", "192.0.6.1", "2001:db8::/48"]), max_size=5)


def blocks_with(guilty: Mapping[str, Mapping[Response, int]]) -> list[Block]:
    return [
        Block.with_ends(ends, network=str(parse_network(network)), blocked_at=NOW, rule="burst")
        for network, ends in guilty.items()
    ]


def lies_in(network: Network, other: Network) -> bool:
    bits = other.max_prefixlen - other.prefixlen
    apart = int(network.network_address) ^ int(other.network_address)
    return network.version == other.version and network.prefixlen >= other.prefixlen and not apart >> bits


def end_of(guilty: Iterable[Guilty], network: Network, response: Response) -> int:
    """Returns until when guilty networks answer ``network`` by ``response`` or a harder one; 0 if they do not."""
    ends = (
        end
        for each in guilty
        if lies_in(network, parse_network(each.network))
        for of, end in each.ends.items()
        if hardness(of) >= hardness(response)
    )
    return max(ends, default=0)


class Oracle:
    """What the definition says of each network, one by one."""

    def __init__(self, blocks: Iterable[Block], response: Response, known: KnownClients, terms: NetworkTerms) -> None:
        self.untils: dict[Network, int] = {}
        self.known_and_guilty: set[Mark] = set()
        self.computed: dict[Network, int] = {}
        self.known = known
        self.terms = terms
        for each in blocks:
            harder = [end for of, end in each.ends.items() if hardness(of) >= hardness(response)]
            if max(harder, default=0) > NOW:
                self.untils[each.network_value()] = max(harder)
            if each.in_force(NOW):
                self.known_and_guilty |= set(known.within(each.network_value()))

    def until(self, network: Network) -> int:
        """Returns until when ``network`` itself is guilty; 0 if it is not."""
        if network not in self.computed:
            self.computed[network] = self.compute(network)
        return self.computed[network]

    def compute(self, network: Network) -> int:
        length, needed, few = self.parts_of(network)
        inside = {each: until for each, until in self.untils.items() if lies_in(each, network)}
        if len(inside) < self.terms.members:
            return 0
        parts = {each.supernet(new_prefix=length) for each in inside}
        parts = {part for part in parts if sum(lies_in(each, part) for each in inside) >= few}
        ends = sorted(self.part_until(part, inside, few) for part in parts)
        in_both_halves = all(any(lies_in(part, half) for part in parts) for half in network.subnets())
        innocents = set(self.known.within(network)) - self.known_and_guilty
        spared = len(innocents) <= self.terms.innocents
        return ends[-needed] if in_both_halves and spared and len(ends) >= needed else 0

    def parts_of(self, network: Network) -> tuple[int, int, int]:
        """Returns the length of the parts of ``network``, how many make it guilty, and how many clients each needs."""
        base, client = (24, 32) if network.version == 4 else (48, 64)
        if network.prefixlen < base:
            return base, max(1, 2 ** (base - network.prefixlen) // 4), -(-self.terms.members // 2)
        return min(client, network.prefixlen // 8 * 8 + 8), self.terms.members, 1

    def part_until(self, part: Network, inside: dict[Network, int], few: int) -> int:
        if few == 1:
            return max(until for each, until in inside.items() if lies_in(each, part))
        client = 32 if part.version == 4 else 64
        within = {each.supernet(new_prefix=length) for each in inside for length in range(part.prefixlen, client)}
        return max(self.until(each) for each in within if lies_in(each, part))

    def covered_until(self, client: Network) -> int:
        """Returns until when ``client`` is in a guilty network; 0 if it is in none."""
        widest = self.terms.ipv4 if client.version == 4 else self.terms.ipv6
        return max(self.until(client.supernet(new_prefix=length)) for length in range(widest, client.prefixlen))


@given(GUILTY, KNOWN, st.integers(4, 5), st.integers(0, 1))
def test_exactly_those_are_in_guilty_networks_whom_the_definition_puts_there(
    guilty: dict[str, dict[Response, int]], friends: list[str], members: int, innocents: int
) -> None:
    made, acquaintances = blocks_with(guilty), known(*friends)
    terms = NetworkTerms(members=members, innocents=innocents, ipv4=20, ipv6=44)
    networks = guilty_networks(made, terms, acquaintances, NOW)
    for response in (Response.BLOCK, Response.WATCH):
        oracle = Oracle(made, response, acquaintances, terms)
        for place in map(parse_network, [*PLACES[::3], "192.0.6.1", "192.0.1.200", "2001:db8:0:ffff::/64"]):
            assert end_of(networks, place, response) == oracle.covered_until(place), (place, response)


@given(GUILTY, KNOWN, st.data())
def test_the_order_in_which_blocks_come_and_go_does_not_matter(
    guilty: dict[str, dict[Response, int]], friends: list[str], data: st.DataObject
) -> None:
    made, acquaintances = blocks_with(guilty), known(*friends)
    followed = GuiltyClients(data.draw(st.permutations(made)))
    passing = data.draw(st.lists(st.sampled_from(PLACES), max_size=9))
    for each in passing:
        followed.replace(str(parse_network(each)), block(each))
    for each in passing:
        followed.replace(str(parse_network(each)), None)
    for again in made:
        followed.replace(again.network, again)
    terms = NetworkTerms(members=4, innocents=1)
    assert followed.networks(terms, acquaintances, NOW) == guilty_networks(made, terms, acquaintances, NOW)


@given(GUILTY, KNOWN, st.sampled_from(PLACES))
def test_one_more_guilty_client_releases_no_network(
    guilty: dict[str, dict[Response, int]], friends: list[str], place: str
) -> None:
    terms, acquaintances = NetworkTerms(members=4, innocents=1), known(*friends)
    before = guilty_networks(blocks_with(guilty), terms, acquaintances, NOW)
    after = guilty_networks(blocks_with({**guilty, place: {Response.BLOCK: NOW + 50}}), terms, acquaintances, NOW)
    for each in before:
        for response, end in each.ends.items():
            assert end_of(after, parse_network(each.network), response) >= end


@given(GUILTY, KNOWN)
def test_no_network_lies_within_one_that_is_guilty_for_as_long(
    guilty: dict[str, dict[Response, int]], friends: list[str]
) -> None:
    networks = guilty_networks(blocks_with(guilty), NetworkTerms(members=4), known(*friends), NOW)
    for each in networks:
        others = [other for other in networks if other.network != each.network]
        assert any(end > end_of(others, parse_network(each.network), response) for response, end in each.ends.items())
