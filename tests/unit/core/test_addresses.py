"""Addresses and networks, against Python's own, slower ones."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.addresses import (
    MEMO_ENTRIES,
    AddressMemo,
    Network,
    NetworkSet,
    PrefixMemo,
    network_at,
    network_of,
    pack,
    parse_network,
    span_of,
)

v4 = st.integers(0, 2**32 - 1).map(IPv4Address)
v6 = st.integers(0, 2**128 - 1).map(IPv6Address) | st.integers(0, 2**32 - 1).map(
    lambda low: IPv6Address(0x2001_0DB8 << 96 | low)
)
mapped = v4.map(lambda address: IPv6Address(0xFFFF << 32 | int(address)))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Networks near one another, so that some overlap."""
    if draw(st.booleans()):
        return ip_network((0xC0000200 + draw(st.integers(0, 255)), draw(st.integers(22, 32))), strict=False)
    return ip_network(((0x20010DB8 << 96) + draw(st.integers(0, 255)), draw(st.integers(118, 128))), strict=False)


def spellings(address: IPv4Address | IPv6Address) -> set[str]:
    if address.version == 4:
        return {str(address), f"::ffff:{address}", f"::FFFF:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"}
    return {str(address), str(address).upper(), address.exploded, address.exploded.upper()}


@given(v4 | v6)
def test_every_spelling_is_the_same_client(address: IPv4Address | IPv6Address) -> None:
    expected = getattr(address, "ipv4_mapped", None) or address
    assert {pack(text.encode()) for text in spellings(address)} == {expected.packed}


@given(mapped)
def test_an_ipv4_mapped_address_is_the_ipv4_address(address: IPv6Address) -> None:
    assert pack(str(address).encode()) == int(address).to_bytes(16, "big")[12:]


@given(st.text("0123456789abcdef:.", max_size=20) | st.text(max_size=10))
def test_the_same_texts_are_addresses_as_for_python(text: str) -> None:
    try:
        expected = ip_address(text)
    except ValueError:
        assert pack(text.encode()) is None
    else:
        expected = getattr(expected, "ipv4_mapped", None) or expected
        assert pack(text.encode()) == (None if "%" in text else expected.packed)


small = st.tuples(st.integers(0, 31), st.integers(27, 32)).map(
    lambda drawn: IPv4Network((drawn[0] & -1 << 32 - drawn[1], drawn[1]))
)


@given(small, st.lists(small, max_size=4))
def test_what_is_outside_of_networks_is_the_fewest_networks_with_the_other_addresses(
    network: IPv4Network, others: list[IPv4Network]
) -> None:
    span = span_of(str(network))
    outside = [network_at(each) for each in NetworkSet(others).outside(span)]
    left = set(network) - {address for other in others for address in other}
    assert {address for each in outside for address in each} == left
    assert outside == list(collapse_addresses(map(IPv4Network, left)))
    assert NetworkSet(others).covers(span) == (not left)


@pytest.mark.slow
def test_a_flood_of_new_addresses_does_not_exhaust_memory() -> None:
    memo = AddressMemo()
    for batch in range(5):
        texts = [b"10.%d.%d.%d" % (batch, n >> 8, n & 255) for n in range(MEMO_ENTRIES // 2 + 1)]
        assert memo.pack_all(texts) == [bytes([10, batch, n >> 8, n & 255]) for n in range(len(texts))]
        assert len(memo) <= MEMO_ENTRIES + len(texts)
    prefixes = PrefixMemo(32, 64)
    for batch in range(5):
        prefixes.mask_all([bytes([10, batch, n >> 8, n & 255]) for n in range(MEMO_ENTRIES // 2 + 1)])
        assert len(prefixes) <= 2 * MEMO_ENTRIES


@given(v4 | v6, st.integers(8, 32), st.integers(16, 128))
def test_a_masked_address_stands_for_its_network(address: IPv4Address | IPv6Address, ipv4: int, ipv6: int) -> None:
    (key,) = PrefixMemo(ipv4, ipv6).mask_all([address.packed])
    network = network_of(key, ipv4, ipv6)
    assert network == ip_network((address.packed, ipv4 if address.version == 4 else ipv6), strict=False)
    assert len(key) == len(address.packed)


@given(st.lists(networks(), max_size=12), networks())
def test_a_set_overlaps_whatever_one_of_its_networks_overlaps(members: list[Network], other: Network) -> None:
    network_set = NetworkSet(members)
    assert network_set.overlaps(other) == any(n.version == other.version and n.overlaps(other) for n in members)
    for edge in (other.network_address, other.broadcast_address):
        assert network_set.contains(edge.packed) == any(n.version == edge.version and edge in n for n in members)
    assert bool(network_set) == bool(members)


@given(st.lists(networks(), max_size=12))
def test_a_set_contains_its_networks_and_not_their_neighbours(members: list[Network]) -> None:
    network_set = NetworkSet(members)
    assert all(network_set.overlaps(network) for network in members)
    for network in [*collapse_addresses(n for n in members if n.version == 4)]:
        assert not network_set.contains((network.broadcast_address + 1).packed) or any(
            network.broadcast_address + 1 in n for n in members if n.version == 4
        )


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        (" 192.0.2.0/24 ", "192.0.2.0/24"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_is_parsed_in_every_form_that_operators_write(text: str, network: str) -> None:
    assert str(parse_network(text)) == network


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "192.0.2.300",
        "192.0.02.7",
        "192.0.2.0/33",
        "192.0.2.0/-1",
        "2001:db8::/129",
        "fe80::1%eth0",
        "1",
        "a/b/c",
    ],
)
def test_anything_else_is_rejected_with_the_value_and_the_accepted_form(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address or network such as 192") as caught:
        parse_network(text)
    assert str(caught.value).startswith(repr(text))


@given(v4, st.integers(1, 31))
def test_host_bits_are_rejected_and_the_network_is_named(address: IPv4Address, prefix: int) -> None:
    network = ip_network((int(address), prefix), strict=False)
    if network.network_address == address:
        assert parse_network(f"{address}/{prefix}") == network
    else:
        with pytest.raises(ValueError, match=f"has host bits set; the network is {network}$"):
            parse_network(f"{address}/{prefix}")


def test_python_accepts_zones_that_aws_rejects() -> None:
    assert ip_network("fe80::1%eth0") != IPv6Network("fe80::1"), "why zones are refused: they would be published"
