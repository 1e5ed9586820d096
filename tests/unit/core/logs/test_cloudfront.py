"""Real-time log lines, each beside the request it stands for."""

from typing import Any

import pytest

from chalicelib.core.addresses import NetworkSet, parse_network
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, FIELDS, CloudFrontLines, time_ms, times_ms
from chalicelib.core.logs.requests import Reason, Source
from tests.support.records import cloudfront, rows

NEEDED = ("timestamp", "c-ip")
DOCUMENTED = (
    *("timestamp", "c-ip", "s-ip", "time-to-first-byte", "sc-status", "sc-bytes", "cs-method", "cs-protocol"),
    *("cs-host", "cs-uri-stem", "cs-bytes", "x-edge-location", "x-edge-request-id", "x-host-header", "time-taken"),
    *("cs-protocol-version", "c-ip-version", "cs-user-agent", "cs-referer", "cs-cookie", "cs-uri-query"),
    *("x-edge-response-result-type", "x-forwarded-for"),
)


def only_row(line: bytes, fields: tuple[str, ...] = DEFAULT_FIELDS) -> dict[str, Any]:
    requests, malformed = CloudFrontLines(fields).decode([line])
    assert not malformed
    (row,) = rows(requests)
    return row


def test_a_line_of_the_default_fields() -> None:
    line = (
        b"1760000000.123\t203.0.113.9\t404\tPOST\tWWW.Example.com\t/a%2520b/%C3%A9?q=%2541"
        b"\tid-1==\tMozilla/5.0%20(X11;%20Linux)\t-"
    )
    assert only_row(line) == {
        "time": 1760000000123,
        "client": "203.0.113.9",
        "host": "www.example.com",
        "path": "/a%20b/é",
        "method": "POST",
        "status": "404",
        "country": None,
        "user_agent": "Mozilla/5.0 (X11; Linux)",
        "waf_action": None,
        "waf_label": None,
    }


def test_a_documented_line_of_22_fields() -> None:
    fields = tuple(name for name in DOCUMENTED if name != "s-ip")
    line = (
        b"1760000000.123\t203.0.113.9\t0.042\t200\t485\tGET\thttps\twww.example.com\t/i?x=1\t745\tIAD89-P1\tid==\t"
        b"d111111abcdef8.cloudfront.net\t0.042\tHTTP/2.0\tIPv4\tcurl/8.5.0\t-\t-\tx=1\tMiss\t-"
    )
    row = only_row(line, fields)
    assert (row["path"], row["status"], row["host"], row["user_agent"]) == (
        "/i",
        "200",
        "www.example.com",
        "curl/8.5.0",
    )


def test_there_are_71_fields_and_the_first_are_in_the_documented_order() -> None:
    assert len(FIELDS) == len(set(FIELDS)) == 71
    assert FIELDS[:23] == DOCUMENTED
    assert [FIELDS[n - 1] for n in (33, 35, 39, 46, 64, 65, 71)] == [
        *("c-port", "c-country", "cs-headers", "asn", "cmcd-version", "r-host", "viewer-response-log-data")
    ]


@pytest.mark.parametrize("count", [9, 12, 46, 71])
def test_fields_are_decoded_in_the_order_of_delivery_whatever_order_is_configured(count: int) -> None:
    names = [*dict.fromkeys((*DEFAULT_FIELDS, "c-country", *FIELDS))][:count]
    reader = CloudFrontLines(names[::-1])
    assert reader.fields == tuple(name for name in FIELDS if name in names)
    requests, malformed = reader.decode([cloudfront(names), cloudfront(names, cs_uri_stem="/other")])
    assert not malformed
    assert [row["path"] for row in rows(requests)] == ["/i", "/other"]
    assert [row["country"] for row in rows(requests)] == ["DE" if "c-country" in names else None] * 2


def test_the_two_required_fields_are_enough() -> None:
    requests, malformed = CloudFrontLines(NEEDED).decode([b"1760000000.123\t203.0.113.9"])
    assert (requests.source, len(requests), len(requests.ids), malformed) == (Source.CLOUDFRONT, 1, 0, [])
    assert requests.columns("path") is None


