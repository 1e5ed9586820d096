"""What a rule may block, compared with an obvious search through all entries of the allowlist."""

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.addresses import span_of
from chalicelib.core.exemptions import Exemptions, networks_meant
from chalicelib.core.state.allowlist import Allow

RULES = ("burst", "crawl", "login")
networks = st.builds(
    lambda last, prefix: IPv4Network((f"192.0.2.{last}", prefix), strict=False), st.integers(0, 31), st.integers(27, 32)
)
entries = st.builds(
    lambda network, rules: Allow(network=str(network), rules=tuple(rules)), networks, st.lists(st.sampled_from(RULES))
)


@given(st.lists(entries, max_size=6), st.lists(networks, max_size=2), networks, st.sampled_from(RULES))
def test_a_rule_spares_what_is_exempt_as_a_whole_or_overlaps_an_entry_for_it(
    allowed: list[Allow], meant: list[IPv4Network], network: IPv4Network, rule: str
) -> None:
    exempt = Exemptions.of(allowed, meant)
    whole = [*meant, *(entry.network_value() for entry in allowed if not entry.rules)]
    covered = all(any(address in each for each in whole) for address in network)
    named = any(rule in entry.rules and entry.network_value().overlaps(network) for entry in allowed)
    assert exempt.spares(span_of(str(network)), rule) == (covered or named)
    assert exempt.networks.overlaps(network) == any(each.overlaps(network) for each in whole)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("198.51.100.77/24", "198.51.100.0/24"),
        ("198.51.100.7/32 ", "198.51.100.7/32"),
        ("198.51.100.0/33", "198.51.100.0/22"),
        ("198.51.100.7/", "198.51.100.7/32"),
        ("198.51.100.6/24/x", "198.51.100.6/31"),
        ("10.0.0.0/x", "10.0.0.0/16"),
        ("0.0.0.0/x", "0.0.0.0/16"),
        ("2001:db8::5/128 ", "2001:db8::5/128"),
        ("2001:db8::4/129", "2001:db8::4/126"),
        ("2001:db8::/x", "2001:db8::/32"),
        ("::/x", "::/32"),
    ],
)
def test_what_an_unreadable_entry_may_mean_is_exempt_as_widely_as_its_text_allows(text: str, network: str) -> None:
    assert [str(each) for each in networks_meant(text, b"")] == [network]
