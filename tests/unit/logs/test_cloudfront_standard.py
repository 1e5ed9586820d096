"""Standard logs with unusual headers, times and proxies."""

import json
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.logs.cloudfront_standard import VERSION_1
from sluice.logs.files import Chunk
from sluice.replay.engine import Options, replay
from tests.support import replay_logs as logs
from tests.support.replay_logs import T0, THREE, Hit, one_rule

V2_DATED = ("date", "time", "c-ip", "cs(Host)", "x-forwarded-for")


def test_a_status_of_000_matches_000_alone() -> None:
    rules = one_rule(2, more='scope = { status = ["000"] }')
    made = [logs.standard(Hit(T0, "2001:DB8::AB", status="000"))] * 3 + [logs.standard(Hit(T0, "192.0.2.1"))] * 3
    (result,) = replay([logs.chunk(made)], [rules], Options())
    assert [str(breach.network) for breach in result.breaches] == ["2001:db8::/64"]


@pytest.mark.parametrize("form", ["w3c", "json"])
def test_version_2_without_milliseconds_is_counted_by_date_and_time(form: str) -> None:
    cells = ("2025-10-09", "08:53:20", "2001:DB8::1", "d111111abcdef8.cloudfront.net", "-")
    lines = ["\t".join(cells)] if form == "w3c" else [json.dumps(dict(zip(V2_DATED, cells, strict=True)))]
    header = "#Fields: " + " ".join(V2_DATED) + "\n" if form == "w3c" else ""
    rules = one_rule(0, more='scope = { host = ["*.cloudfront.net"] }')
    (result,) = replay([logs.chunk(lines, header)], [rules], Options())
    assert [(str(b.network), b.first_ms) for b in result.breaches] == [("2001:db8::/64", T0)]


@pytest.mark.parametrize("form", ["w3c", "json", "real-time"])
def test_the_client_behind_a_trusted_proxy_is_the_forwarded_one(form: str) -> None:
    proxy = (ip_network("192.0.2.0/24"),)
    for forwarded, expected in (("9.9.9.9,%20198.51.100.7", ["198.51.100.7/32"]), ("-", [])):
        plain = forwarded.replace("%20", " ")
        cells = ("2025-10-09", "08:53:20", "192.0.2.1", "example.com", plain if form == "json" else forwarded)
        chunk = {
            "w3c": logs.chunk(["\t".join(cells)], "#Fields: " + " ".join(V2_DATED) + "\n"),
            "json": logs.chunk([json.dumps(dict(zip(V2_DATED, cells, strict=True)))]),
            "real-time": logs.chunk([logs.realtime(THREE[0]).removesuffix("-") + forwarded]),
        }[form]
        (result,) = replay([chunk], [one_rule(0)], Options(trusted=proxy))
        assert [str(breach.network) for breach in result.breaches] == expected
        assert dict(result.stats.malformed) == ({} if expected else {"forwarded-for": 1})


def test_lines_under_a_header_without_time_or_client_are_malformed() -> None:
    (result,) = replay(
        [logs.chunk(["GET\t/", "GET\t/a"], "#Fields: cs-method cs-uri-stem\n")], [one_rule(0)], Options()
    )
    assert dict(result.stats.malformed) == {"fields": 2}


@pytest.mark.slow
@given(
    st.lists(st.sampled_from([*VERSION_1, *logs.V2_FIELDS, "c-ip", "date", "time", "nonsense"]), max_size=8),
    st.lists(st.sampled_from(["2025-10-09", "08:53:20", "192.0.2.1", "-", "", str(T0), "GET"]), max_size=8),
)
@settings(max_examples=200, deadline=None)
def test_no_header_stops_the_decoder(fields: list[str], cells: list[str]) -> None:
    rules = one_rule(0, more='scope = { host = ["*.example.com"], path = ["/"], status = ["200"] }')
    chunk = logs.chunk(["\t".join(cells), "2025-10-09\t08:53:20\tmore"], "#Fields: " + " ".join(fields) + "\n")
    (result,) = replay([chunk], [rules], Options())
    assert result.stats.requests + result.stats.malformed.total() == 1 + ("\t".join(cells) != "")


def test_fields_of_a_standard_log_may_come_in_any_order() -> None:
    chunk = logs.chunk(["192.0.2.1\t08:53:20\tGET\t2025-10-09"], "#Fields: c-ip time cs-method date\n")
    (result,) = replay([chunk], [one_rule(0)], Options())
    assert [(str(b.network), b.first_ms) for b in result.breaches] == [("192.0.2.1/32", T0)]


GOOD = logs.standard(THREE[0])
LINES = st.sampled_from(
    (
        GOOD,
        GOOD,
        logs.standard(Hit(T0, "2001:db8::1")),
        logs.standard(Hit(T0, "192.0.2.256")),
        logs.standard(Hit(T0, "x")),
        GOOD.replace(":", "", 1),
        GOOD + "\t-",
        GOOD.removesuffix("\t-"),
        GOOD + "\r",
        "\t" + GOOD.removesuffix("\t-"),
        "#" + GOOD,
        "# a comment",
        "",
    )
)


@given(st.lists(LINES, max_size=8), st.booleans())
@settings(deadline=None)
def test_a_whole_text_is_decoded_like_each_of_its_lines(lines: list[str], is_cut_short: bool) -> None:
    header = logs.STANDARD_HEADER.splitlines()[-1].encode()
    text = "\n".join(lines) + ("" if is_cut_short else "\n")
    (whole,) = replay([Chunk((logs.STANDARD_HEADER + text).encode())], [one_rule(100)], Options())
    (apart,) = replay([Chunk(line.encode(), header) for line in lines], [one_rule(100)], Options())
    assert (whole.stats.requests, whole.stats.malformed) == (apart.stats.requests, apart.stats.malformed)
    (everything,) = replay([Chunk(text.encode(), header)], [one_rule(0)], Options())
    (each,) = replay([Chunk(line.encode(), header) for line in lines], [one_rule(0)], Options())
    assert everything.breaches == each.breaches