@pytest.mark.parametrize(
    ("cells", "column", "text"),
    [
        pytest.param({"cs_uri_stem": "-"}, "path", "", id="an empty value is a hyphen"),
        pytest.param({"cs_user_agent": "-"}, "user_agent", "", id="no user agent"),
        pytest.param({"cs_uri_stem": "/a?b=/c?d"}, "path", "/a", id="the query is no part of the path"),
        pytest.param({"cs_uri_stem": "/a%3Fb"}, "path", "/a?b", id="an encoded question mark is part of the path"),
        pytest.param({"cs_uri_stem": "/%2541"}, "path", "/%41", id="decoded once: what the client sent"),
        pytest.param({"cs_uri_stem": "/%ff"}, "path", "/�", id="what is not UTF-8 is replaced"),
        pytest.param({"cs_uri_stem": "/%zz%"}, "path", "/%zz%", id="what is no encoding stays"),
        pytest.param({"cs_uri_stem": "/a+b"}, "path", "/a+b", id="plus is not a space"),
        pytest.param({"cs_host": "WWW.EXAMPLE.COM:443"}, "host", "www.example.com", id="the host has no port"),
        pytest.param({"cs_host": "www.example.com."}, "host", "www.example.com", id="nor a final dot"),
        pytest.param({"sc_status": "000"}, "status", "000", id="the viewer hung up"),
        pytest.param({"cs_user_agent": "a%09b%2522"}, "user_agent", "a\tb%22", id="a tab the client sent"),
    ],
)
def test_cells_decode_to_what_the_client_sent(cells: dict[str, str], column: str, text: str) -> None:
    assert only_row(cloudfront(**cells))[column] == text


def test_an_unknown_country_is_a_hyphen_as_in_the_waf_log() -> None:
    fields = (*DEFAULT_FIELDS, "c-country")
    assert [only_row(cloudfront(fields, c_country=code), fields)["country"] for code in ("DE", "-")] == ["DE", "-"]


@pytest.mark.parametrize(
    ("cell", "time"),
    [
        pytest.param("1760000000.123", 1760000000123, id="seconds with three decimals"),
        pytest.param("1760000000.1", 1760000000100, id="one decimal"),
        pytest.param("1760000000.1239", 1760000000123, id="more decimals are cut"),
        pytest.param("1760000000", 1760000000000, id="whole seconds"),
        pytest.param("1760000000123", 1760000000123, id="integer milliseconds"),
        pytest.param("0176000000.123", 176000000123, id="a leading zero"),
        pytest.param("-", None, id="no time"),
        pytest.param("", None, id="empty"),
        pytest.param("2026-01-01T00:00:00Z", None, id="another form"),
        pytest.param("1760000000.", None, id="nothing after the dot"),
        pytest.param("+1760000000.123", None, id="a sign"),
        pytest.param("1_760_000_000", None, id="underscores, which int() would take"),
        pytest.param("17600.0000.123", None, id="two dots"),
        pytest.param("1760000000 123", None, id="a space"),
        pytest.param("1.76e9", None, id="an exponent"),
        pytest.param("nan", None, id="not a number"),
        pytest.param("1760000000123.5", None, id="milliseconds with decimals"),
        pytest.param("17600000001234567", None, id="nanoseconds"),
        pytest.param("\u0661" * 10, None, id="digits of another script"),
    ],
)
def test_times(cell: str, time: int | None) -> None:
    usual = b"1760000000.123"
    assert time_ms(cell.encode()) == time
    for cells in ([cell.encode()], [usual, cell.encode()], [cell.encode(), usual, usual]):
        assert times_ms(cells) == [1760000000123 if c == usual else time for c in cells], "whatever stands beside it"


def test_cells_that_look_valid_only_when_joined_are_parsed_one_by_one() -> None:
    cells = [b"1760000000.123 1760000000.123", b"1760000000.12", b""]
    assert times_ms(cells) == [None, 1760000000120, None]


