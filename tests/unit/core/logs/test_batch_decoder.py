"""Batches: formats detected from the bytes, mixtures of formats, repeats, and malformed pieces."""

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

import chalicelib
from chalicelib.core.logs.batch_decoder import KPL, BatchDecoder
from chalicelib.core.logs.requests import Malformed, Reason, Source
from tests.support.records import cloudfront, envelope, rows, waf_text


def decoded(*records: bytes) -> tuple[dict[str, int], dict[str, int], int]:
    """Requests by source, malformed pieces by reason, repeats."""
    decoded = BatchDecoder().decode(records)
    sources = {str(requests.source): len(requests) for requests in decoded.requests}
    return sources, dict(Counter(str(piece.reason) for piece in decoded.malformed)), decoded.repeats


@pytest.mark.parametrize(
    ("records", "sources", "malformed"),
    [
        pytest.param([cloudfront()], {"cloudfront": 1}, {}, id="CloudFront"),
        pytest.param([waf_text()], {"waf": 1}, {}, id="WAF"),
        pytest.param([envelope(waf_text(), waf_text())], {"waf": 2}, {}, id="WAF in an envelope"),
        pytest.param([envelope(waf_text(), b"x", b"")], {"waf": 1}, {"fields": 1, "empty": 1}, id="odd events"),
        pytest.param([envelope(waf_text() + b"\n")], {"waf": 1}, {}, id="an event that ends its line"),
        pytest.param([envelope(kind="CONTROL_MESSAGE")], {}, {}, id="a control message"),
        pytest.param([], {}, {}, id="no records"),
        pytest.param(
            [cloudfront(), waf_text(), envelope(waf_text()), KPL + b"...", b"", b"x"],
            {"cloudfront": 1, "waf": 2},
            {"kpl-aggregate": 1, "empty": 1, "fields": 1},
            id="everything at once",
        ),
        pytest.param([cloudfront() + b"\n"], {"cloudfront": 1}, {}, id="a line with its end"),
        pytest.param([cloudfront() + b"\r\n"], {"cloudfront": 1}, {}, id="and a carriage return"),
        pytest.param([cloudfront() + b"\n" + cloudfront() + b"\n"], {"cloudfront": 2}, {}, id="two lines in a record"),
        pytest.param([cloudfront() + b"\r\n\r\n" + cloudfront()], {"cloudfront": 2}, {}, id="a blank line between"),
        pytest.param([b"\n" + cloudfront()], {"cloudfront": 1}, {}, id="a blank line before"),
        pytest.param([waf_text() + b"\r\n"], {"waf": 1}, {}, id="JSON with a line end"),
        pytest.param([waf_text() + b"\n" + waf_text()], {"waf": 2}, {}, id="two JSON lines in a record"),
        pytest.param([b"\r\n " + waf_text()], {"waf": 1}, {}, id="JSON after blanks"),
        pytest.param([waf_text(), waf_text()[:-1], waf_text()], {"waf": 2}, {"json": 1}, id="one wrong among others"),
        pytest.param([waf_text().replace(b",", b",\n")], {"waf": 1}, {}, id="a record over many lines"),
        pytest.param([waf_text().replace(b",", b",\n"), b"{"], {"waf": 1}, {"json": 1}, id="and a wrong one"),
        pytest.param([waf_text().replace(b",", b",\n"), b"-"], {"waf": 1}, {"fields": 1}, id="and a wrong line"),
        pytest.param([b"", b"\n", b" ", b"\t", b"\r\n\t "], {}, {"empty": 5}, id="nothing"),
        pytest.param([b"\0", b"\0\0\0\0", b"\x0b"], {}, {"fields": 3}, id="NULs"),
        pytest.param([b"\xff\xfe"], {}, {"encoding": 1}, id="not UTF-8"),
        pytest.param([b"\x1f"], {}, {"fields": 1}, id="half of gzip's mark"),
        pytest.param([envelope(waf_text())[:-9]], {}, {"gzip": 1}, id="cut gzip"),
        pytest.param([KPL[:3]], {}, {"encoding": 1}, id="three quarters of the KPL's mark"),
        pytest.param([b"x" * (1 << 20)], {}, {"fields": 1}, id="a megabyte of nothing"),
        pytest.param([b'{"' + b"x" * (1 << 20)], {}, {"json": 1}, id="a megabyte of a string"),
        pytest.param([b"\n" * (1 << 20)], {}, {"empty": 1}, id="a megabyte of line ends"),
        pytest.param([b"[1]", b'"x"'], {}, {"fields": 2}, id="JSON that is no object is a line"),
    ],
)
def test_the_format_is_detected_from_the_bytes(
    records: list[bytes], sources: dict[str, int], malformed: dict[str, int]
) -> None:
    assert decoded(*records) == (sources, malformed, 0)


def test_a_blank_record_has_the_same_reason_alone_and_among_others() -> None:
    for blank in (b"\x0b", b"\x0c", b"\x1c", b"\xc2\xa0", b" \t"):
        alone = decoded(blank)[1]
        assert decoded(waf_text(), blank)[1] == alone == decoded(cloudfront(), blank)[1]


def test_an_aggregate_of_the_kinesis_producer_library_has_its_own_reason() -> None:
    (piece,) = BatchDecoder().decode([KPL + b"\n\x03key" + cloudfront()]).malformed
    assert piece.reason is Reason.KPL


