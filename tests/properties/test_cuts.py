"""The same bytes decode to the same requests however they are cut, and added bytes never remove a request."""

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache, reduce
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.logs import framing
from chalicelib.core.logs.batch_decoder import KPL, BatchDecoder
from chalicelib.core.logs.framing import parts
from chalicelib.core.logs.requests import LIVE_SOURCES, Decoded
from tests.support import replay_logs as logs
from tests.support.api_gateway import api
from tests.support.records import cloudfront, rows, waf_text
from tests.support.replay_logs import T0, Hit

JSON_FIELDS = (("time", "at"), ("client", "peer"), ("path", "url"))
HITS = [Hit(T0 + 1000 * number, f"192.0.2.{number}", path=f"/{number}") for number in range(4)]


def balancer_json(hit: Hit) -> bytes:
    request_line = f"GET https://www.example.com:443{hit.path} HTTP/1.1"
    record = {"elb": "app/lb/1", "request_line": request_line, "client_port": f"{hit.client}:1", "elb_status_code": 200}
    return json.dumps(record | {"time": "2025-10-09T08:53:20.000000Z"}).encode()


def waf_of(hit: Hit) -> bytes:
    return waf_text(clientIp=hit.client, timestamp=hit.ms, requestId="-", uri="}{")


def pretty(text: bytes) -> bytes:
    return json.dumps(json.loads(text), indent=2).encode()


API_RECORDS = [api(ip=hit.client, path=hit.path) for hit in HITS]
OBJECTS = [
    *map(waf_of, HITS),
    *(pretty(waf_of(hit)) for hit in HITS),
    waf_text(timestamp=float(T0), labels=7),
    *(logs.v2_json(hit).encode() for hit in HITS),
    logs.v2_json(HITS[0]).replace('"GET"', "{}").encode(),
    *map(balancer_json, HITS),
    *API_RECORDS,
    *(json.dumps({"at": hit.ms, "peer": hit.client, "url": hit.path, "more": {"x": [{}]}}).encode() for hit in HITS),
]
LINES = [
    *(cloudfront(c_ip=hit.client) for hit in HITS),
    *(logs.standard(hit).encode() for hit in HITS),
    *("\t".join(logs.standard(hit).split("\t")[:19]).encode() for hit in HITS),
    *(logs.balancer(hit).encode() for hit in HITS),
    *(logs.combined(hit).encode() for hit in HITS),
    *(f"www.example.com:443 {logs.combined(hit)}".encode() for hit in HITS),
    *(b"2025-05-25T21:31:58.574Z " + waf_of(hit) for hit in HITS),
]
ODD = [
    *(b"no line", b"{", b"}", b'{"a":1}', b"\xff\xfe", b"\xef\xbb\xbf", b"\0" * 9, b" \t", b'{"messageType":"NEWS"}'),
    *(b"2 123456789012 eni-1 ACCEPT", b"\x1f\x8b no gzip", b"\n\x1f\x8b\x08 no gzip", KPL, b"PAR1\x15\xff\xff"),
    *(OBJECTS[0][:90], API_RECORDS[0][:60], LINES[0][:20]),
]

pieces = st.lists(st.sampled_from(OBJECTS + LINES), max_size=12)
places = st.lists(st.integers(0, 10_000), max_size=4)
odd = st.sampled_from(ODD) | st.binary(max_size=20)


@cache
def decoder() -> BatchDecoder:
    return BatchDecoder(json_fields=JSON_FIELDS)


def found(*decoded: Decoded) -> Counter[str]:
    return Counter(
        json.dumps([requests.source, row], default=list)
        for part in decoded
        for requests in part.requests
        for row in rows(requests)
    )


def of_parts(blocks: Iterable[bytes], size: int) -> Counter[str]:
    """Returns the requests of an object, decoded in parts of ``size`` bytes."""
    return found(*(decoder().decode_text(part.text, part.header) for part in parts(blocks, size)))


@cache
def of_one(piece: bytes) -> Counter[str]:
    return found(decoder().decode([piece]))


def alone(sent: Sequence[bytes]) -> Counter[str]:
    """Returns the requests of pieces that are decoded one by one."""
    return sum(map(of_one, sent), Counter[str]())