@pytest.mark.parametrize(
    ("text", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:0db8:85a3::8a2e:0370:7334", "2001:db8:85a3::8a2e:370:7334"),
        ("2001:DB8:85A3:0:0:8A2E:370:7334", "2001:db8:85a3::8a2e:370:7334"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::FFFF:cb00:7109", "203.0.113.9"),
        ("0:0:0:0:0:ffff:cb00:7109", "203.0.113.9"),
        ("::1", "::1"),
    ],
)
def test_every_spelling_of_an_address_is_the_same_client(text: str, client: str) -> None:
    assert only_row(cloudfront(c_ip=text))["client"] == client


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b"garbage", Reason.FIELDS, id="one field"),
        pytest.param(cloudfront() + b"\t-", Reason.FIELDS, id="a field too many"),
        pytest.param(cloudfront().rpartition(b"\t")[0], Reason.FIELDS, id="a field too few"),
        pytest.param(b"#Version: 1.0", Reason.FIELDS, id="a header of the standard log"),
        pytest.param(b"\t" * 8, Reason.TIMESTAMP, id="nothing but tabs"),
        pytest.param(cloudfront(timestamp="-"), Reason.TIMESTAMP, id="no time"),
        pytest.param(b"\xef\xbb\xbf" + cloudfront(), Reason.TIMESTAMP, id="a byte order mark"),
        pytest.param(cloudfront(c_ip="-"), Reason.ADDRESS, id="no address"),
        pytest.param(cloudfront(c_ip="203.0.113.256"), Reason.ADDRESS, id="no byte is 256"),
        pytest.param(cloudfront(c_ip="203.0.113.9\0"), Reason.ADDRESS, id="NUL after the address"),
        pytest.param(cloudfront(c_ip="203.0.0113.9"), Reason.ADDRESS, id="octal or decimal?"),
        pytest.param(cloudfront(c_ip="fe80::1%25eth0"), Reason.ADDRESS, id="a zone"),
        pytest.param(cloudfront(c_ip="1" * 5000), Reason.ADDRESS, id="much too long for an address"),
        pytest.param(cloudfront(timestamp="x", c_ip="x"), Reason.TIMESTAMP, id="of two faults one is named"),
        pytest.param(cloudfront().replace(b"curl/8.5.0\t", b"\xff"), Reason.ENCODING, id="short and not UTF-8"),
        pytest.param(b"a" * (1 << 20), Reason.FIELDS, id="1 MB"),
    ],
)
def test_a_bad_line_is_malformed_with_a_reason_and_the_others_count(line: bytes, reason: Reason) -> None:
    requests, malformed = CloudFrontLines().decode([cloudfront(), line, cloudfront()])
    assert len(requests) == 2
    assert [piece.reason for piece in malformed] == [reason]


def test_a_line_of_a_megabyte_is_decoded() -> None:
    requests, malformed = CloudFrontLines().decode([cloudfront(cs_user_agent="a" * (1 << 20))])
    assert len(requests) == 1
    assert not malformed


@pytest.mark.parametrize("written", [b"\xff", b"\xc3", b"\xed\xa0\x80", bytes(range(128, 256))])
def test_bytes_that_are_not_utf8_hide_no_request(written: bytes) -> None:
    line = cloudfront(cs_user_agent="ABC").replace(b"ABC", written)
    for records in ([line], [line, cloudfront()], [cloudfront(), line + b"\n" + cloudfront()]):
        decoded = BatchDecoder().decode(records)
        assert (len(decoded), decoded.malformed) == (b"\n".join(records).count(b"203.0.113.9"), ())


def test_utf8_that_is_not_url_encoded_is_accepted() -> None:
    assert only_row(cloudfront(cs_user_agent="Müller", cs_uri_stem="/ü"))["path"] == "/ü"


def test_two_halves_of_a_line_are_not_one_request() -> None:
    line = cloudfront()
    for end in (b"", b"\n", b"\r\n"):
        records = [cloudfront() + end, line[:25], line[25:] + end, cloudfront() + end]
        requests, malformed = CloudFrontLines().decode(records)
        assert (len(requests), [piece.reason for piece in malformed]) == (2, [Reason.FIELDS, Reason.FIELDS])


def test_a_last_line_without_a_line_end_is_not_lost_after_one_that_has_it() -> None:
    line = cloudfront()
    for records in ([line + b"\n", line + b"\n" + line], [line + b"\n" + line, line + b"\n"]):
        requests, malformed = CloudFrontLines().decode(records)
        assert (len(requests), malformed) == (3, [])
    requests, malformed = CloudFrontLines().decode([line + b"\n", line + b"\nnot a line"])
    assert (len(requests), [piece.reason for piece in malformed]) == (2, [Reason.FIELDS])


def test_the_longest_request_that_cloudfront_accepts_is_counted() -> None:
    url, headers = "/" + "%22" * 8_191, "%22" * 32_768
    fields = (*DEFAULT_FIELDS, "cs-uri-query")
    assert (
        only_row(cloudfront(fields, cs_uri_stem=url, cs_uri_query=url, cs_user_agent=headers), fields)["status"]
        == "200"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("timestamp", "c-ip", "c_port"), "unknown CloudFront real-time field 'c_port'"),
        (("timestamp", "c-ip", "c-ip"), "a CloudFront real-time field is named twice"),
        (("timestamp",), "the CloudFront real-time fields lack 'c-ip', which Sluice needs"),
        (("c-ip",), "the CloudFront real-time fields lack 'timestamp', which Sluice needs"),
    ],
)
def test_an_invalid_field_selection_is_rejected(fields: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        CloudFrontLines(fields)


def test_trusted_proxies_require_the_forwarded_for_field() -> None:
    with pytest.raises(ValueError, match="lack 'x-forwarded-for'"):
        CloudFrontLines(NEEDED, NetworkSet([parse_network("192.0.2.0/24")]))