@pytest.mark.parametrize(
    "before", [b"", b"\n", b"{}", b"{}\n", b"a line\n", b'{"damaged\n', b"\n\x1f\x8b\x08 no gzip\n"]
)
def test_every_gzip_member_of_a_record_is_unpacked_whole(before: bytes) -> None:
    random = Random(1)  # so that it does not unpack in one go
    lines = [cloudfront(cs_uri_stem=f"/{random.randbytes(20).hex()}") + b"\n" for _ in range(300)]
    halves = b"".join(lines[:150]), b"".join(lines[150:])
    decoded = BatchDecoder().decode([before + b"".join(map(gzip.compress, halves))])
    assert len(decoded) == 300
    assert len(decoded.malformed) <= 1


def test_a_line_that_begins_like_gzip_costs_no_other_line() -> None:
    decoded = BatchDecoder().decode([b"\n".join((cloudfront(), b"\x1f\x8b\x08 no gzip", cloudfront()))])
    assert (len(decoded), len(decoded.malformed)) == (2, 1)


def test_gzip_after_a_line_is_found_whatever_bytes_it_has() -> None:
    packed = gzip.compress(cloudfront(), mtime=0)
    assert b"{" not in packed
    assert len(BatchDecoder().decode([b"a line\n" + packed])) == 1


def test_gzip_may_be_nested_to_any_depth_at_no_cost() -> None:
    text = cloudfront()
    for _ in range(1000):
        text = b"{}\n" + gzip.compress(text)
    assert [piece.name for piece in BatchDecoder().decode([text]).malformed if piece.name] == ["gzip within gzip"]


def test_every_reason_is_used_and_tested() -> None:
    tested = "".join(path.read_text() for path in Path(__file__).parents[2].rglob("test_*.py"))
    core = "".join(path.read_text() for path in Path(chalicelib.__file__).parent.rglob("*.py"))
    for reason in Reason:
        assert f"Reason.{reason.name}" in tested, reason
        assert core.count(f"Reason.{reason.name}") > 0, reason


@pytest.mark.parametrize("line", [cloudfront, lambda **id: waf_text(requestId=id["x_edge_request_id"])])
def test_a_request_repeated_in_a_batch_counts_once(line: Callable[..., bytes]) -> None:
    records = [line(x_edge_request_id=id) for id in ("a", "b", "a", "a", "c")]
    decoded = BatchDecoder().decode(records)
    assert (len(decoded), decoded.repeats) == (3, 2)
    assert [str(id) if isinstance(id, str) else id.decode() for id in decoded.requests[0].ids] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "records",
    [
        [cloudfront(x_edge_request_id="-")] * 3,
        [cloudfront(x_edge_request_id="")] * 3,
        [waf_text(requestId=...)] * 3,
        [waf_text(requestId=None)] * 3,
        [waf_text(requestId="-")] * 3,
    ],
)
def test_a_request_without_an_id_is_never_a_repeat(records: list[bytes]) -> None:
    decoded = BatchDecoder().decode(records * 2, start=3)
    assert (len(decoded), decoded.repeats) == (3, 0)


def test_a_request_in_both_logs_is_counted_for_each() -> None:
    decoded = BatchDecoder().decode([cloudfront(x_edge_request_id="same"), waf_text(requestId="same")])
    assert [(requests.source, len(requests)) for requests in decoded.requests] == [
        (Source.CLOUDFRONT, 1),
        (Source.WAF, 1),
    ]
    assert decoded.repeats == 0


def test_ids_seen_in_one_part_of_a_batch_are_repeats_in_the_next() -> None:
    decoder = BatchDecoder()
    first = [cloudfront(x_edge_request_id="a"), waf_text(requestId="a")]
    second = [cloudfront(x_edge_request_id=id) for id in "ab"] + [waf_text(requestId="a")]
    assert len(decoder.decode(first)) == 2
    rest = decoder.decode(first + second, start=2)
    assert (len(rest), rest.repeats) == (1, 2)


def test_a_malformed_line_does_not_make_its_twin_a_repeat() -> None:
    decoded = BatchDecoder().decode([cloudfront(x_edge_request_id="a", c_ip="x"), cloudfront(x_edge_request_id="a")])
    assert (len(decoded), len(decoded.malformed), decoded.repeats) == (1, 1, 0)


def test_selected_rows_keep_their_values() -> None:
    cells = [("a", "/1"), ("a", "/2"), ("b", "/3"), ("-", "/4"), ("-", "/5")]
    records = [cloudfront(x_edge_request_id=id, cs_uri_stem=path) for id, path in cells]
    (requests,) = BatchDecoder().decode([cloudfront(c_ip="x", cs_uri_stem="/0"), *records]).requests
    assert [row["path"] for row in rows(requests, "path")] == ["/1", "/3", "/4", "/5"]


def test_a_malformed_piece_names_the_log_it_was_read_as_and_its_number_of_fields() -> None:
    records = [cloudfront() + b"\tmore", cloudfront(c_ip="x"), waf_text()[:-1], KPL]
    pieces = BatchDecoder().decode(records).malformed
    assert {(piece.reason, piece.source, piece.fields) for piece in pieces} == {
        (Reason.FIELDS, Source.CLOUDFRONT, (10, 9)),
        (Reason.ADDRESS, Source.CLOUDFRONT, None),
        (Reason.JSON, Source.WAF, None),
        (Reason.KPL, None, None),
    }


@pytest.mark.parametrize(
    "raw", [bytes(range(256)), b"\x1b]0;title\x07", "\u202e\u2028\ufeff".encode(), b"'\"\\", b"\r\n\x00\x7f\x9b31m"]
)
def test_a_sample_of_client_input_is_safe_to_log(raw: bytes) -> None:
    sample = Malformed(Reason.FIELDS, raw * 100).sample()
    assert sample.isascii()
    assert sample.isprintable()
    assert len(sample) <= 4 * Malformed.SAMPLE_BYTES