def groups(sent: Sequence[bytes], places: Sequence[int]) -> list[list[bytes]]:
    ends = [0, *sorted(place % (len(sent) + 1) for place in places), len(sent)]
    return [list(sent[start:end]) for start, end in pairwise(ends)]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Returns the same bytes, cut anywhere, be it within a piece."""
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


def text(sent: Sequence[bytes], ends: str) -> bytes:
    """Returns the pieces in one text, with a line end where ``ends`` says so, and always after a line."""
    marks = {"n": b"\n", "r": b"\r\n", "s": b" ", "0": b""}
    separators = [marks[ends[number % len(ends)]] for number in range(len(sent))]
    return b"".join(
        piece + (end if piece.startswith(b"{") or end.strip(b" ") else b"\n")
        for piece, end in zip(sent, separators, strict=True)
    )


def envelope(messages: Sequence[bytes], first: int = 0) -> bytes:
    events = [{"id": f"{first + n}", "timestamp": 1, "message": m.decode()} for n, m in enumerate(messages)]
    return json.dumps({"owner": "1", "messageType": "DATA_MESSAGE", "logEvents": events}).encode()


def test_the_pieces_are_of_every_source() -> None:
    sources = {json.loads(request)[0] for request in alone(OBJECTS + LINES)}
    assert sources == set(LIVE_SOURCES)


@settings(deadline=None)
@given(pieces, places, places, st.text("nrs0", min_size=1, max_size=5))
def test_any_cut_decodes_to_the_same_requests(
    sent: list[bytes], records: list[int], members: list[int], ends: str
) -> None:
    expected = alone(sent)
    assert expected.total() == len(sent)
    texts = [text(group, ends) for group in groups(sent, records)]
    packed = [b"".join(gzip.compress(text(m, ends)) for m in groups(g, members)) for g in groups(sent, records)]
    torn = [b"".join(map(gzip.compress, cut(each, members))) for each in texts]
    whole = text(sent, ends)
    assert found(decoder().decode(texts)) == expected
    assert found(*(decoder().decode([record]) for record in texts)) == expected
    assert found(decoder().decode(packed)) == expected
    assert found(decoder().decode(torn)) == expected
    assert found(decoder().decode([*texts[::2], *packed[1::2]])) == expected
    assert found(decoder().decode([whole, b""])) == expected
    for start in range(len(texts)):
        batches = decoder().decode(texts[:start]), decoder().decode(texts, start=start)
        assert found(*batches) == expected
    envelopes = [envelope(group, 100 * number) for number, group in enumerate(groups(sent, records))]
    assert found(decoder().decode(envelopes)) == expected
    assert found(decoder().decode([b"".join(envelopes)])) == expected
    assert found(decoder().decode([b"".join(map(gzip.compress, envelopes))])) == expected
    for size in (1, 100, 1 << 20):
        for content in (whole, b"".join(map(gzip.compress, cut(whole, members))), b"".join(packed)):
            assert of_parts(cut(content, records), size) == expected


@settings(deadline=None)
@given(pieces, places, st.text("nrs0", min_size=1, max_size=5))
def test_a_message_may_hold_several_pieces(sent: list[bytes], places: list[int], ends: str) -> None:
    """Not API Gateway's, where whatever follows the first object is the text of its client."""
    several = [piece for piece in sent if piece not in API_RECORDS]
    assert found(decoder().decode([envelope([text(group, ends) for group in groups(several, places)])])) == alone(
        several
    )


NAMES: dict[str, Callable[[Hit], str]] = {
    "timestamp(ms)": lambda hit: f"{hit.ms}",
    "date": lambda hit: f"{logs.standard(hit)[:10]}",
    "time": lambda hit: f"{logs.standard(hit)[11:19]}",
    "c-ip": lambda hit: hit.client,
    "cs-uri-stem": lambda hit: hit.path,
    "sc-status": lambda hit: hit.status,
}


@st.composite
def sections(draw: st.DrawFn) -> list[tuple[bytes, list[bytes]]]:
    """Draws sections of a standard log: each a ``#Fields`` line, and the lines and objects under it."""
    drawn = []
    for _ in range(draw(st.integers(1, 4))):
        names = draw(st.permutations(["c-ip", *draw(st.sampled_from([["timestamp(ms)"], ["date", "time"]]))]))
        names += draw(st.lists(st.sampled_from(["cs-uri-stem", "sc-status"]), unique=True))
        delimiter = draw(st.sampled_from("\t ,;|"))
        lines = [delimiter.join(NAMES[name](hit) for name in names).encode() for hit in HITS]
        header = "#Fields:" + draw(st.sampled_from([" ", ""])) + draw(st.sampled_from([" ", delimiter])).join(names)
        drawn.append((header.encode(), draw(st.lists(st.sampled_from(lines + OBJECTS), max_size=5))))
    return drawn


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@settings(deadline=None)
@given(sections(), pieces, places, places)
def test_lines_under_a_header_decode_to_the_same_requests_however_their_text_is_cut(
    end: bytes, sent: list[tuple[bytes, list[bytes]]], before: list[bytes], places: list[int], members: list[int]
) -> None:
    expected = alone(before) + sum(
        (alone([header + b"\n" + piece]) for header, pieces in sent for piece in pieces), Counter()
    )
    assert expected.total() == len(before) + sum(len(pieces) for _, pieces in sent)
    whole = b"".join(piece + end for piece in (*before, *(p for header, pieces in sent for p in (header, *pieces))))
    packed = b"".join(map(gzip.compress, cut(whole, members)))
    for record in (whole, packed, envelope([whole]) if not set(before) & set(API_RECORDS) else whole):
        assert found(decoder().decode([cloudfront(), record])) == expected + of_one(cloudfront())
    for size in (1, 100, 1 << 20):
        for content in (whole, packed):
            assert of_parts(cut(content, places), size) == expected


