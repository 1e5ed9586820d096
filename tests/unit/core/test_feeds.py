"""Feeds: the forms in which networks are published, and what is not accepted from them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.addresses import Network, NetworkSet, parse_network
from chalicelib.core.feeds import FeedError, implausible, merged, parse_feed


def networks_of(content: str | bytes) -> list[str]:
    return list(map(str, parse_feed(content.encode() if isinstance(content, str) else content).networks))


def networks(*texts: str) -> list[Network]:
    return list(map(parse_network, texts))


SEARCH_ENGINE = {
    "creationTime": "2026-11-01T15:46:03.000000",
    "prefixes": [{"ipv6Prefix": "2001:db8:10::/64"}, {"ipv4Prefix": "192.0.2.64/27"}],
}
AWS = {
    "syncToken": "1",
    "prefixes": [{"ip_prefix": "192.0.2.64/27", "service": "CLOUDFRONT"}],
    "ipv6_prefixes": [{"ipv6_prefix": "2001:db8:10::/64", "service": "CLOUDFRONT"}],
}
CLOUDFRONT = {"CLOUDFRONT_GLOBAL_IP_LIST": ["192.0.2.64/27"], "CLOUDFRONT_REGIONAL_EDGE_IP_LIST": ["2001:db8:10::/64"]}
DROP = """{"cidr":"192.0.2.64/27","sblid":"SBL1","rir":"apnic"}
{"cidr":"2001:db8:10::/64","sblid":"SBL2","rir":"arin"}
{"type":"metadata","timestamp":1731000000,"size":2,"records":2,"copyright":"(c) Spamhaus"}
"""
TEXT = """; Last-Modified: today
192.0.2.64/27 ; SBL1
# the next in CSV
2001:db8:10::/64,DE,,Berlin

"""


@pytest.mark.parametrize(
    "content",
    [
        *(json.dumps(SEARCH_ENGINE), json.dumps(SEARCH_ENGINE, indent=2), json.dumps(AWS), json.dumps(CLOUDFRONT)),
        *(DROP, TEXT, TEXT.replace("\n", "\r\n"), "\ufeff" + TEXT, '["192.0.2.64/27", "2001:db8:10::/64"]'),
    ],
)
def test_every_form_of_a_list_gives_the_same_networks(content: str) -> None:
    assert networks_of(content) == ["192.0.2.64/27", "2001:db8:10::/64"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it contains no networks"),
        ("# nothing listed\n", "it contains no networks"),
        ("{}", "it contains no networks"),
        ("<!DOCTYPE html>\n<title>Not found</title>", "2 of its 2 entries cannot be used: '<!DOCTYPE' is not an IP"),
        ('{"prefixes": [', "it is not valid JSON: "),
        ("[" * 100_000, "it is not valid JSON: "),
        ('{"prefixes": [7]}', "1 of its 1 entries cannot be used: 7 is not the text of a network"),
        ("192.0.2.7/24", "'192.0.2.7/24' has host bits set"),
        ("x\n" * 500_000, "it has more than 20,000 entries"),
        ('{"a": [' + "0," * 20_000 + "0]}", "it has more than 20,000 entries"),
    ],
)
def test_what_is_no_list_of_networks_is_rejected_with_the_reason(content: str, reason: str) -> None:
    with pytest.raises(FeedError) as raised:
        networks_of(content)
    assert reason in str(raised.value)


def test_content_that_is_not_utf8_is_rejected() -> None:
    with pytest.raises(FeedError, match="it is not UTF-8"):
        networks_of(b"192.0.2.0\xff")


@pytest.mark.parametrize(
    "inside",
    [
        *("10.1.2.3", "127.0.0.1", "169.254.169.254", "100.64.0.1", "172.16.0.0/24", "192.168.1.0/24", "224.0.0.1"),
        *(
            "255.255.255.255",
            "::1",
            "::ffff:10.0.0.1",
            "fd00:ec2::254",
            "fe80::1",
            "64:ff9b::a9fe:a9fe",
            "2002:a00::/24",
        ),
        *("8.0.0.0/7", "0.0.0.0/0", "::/0", "2000::/4"),
    ],
)
def test_addresses_of_the_inside_and_networks_that_are_too_wide_are_never_taken_from_a_list(inside: str) -> None:
    usual = [f"192.0.{n}.0/24" for n in range(1, 256, 2)]
    published = parse_feed("\n".join([*usual, inside]).encode())
    assert len(published.networks) == len(usual)
    assert published.entries == len(usual) + 1
    assert len(published.skipped) == 1


def test_a_list_with_one_bad_entry_in_fifty_is_rejected_and_with_one_in_a_hundred_is_used() -> None:
    lines = [f"198.51.{n}.0/24" for n in range(0, 198, 2)]
    assert len(parse_feed("\n".join([*lines, "?"]).encode()).networks) == 99
    with pytest.raises(FeedError, match="1 of its 50 entries"):
        parse_feed("\n".join([*lines[:49], "?"]).encode())


def test_reasons_show_as_one_line_whatever_the_list_contains() -> None:
    with pytest.raises(FeedError) as raised:
        parse_feed("\x1b[2J\u202e\n".encode())
    assert str(raised.value).isprintable()


def outcome(content: bytes) -> str:
    """Returns the networks of a list, of which there is at least one, or why it is rejected."""
    try:
        return ", ".join(map(str, parse_feed(content).networks)) or "nothing\n"
    except FeedError as exc:
        return str(exc)


@given(st.binary(max_size=200))
def test_no_content_raises_anything_else(content: bytes) -> None:
    assert outcome(content).isprintable()


json_values: Callable[[], Any] = lambda: st.recursive(  # noqa: E731
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.just("cidr"), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values())
def test_no_json_raises_anything_else(value: object) -> None:
    assert outcome(json.dumps(value).encode()).isprintable()


ADDRESSES = st.ip_addresses().map(str).map(parse_network)


@given(st.lists(ADDRESSES, max_size=20))
def test_merging_keeps_exactly_the_addresses(listed: list[Network]) -> None:
    assert NetworkSet(merged(listed)).equals(NetworkSet(listed))


def singles(number: int) -> list[Network]:
    return [parse_network(f"198.51.{2 * n // 256}.{2 * n % 256}") for n in range(number)]


@pytest.mark.parametrize(
    ("before", "after", "doubt"),
    [
        (100, 100, None),
        (100, 45, None),
        (100, 44, "it shrinks from 100 networks to 44"),
        (100, 210, None),
        (100, 211, "it grows from 100 networks to 211"),
        (4, 1, None),
        (1, 12, None),
    ],
)
def test_a_list_may_halve_and_double(before: int, after: int, doubt: str | None) -> None:
    assert implausible(singles(after), singles(before)) == doubt


@pytest.mark.parametrize("wide", ["96.0.0.0/8", "2600::/20"])
def test_a_wide_network_among_narrow_ones_is_noticed(wide: str) -> None:
    before = [*singles(50), parse_network("2001:db8::/48")]
    assert "addresses" in (implausible([*before, parse_network(wide)], before) or "")
