"""Any bytes decode to requests or are Malformed (G8): never an exception, nothing lost, nothing counted twice."""

import json
import re
from collections import Counter
from functools import partial
from itertools import pairwise
from random import Random
from sys import setprofile
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib.core.addresses import NetworkSet, pack, parse_network
from chalicelib.core.logs.batch_decoder import KPL, BatchDecoder
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, FIELDS
from chalicelib.core.logs.columns import lines_of
from chalicelib.core.logs.requests import NO_ID
from chalicelib.core.scope import Scope
from tests.support.records import cloudfront, envelope, rows, waf_text

pytestmark = pytest.mark.slow

GZIP = re.compile(rb"\x1f\x8b")
TRUSTED = NetworkSet([parse_network("192.0.2.0/24")])
SCOPE = Scope(
    status=("404", "4xx"),
    method=("GET",),
    country=("DE",),
    host=("*.example.com", "a"),
    path=("/a",),
    path_prefix=("/i",),
    waf_action=("BLOCK",),
    waf_label=("a:b",),
    user_agent=("curl",),
)

ids = st.sampled_from(["-", "", "a", "b", "c", "d==", "é"])
addresses = st.sampled_from(
    ["203.0.113.9", "192.0.2.1", "::ffff:203.0.113.9", "2001:0DB8::1", "2001:db8::1", "x", "-", "1.2.3"]
)
cell = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t"), max_size=12)
stamps = st.sampled_from(["1760000000.123", "1760000000", "1760000000123", "-", "x", "1760000000.1"])


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    return cloudfront(
        timestamp=draw(stamps),
        c_ip=draw(addresses),
        x_edge_request_id=draw(ids),
        cs_uri_stem=draw(cell),
        cs_user_agent=draw(cell),
        x_forwarded_for=draw(addresses | cell),
    )


odd = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(...)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    changes: dict[str, Any] = {"requestId": draw(ids), "clientIp": draw(addresses)}
    for key in draw(st.sets(st.sampled_from(["timestamp", "clientIp", "uri", "headers", "labels", "host", "action"]))):
        changes[key] = draw(odd)
    return waf_text(**changes)


