"""Networks are matched with those that contain them."""

from ipaddress import ip_network

from sluice.analysis.compare import BlockedNetwork, Side, compare


def blocked(network: str, at: int, refused: int = 0) -> BlockedNetwork:
    return BlockedNetwork(ip_network(network), at, refused, ("r",))


def side(*networks: BlockedNetwork) -> Side:
    return Side("side", {blocked.client: blocked for blocked in networks})


def test_an_address_matches_the_network_it_is_part_of() -> None:
    wide = side(blocked("192.0.2.0/24", 10), blocked("2001:db8::/64", 5))
    narrow = side(blocked("192.0.2.7/32", 4), blocked("192.0.2.8/32", 12), blocked("198.51.100.1/32", 1))
    comparison = compare(wide, narrow)
    assert [(str(pair.second.client), pair.sooner_s) for pair in comparison.both] == [
        ("192.0.2.8/32", 2),
        ("192.0.2.7/32", -6),
    ]
    assert [str(blocked.client) for blocked in comparison.only_first] == ["2001:db8::/64"]
    assert [str(blocked.client) for blocked in comparison.only_second] == ["198.51.100.1/32"]
    turned = compare(narrow, wide)
    assert sorted(pair.sooner_s for pair in turned.both) == [-2, 6]
    assert [str(blocked.client) for blocked in turned.only_second] == ["2001:db8::/64"]
