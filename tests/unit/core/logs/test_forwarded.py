"""The client behind trusted proxies is never taken from the part of the header that the client writes."""

from ipaddress import ip_address

import pytest

from chalicelib.core.addresses import NetworkSet, pack, parse_network
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.cloudfront import CloudFrontLines
from chalicelib.core.logs.forwarded import HOPS, client_behind
from chalicelib.core.logs.requests import Reason
from tests.support.records import cloudfront, waf_text

TRUSTED = NetworkSet(map(parse_network, ("192.0.2.0/24", "2001:db8:ff::/48")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        pytest.param("203.0.113.9", "198.51.100.1", "203.0.113.9", id="a stranger's header is not believed"),
        pytest.param("203.0.113.9", "", "203.0.113.9", id="a stranger without one"),
        pytest.param("192.0.2.1", "203.0.113.9", "203.0.113.9", id="one proxy"),
        pytest.param("192.0.2.1", "198.51.100.1, 203.0.113.9", "203.0.113.9", id="a forged left-most entry"),
        pytest.param("192.0.2.1", "not,an,address, 203.0.113.9", "203.0.113.9", id="forged garbage"),
        pytest.param("192.0.2.1", "203.0.113.9, 192.0.2.7, 192.0.2.8", "203.0.113.9", id="a chain of proxies"),
        pytest.param("192.0.2.1", "192.0.2.66, 203.0.113.9", "203.0.113.9", id="a forged proxy at the left"),
        pytest.param("192.0.2.1", "203.0.113.9, 2001:DB8:FF::1", "203.0.113.9", id="a proxy with IPv6"),
        pytest.param("192.0.2.1", "203.0.113.9:4711", "203.0.113.9", id="a port"),
        pytest.param("192.0.2.1", "[2001:db8::9]:4711", "2001:db8::9", id="IPv6 and a port"),
        pytest.param("192.0.2.1", "[2001:db8::9]", "2001:db8::9", id="IPv6 in brackets"),
        pytest.param("192.0.2.1", "2001:db8::9", "2001:db8::9", id="IPv6"),
        pytest.param("192.0.2.1", "::ffff:203.0.113.9", "203.0.113.9", id="IPv4-mapped"),
        pytest.param("192.0.2.1", "  203.0.113.9\t", "203.0.113.9", id="blanks"),
        pytest.param("192.0.2.1", "", None, id="a proxy that names nobody"),
        pytest.param("192.0.2.1", "203.0.113.9,", "203.0.113.9", id="an empty member at the end"),
        pytest.param("192.0.2.1", "203.0.113.9, , ,\t,", "203.0.113.9", id="several empty members"),
        pytest.param("192.0.2.1", "198.51.100.1, ,203.0.113.9, ,192.0.2.7,", "203.0.113.9", id="empty members within"),
        pytest.param("192.0.2.1", "," * 10_000 + "203.0.113.9", "203.0.113.9", id="empty members before"),
        pytest.param("192.0.2.1", " , ,", None, id="empty members only"),
        pytest.param("192.0.2.1", "203.0.113.9, unknown", None, id="unknown"),
        pytest.param("192.0.2.1", "203.0.113.9, 192.0.2.300", None, id="garbage at the right"),
        pytest.param("192.0.2.1", "203.0.113.9, é", None, id="not even ASCII"),
        pytest.param("192.0.2.1", "192.0.2.7", None, id="nobody but proxies"),
        pytest.param("192.0.2.1", "203.0.113.9" + ", 192.0.2.7" * (HOPS - 1), "203.0.113.9", id="the longest chain"),
        pytest.param("192.0.2.1", "203.0.113.9" + ", 192.0.2.7" * HOPS, None, id="a chain that is not believed"),
    ],
)
def test_the_client_is_the_right_most_address_that_is_not_a_trusted_proxy(
    peer: str, forwarded: str, client: str | None
) -> None:
    result = client_behind(ip_address(peer).packed, forwarded, TRUSTED)
    assert result == (client and pack(client.encode()))


@pytest.mark.parametrize(
    ("cell", "outcome"),
    [
        ("198.51.100.1,%20203.0.113.9", "203.0.113.9"),
        ("-", Reason.FORWARDED),
        ("x", Reason.FORWARDED),
    ],
)
def test_behind_a_proxy_the_client_comes_from_cloudfronts_field(cell: str, outcome: str | Reason) -> None:
    requests, malformed = CloudFrontLines(trusted=TRUSTED).decode(
        [cloudfront(c_ip="192.0.2.1", x_forwarded_for=cell), cloudfront(c_ip="203.0.113.1", x_forwarded_for=cell)]
    )
    result = [*map(str, map(ip_address, requests.clients)), *(piece.reason for piece in malformed)]
    assert sorted(result) == sorted([outcome, "203.0.113.1"])


def test_an_unreadable_peer_address_has_its_own_reason() -> None:
    _, malformed = CloudFrontLines(trusted=TRUSTED).decode([cloudfront(c_ip="x", x_forwarded_for="203.0.113.9")])
    assert [piece.reason for piece in malformed] == [Reason.ADDRESS]


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        pytest.param([{"name": "x-forwarded-for", "value": "203.0.113.9"}], "203.0.113.9", id="lower case"),
        pytest.param([{"name": "X-FORWARDED-FOR", "value": "203.0.113.9"}], "203.0.113.9", id="upper case"),
        pytest.param(
            [{"name": "X-Forwarded-For", "value": "198.51.100.1"}, {"name": "x-forwarded-for", "value": "203.0.113.9"}],
            "203.0.113.9",
            id="two headers are one list",
        ),
        pytest.param([{"name": "X-Forwarded-For"}], Reason.FORWARDED, id="a header without a value"),
        pytest.param([{"name": "X-Forwarded-For", "value": "REDACTED"}], Reason.FORWARDED, id="redacted"),
        pytest.param([], Reason.FORWARDED, id="no header"),
        pytest.param(None, Reason.FORWARDED, id="no headers at all"),
    ],
)
def test_behind_a_proxy_the_client_comes_from_wafs_header(headers: object, outcome: str | Reason) -> None:
    decoded = BatchDecoder(trusted=TRUSTED).decode([waf_text(clientIp="192.0.2.1", headers=headers)])
    clients = [str(ip_address(client)) for requests in decoded.requests for client in requests.clients]
    assert [*clients, *(piece.reason for piece in decoded.malformed)] == [outcome]
