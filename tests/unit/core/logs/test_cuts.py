"""The same bytes decode to the same requests however they are cut, and added bytes never remove a request."""

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.framing import parts
from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.logs.requests import Decoded
from chalicelib.core.logs.text_decoder import TextDecoder
from tests.support import replay_logs as logs
from tests.support.api_gateway import api
from tests.support.records import cloudfront, rows, waf_text
from tests.support.replay_logs import T0, Hit

JSON_FIELDS = (("time", "at"), ("client", "peer"), ("path", "url"))
HITS = [Hit(T0 + 100 * number, f"192.0.2.{number}", path=f"/{number}") for number in range(4)]
OBJECTS = [
    *(waf_text(clientIp=hit.client, timestamp=hit.ms, requestId="-", uri="}{") for hit in HITS),
    *(logs.v2_json(hit).encode() for hit in HITS),
    *(api(ip=hit.client, path=hit.path) for hit in HITS),
    *(json.dumps({"at": hit.ms, "peer": hit.client, "url": hit.path, "more": {"x": [{}]}}).encode() for hit in HITS),
]
LINES = [
    *(cloudfront(c_ip=hit.client) for hit in HITS),
    *(logs.standard(hit).encode() for hit in HITS),
    *(logs.balancer(hit).encode() for hit in HITS),
    *(logs.combined(hit).encode() for hit in HITS),
]
ODD = [b"no line", b"{", b'{"a":1}', b"\xff\xfe", b'{"messageType":"NEWS"}', b"2 123456789012 eni-1 ACCEPT"]

pieces = st.lists(st.sampled_from(OBJECTS + LINES), max_size=12)
places = st.lists(st.integers(0, 100), max_size=4)


@cache
def decoder() -> BatchDecoder:
    return BatchDecoder(json_fields=JSON_FIELDS)


@cache
def text_decoder() -> TextDecoder:
    return TextDecoder(DecodeOptions(decoder().cloudfront.fields, json_fields=JSON_FIELDS))


def found(*decoded: Decoded) -> Counter[str]:
    return Counter(
        json.dumps([requests.source, row], default=list)
        for part in decoded
        for requests in part.requests
        for row in rows(requests)
    )


@cache
def of_one(piece: bytes) -> Counter[str]:
    return found(decoder().decode([piece]))


def alone(sent: Sequence[bytes]) -> Counter[str]:
    """Returns the requests of pieces that are decoded one by one."""
    return sum(map(of_one, sent), Counter[str]())


def groups(sent: Sequence[bytes], places: Sequence[int]) -> list[list[bytes]]:
    ends = [0, *sorted(place % (len(sent) + 1) for place in places), len(sent)]
    return [list(sent[start:end]) for start, end in pairwise(ends)]


def text(sent: Sequence[bytes], ends: str) -> bytes:
    """Returns the pieces in one text, with a line end where ``ends`` says so, and always after a line."""
    marks = {"n": b"\n", "r": b"\r\n", "s": b" ", "0": b""}
    separators = [marks[ends[number % len(ends)]] for number in range(len(sent))]
    return b"".join(
        piece + (end if piece.startswith(b"{") or end.strip(b" ") else b"\n")
        for piece, end in zip(sent, separators, strict=True)
    )


def envelope(messages: Sequence[bytes], first: int) -> bytes:
    events = [{"id": f"{first + n}", "timestamp": 1, "message": m.decode()} for n, m in enumerate(messages)]
    return json.dumps({"owner": "1", "messageType": "DATA_MESSAGE", "logEvents": events}).encode()


@settings(deadline=None)
@given(pieces, places, places, st.text("nrs0", min_size=1, max_size=5))
def test_any_cut_decodes_to_the_same_requests(
    sent: list[bytes], records: list[int], members: list[int], ends: str
) -> None:
    expected = alone(sent)
    assert expected.total() == len(sent)
    texts = [text(group, ends) for group in groups(sent, records)]
    packed = [b"".join(gzip.compress(text(m, ends)) for m in groups(g, members)) for g in groups(sent, records)]
    whole = text(sent, ends)
    assert found(decoder().decode(texts)) == expected
    assert found(*(decoder().decode([record]) for record in texts)) == expected
    assert found(decoder().decode(packed)) == expected
    assert found(decoder().decode([*texts[::2], *packed[1::2]])) == expected
    assert found(decoder().decode([whole, b""])) == expected
    envelopes = [envelope(group, 100 * number) for number, group in enumerate(groups(sent, records))]
    assert found(decoder().decode(envelopes)) == expected
    assert found(decoder().decode([b"".join(envelopes)])) == expected
    assert found(decoder().decode([b"".join(map(gzip.compress, envelopes))])) == expected
    for size in (1, 100, 1 << 20):
        assert found(*(text_decoder().decode(part.text, part.header) for part in parts([whole], size))) == expected


@settings(deadline=None)
@given(pieces, st.lists(st.tuples(st.integers(0, 12), st.sampled_from(ODD) | st.binary(max_size=20)), max_size=4))
def test_adding_bytes_never_removes_a_request(sent: list[bytes], added: list[tuple[int, bytes]]) -> None:
    expected = alone(sent)
    mixed = sent.copy()
    for place, odd in added:
        mixed.insert(place, odd.replace(b"#", b""))
    for records in (mixed, [b"\n".join(mixed)], [gzip.compress(b"\n".join(mixed))], [*map(gzip.compress, mixed)]):
        assert expected <= found(decoder().decode(records))
    objects = [piece for piece in sent if piece.startswith(b"{") and b"sluice" not in piece]
    junk = [odd.translate(None, b'{}"\\\r\n') for _, odd in added] or [b""]
    between = b"".join(piece + junk[number % len(junk)] for number, piece in enumerate(objects))
    assert alone(objects) <= found(decoder().decode([between]))


@given(st.sampled_from(OBJECTS), st.sampled_from(OBJECTS), st.data())
def test_damage_costs_the_damaged_object_and_nothing_else(damaged: bytes, other: bytes, data: st.DataObject) -> None:
    cut = damaged[: data.draw(st.integers(1, len(damaged) - 1))]
    for end in (b"\n", b"\r\n"):
        record = end.join((other, cut, other, cut, other))
        assert alone([other] * 3) <= found(decoder().decode([record]))
    if b"sluice" not in other:
        assert alone([other] * 2) <= found(decoder().decode([other + cut + other]))


@given(st.lists(st.sampled_from(OBJECTS + LINES), min_size=1, max_size=6), st.binary(min_size=1, max_size=30))
def test_bytes_around_gzip_members_remove_nothing(sent: list[bytes], junk: bytes) -> None:
    members = [gzip.compress(piece) for piece in sent]
    assert alone(sent) <= found(decoder().decode([junk.join(members) + junk]))
    assert alone(sent) <= found(decoder().decode([b'{"a":1}' + junk + b"\n" + junk.join(members)]))