@settings(deadline=None)
@given(pieces, st.lists(st.tuples(st.integers(0, 12), odd), max_size=4), places)
def test_adding_bytes_never_removes_a_request(
    sent: list[bytes], added: list[tuple[int, bytes]], places: list[int]
) -> None:
    expected = alone(sent)
    mixed = sent.copy()
    for place, junk in added:
        mixed.insert(place, reduce(lambda left, mark: left.replace(mark, b""), (b"#", b"\x1f\x8b\x08", KPL), junk))
    whole = b"\n".join(mixed)
    for records in (mixed, [whole], [gzip.compress(whole)], [*map(gzip.compress, mixed)]):
        assert expected <= found(decoder().decode(records))
        assert expected <= found(decoder().decode([KPL, *records, b"\x1f\x8b\x08 no gzip"]))
    members = [gzip.compress(piece + b"\n") for piece in mixed]
    assert expected <= found(decoder().decode([b"\x1f\x8b\x08 no gzip".join(members)]))
    readable = [piece.decode("utf-8", "replace").encode() for piece in mixed]
    assert expected <= found(decoder().decode([envelope(readable)]))
    for size in (1, 100, 1 << 20):
        assert expected <= of_parts(cut(whole, places), size)
        assert expected <= of_parts([b"".join(map(gzip.compress, cut(whole, places)))], size)
    objects = [piece for piece in sent if piece.startswith(b"{") and piece not in API_RECORDS]
    fillers = [junk.translate(None, b'{}"\\\r\n') for _, junk in added] or [b""]
    between = b"".join(piece + fillers[number % len(fillers)] for number, piece in enumerate(objects))
    assert alone(objects) <= found(decoder().decode([between]))


@settings(deadline=None)
@given(sections(), st.lists(st.tuples(st.integers(0, 12), odd), max_size=4))
def test_adding_lines_under_a_header_never_removes_a_request(
    sent: list[tuple[bytes, list[bytes]]], added: list[tuple[int, bytes]]
) -> None:
    expected = sum((alone([header + b"\n" + piece]) for header, pieces in sent for piece in pieces), Counter[str]())
    mixed = [piece for header, pieces in sent for piece in (header, *pieces)]
    for place, junk in added:
        mixed.insert(place + 1, junk.replace(b"#", b""))
    whole = b"\n".join(mixed)
    for record in (whole, gzip.compress(whole)):
        assert expected <= found(decoder().decode([record]))
    for size in (1, 100, 1 << 20):
        assert expected <= of_parts([whole], size)


@given(st.sampled_from(OBJECTS), st.sampled_from(OBJECTS), st.data())
def test_damage_costs_the_damaged_object_and_nothing_else(damaged: bytes, other: bytes, data: st.DataObject) -> None:
    piece = damaged[: data.draw(st.integers(1, len(damaged) - 1))]
    for end in (b"\n", b"\r\n"):
        record = end.join((other, piece, other, piece, other))
        assert alone([other] * 3) <= found(decoder().decode([record]))
        assert alone([other] * 3) <= of_parts([record], 1)
    if other not in API_RECORDS:
        assert alone([other] * 2) <= found(decoder().decode([other + piece + other]))


# A record whose first bytes, which no client writes, are those of another kind of file is named as one and not read.
JUNK = st.binary(min_size=1, max_size=30).filter(lambda junk: framing.unread_file(junk) is None)


@given(st.lists(st.sampled_from(OBJECTS + LINES), min_size=1, max_size=6), JUNK)
def test_bytes_around_gzip_members_remove_nothing(sent: list[bytes], junk: bytes) -> None:
    members = [gzip.compress(piece) for piece in sent]
    assert alone(sent) <= found(decoder().decode([junk.join(members) + junk]))
    assert alone(sent) <= of_parts([junk.join(members) + junk], 100)
    for before in (b'{"a":1}' + junk, junk, b"a line", LINES[0], b'{"damaged'):
        following = before.replace(b"#", b"") + b"\n" + junk.join(members)
        assert alone(sent) <= found(decoder().decode([following]))
        assert alone(sent) <= of_parts([following], 1 << 20)


@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=6), st.sampled_from(LINES), st.integers(1, 100))
def test_what_a_client_writes_into_a_line_is_not_taken_for_gzip(sent: list[bytes], line: bytes, place: int) -> None:
    forged = line[:place] + b"\x1f\x8b\x08" + line[place:]
    for record in (b"\n".join((forged, *sent)), b"\n".join((b"{", forged, *sent))):
        assert alone(sent) <= found(decoder().decode([record]))
        assert alone(sent) <= of_parts([record], 100)


@pytest.fixture(autouse=True)
def _small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that a part may end before the content does.
    monkeypatch.setattr(framing, "WINDOW", 64)
