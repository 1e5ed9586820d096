"""What a rule may block, compared with an obvious search through all entries of the allowlist."""

from ipaddress import IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.addresses import span_of
from chalicelib.core.exemptions import Exemptions
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