@st.composite
def mutated(draw: st.DrawFn, records: st.SearchStrategy[bytes]) -> bytes:
    """Draws a record that is cut, overwritten in places, or has bytes inserted."""
    record = bytearray(draw(records))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(record)))
        kind = draw(st.sampled_from(["cut", "drop", "put", "over"]))
        if kind == "cut":
            del record[at:]
        elif kind == "drop":
            del record[at : at + draw(st.integers(1, 8))]
        elif kind == "put":
            record[at:at] = draw(st.binary(max_size=4))
        else:
            record[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
    return bytes(record)


real = lines() | texts() | st.builds(envelope, texts(), texts()) | st.builds(partial(envelope, kind="CONTROL_MESSAGE"))
marks = st.sampled_from([b"", b"{", b"\x1f\x8b", KPL, b"\x1f\x8b\x08\0\0\0\0\0\0\x03", b" ", b"\t", b'{"timestamp":1'])
anything = st.builds(bytes.__add__, marks, st.binary(max_size=60)) | real | mutated(real)


def read_all(decoder: BatchDecoder, records: list[bytes], start: int = 0) -> tuple[Counter[str], Counter[str], int]:
    """Returns all results of decoding ``records[start:]`` and of scopes over them, in any order."""
    decoded = decoder.decode(records, start=start)
    contents: Counter[str] = Counter()
    for requests in decoded.requests:
        assert len(requests) == len(requests.times) == len(requests.clients) > 0
        assert all(type(time) is int and time >= 0 for time in requests.times)
        assert {len(client) for client in requests.clients} <= {4, 16}
        contents.update(json.dumps([requests.source, row], default=list) for row in rows(requests))
        matching = SCOPE.rows(requests)
        assert matching is not None
        assert set(matching) <= set(range(len(requests)))
    malformed = Counter(str(piece.reason) for piece in decoded.malformed)
    for piece in decoded.malformed:
        assert piece.sample().isprintable()
    return contents, malformed, decoded.repeats


pieces = st.one_of(
    st.tuples(lines() | texts(), st.just(1)),
    st.tuples(st.builds(envelope, texts(), texts()), st.just(2)),
    st.tuples(st.builds(partial(envelope, kind="CONTROL_MESSAGE")), st.just(0)),
    st.tuples(st.builds(bytes.__add__, marks, st.binary(max_size=60)) | mutated(real), st.none()),
)
"""Records, each with the number of requests, repeats and malformed pieces that it must decode to; None if not known."""


def holds_a_piece(record: bytes) -> bool:
    """Returns whether a record holds more than comments, which are skipped; what is in gzip is not known."""
    lines = [line for line in lines_of(record) if line.strip()]
    return not GZIP.match(record) and not (lines and all(line.startswith(b"#") for line in lines))


@settings(max_examples=600, deadline=None)
@given(st.lists(pieces, max_size=5), st.sampled_from([DEFAULT_FIELDS, FIELDS, ("timestamp", "c-ip")]))
@example(
    [(b"1760000000.123 1760000000.123\t1.2.3.4", 1), (b"1760000000.12\t1.2.3.4", 1), (b"\t1.2.3.4", 1)],
    ("timestamp", "c-ip"),
)
@example([(b'{"timestamp":1,"httpRequest":', 1), (b'{"clientIp":"1.2.3.4"}}', None)], DEFAULT_FIELDS)
def test_any_bytes_decode_or_are_malformed_and_nothing_is_lost(
    records: list[tuple[bytes, int | None]], fields: tuple[str, ...]
) -> None:
    for trusted in (None, TRUSTED if "x-forwarded-for" in fields else None):
        contents, malformed, repeats = read_all(BatchDecoder(fields, trusted), [record for record, _ in records])
        actual = contents.total() + malformed.total() + repeats
        least = sum(int(holds_a_piece(record)) if number is None else number for record, number in records)
        assert actual >= least
        if all(number is not None for _, number in records):
            assert actual == least


@settings(max_examples=300, deadline=None)
@given(st.lists(anything, max_size=6), st.randoms(use_true_random=False))
def test_a_batch_decodes_to_what_its_records_decode_to_alone_in_any_order(records: list[bytes], random: Random) -> None:
    decoder = BatchDecoder(trusted=TRUSTED)
    together = read_all(decoder, records)
    assert read_all(BatchDecoder(trusted=TRUSTED), records) == together, "a container's memory changes nothing"
    one_by_one = [read_all(decoder, records[: start + 1], start) for start in range(len(records))]
    assert sum(contents.total() for contents, _, _ in one_by_one) == together[0].total()
    assert sum((malformed for _, malformed, _ in one_by_one), Counter[str]()) == together[1]
    assert sum(repeats for _, _, repeats in one_by_one) == together[2]
    shuffled = records.copy()
    random.shuffle(shuffled)
    again = read_all(decoder, shuffled)
    assert (again[0].total(), again[1], again[2]) == (together[0].total(), together[1], together[2])


@given(st.lists(lines() | texts(), max_size=8))
def test_each_id_occurs_once_per_source(records: list[bytes]) -> None:
    for requests in BatchDecoder().decode(records).requests:
        named = [id for id in requests.ids if id not in NO_ID]
        assert len(named) == len(set(named))


@given(st.binary(max_size=30) | st.text(max_size=50).map(str.encode))
def test_any_bytes_pack_to_an_address_or_none(text: bytes) -> None:
    packed = pack(text)
    assert packed is None or len(packed) in (4, 16)


def work(records: list[bytes]) -> int:
    """Returns the number of calls, in Python and into C, that decoding and a scope make: the same on every machine."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    decoder = BatchDecoder(trusted=TRUSTED)
    setprofile(count)
    try:
        for requests in decoder.decode(records).requests:
            SCOPE.rows(requests)
    finally:
        setprofile(None)
    return calls


@pytest.mark.parametrize(
    "grow",
    [
        pytest.param(lambda n: [b"\t" * n], id="tabs"),
        pytest.param(lambda n: [b"\n" * n], id="line ends"),
        pytest.param(lambda n: [b"\r" * n], id="carriage returns"),
        pytest.param(lambda n: [b"{" * n], id="braces"),
        pytest.param(lambda n: [b"{\n" * (n // 2)], id="braces on lines"),
        pytest.param(lambda n: [b"{" for _ in range(n)], id="records of a brace"),
        pytest.param(lambda n: [b"" for _ in range(n)], id="empty records"),
        pytest.param(lambda n: [b"\x1f\x8b" for _ in range(n // 2)], id="gzip marks"),
        pytest.param(lambda n: [envelope(*[b""] * n)], id="empty events"),
        pytest.param(lambda n: [cloudfront(x_edge_request_id="same")] * (n // 100), id="one request again and again"),
        pytest.param(
            lambda n: [cloudfront(c_ip="192.0.2.1", x_forwarded_for="192.0.2.2," * (n // 10))], id="a chain of proxies"
        ),
        pytest.param(lambda n: [cloudfront(cs_user_agent="%" * n)], id="percent signs"),
        pytest.param(lambda n: [cloudfront(cs_user_agent="%41" * (n // 3))], id="encodings"),
        pytest.param(lambda n: [waf_text(headers=[{"name": "x", "value": "y"}] * (n // 20))], id="headers"),
        pytest.param(lambda n: [b'{"a":' * (n // 5)], id="nesting"),
    ],
)
def test_work_grows_no_faster_than_the_bytes(grow: Any) -> None:
    works = [work(grow(n)) for n in (2_000, 4_000, 8_000, 16_000)]
    for less, more in pairwise(works):
        assert more <= 2.2 * less + 200, works


def test_clients_cannot_choose_addresses_or_ids_that_collide() -> None:
    """Keys are bytes and text, whose hashes Python randomises, never integers, whose hashes are known."""
    decoded = BatchDecoder().decode([cloudfront(x_edge_request_id="1"), waf_text(requestId="1")])
    assert {type(id) for requests in decoded.requests for id in requests.ids} == {bytes, str}
    assert {type(client) for requests in decoded.requests for client in requests.clients} == {bytes}
