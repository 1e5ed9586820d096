"""A cover that follows changes is what collapsing everything gives."""

from collections import Counter
from ipaddress import collapse_addresses, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.addresses import Network, Span, network_at, span_of
from chalicelib.core.cover import Cover, collapsed

close = st.tuples(st.integers(0, 31), st.integers(26, 32)).map(
    lambda drawn: span_of(str(ip_network((0xC0000200 + drawn[0], drawn[1]), strict=False)))
)
close6 = st.tuples(st.integers(0, 7), st.integers(60, 64)).map(
    lambda drawn: span_of(str(ip_network(((0x20010DB8 << 96) + (drawn[0] << 64), drawn[1]), strict=False)))
)


def fewest(spans: Counter[Span]) -> set[Network]:
    return set(collapse_addresses(map(network_at, spans.elements())))  # type: ignore[type-var]


@given(
    st.sampled_from([close, close6]).flatmap(
        lambda networks: st.tuples(
            st.lists(networks, max_size=9), st.lists(st.tuples(st.booleans(), networks), max_size=40)
        )
    )
)
def test_after_every_change_it_is_what_collapsing_all_networks_gives(
    drawn: tuple[list[Span], list[tuple[bool, Span]]],
) -> None:
    first, changes = drawn
    cover, there = Cover(first), Counter(first)
    assert cover.networks == fewest(there)
    for adds, span in changes:
        if adds:
            cover.add(span)
            there[span] += 1
        elif there[span]:
            cover.remove(span)
            there[span] -= 1
        assert cover.networks == fewest(there)


def test_a_removed_network_leaves_the_other_halves_of_what_it_completed() -> None:
    cover = Cover(span_of(f"192.0.2.{host}/32") for host in range(256))
    assert {str(network) for network in cover.networks} == {"192.0.2.0/24"}
    cover.remove(span_of("192.0.2.0/32"))
    assert {network.prefixlen for network in cover.networks} == set(range(25, 33))
    cover.add(span_of("192.0.2.0/32"))
    assert {str(network) for network in cover.networks} == {"192.0.2.0/24"}


def test_a_network_that_was_not_added_cannot_be_removed() -> None:
    cover = Cover([span_of("192.0.2.0/24")])
    with pytest.raises(ValueError, match=r"192\.0\.2\.7/32 is not one of the networks"):
        cover.remove(span_of("192.0.2.7/32"))


def test_the_halves_of_a_family_are_not_merged_because_aws_rejects_that() -> None:
    cover = Cover()
    for half in ("::/1", "8000::/1"):
        cover.add(span_of(half))
    assert {str(network) for network in cover.networks} == {"::/1", "8000::/1"}
    assert len(collapsed([span_of("0.0.0.0/1"), span_of("128.0.0.0/1")])) == 2
