"""Framing: any bytes are cut into the same pieces, and damage costs the damaged piece alone."""

import gzip
import json
from itertools import accumulate, pairwise
from sys import setprofile
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.logs import framing
from chalicelib.core.logs.framing import UNREAD_FILES, TextPart, framed, inflated, last_header, parts
from chalicelib.core.logs.requests import Malformed, Reason

A, B, C = b'{"a":"}{"}', b'{"b":{"x":[1,{"y":"\\"}"}]}}', b'{"c":"\xc3\xa9"}'


@pytest.mark.parametrize("between", [b"", b"\n", b"\r\n", b" ", b"\n\n  ", b"\t\n"])
def test_objects_follow_one_another_with_or_without_line_ends(between: bytes) -> None:
    pieces = framed(between.join((A, B, C)))
    assert (pieces.objects, pieces.lines, pieces.damaged) == ([A, B, C], [], [])


@pytest.mark.parametrize("text", [A, B, C])
def test_an_object_may_extend_over_many_lines(text: bytes) -> None:
    pretty = json.dumps(json.loads(text), indent=2).encode()
    assert framed(b"a line\n" + pretty + b"\n" + pretty + A).objects == [pretty, pretty, A]


@pytest.mark.parametrize(
    ("text", "objects", "lines", "damaged"),
    [
        pytest.param(A + b"junk" + B, [A, B], [b"junk"], [], id="bytes between objects"),
        pytest.param(A + b"\xff\0\n" + B, [A, B], [b"\xff\0"], [], id="bytes that are no text"),
        pytest.param(A + b"}" + B, [A, B], [b"}"], [], id="one brace too many"),
        pytest.param(b"line 1\n" + A + b"\nline 2\n" + B, [A, B], [b"line 1", b"line 2"], [], id="lines between"),
        pytest.param(b"\t1\t2\n" + A, [A], [b"\t1\t2"], [], id="a line keeps the blanks at its start"),
        pytest.param(B[:-4] + b"\n" + A, [A], [], [b'{"b":'], id="an object cut at a line end"),
        pytest.param(A + B[:-3], [A], [], [b'{"b":'], id="the last object is cut"),
        pytest.param(b"{\n" + A + b"\n{", [A], [], [b"{\n", b"{"], id="single braces"),
        pytest.param(C[:-2] + b"\nline\n" + B, [B], [b"line"], [C[:-2] + b"\n"], id="a line after damage"),
        pytest.param(b'{"a":1 "x"}' + B + C, [B, C], [], [b'{"a":1 "x"}'], id="damage within a line"),
    ],
)
def test_damage_costs_the_damaged_piece_alone(
    text: bytes, objects: list[bytes], lines: list[bytes], damaged: list[bytes]
) -> None:
    pieces = framed(text)
    assert (pieces.objects, pieces.lines, pieces.damaged) == (objects, lines, damaged)


@pytest.mark.parametrize(
    "damage", [b'{"a":1\nx,"b":2}', b'{\nx "a":1,\n "b":2\n}', b'{x "a":1,\n "b":2\n}', b'{"a":1\r\xff}']
)
@pytest.mark.parametrize("between", [b"", b" "])
def test_damage_that_holds_a_line_end_costs_no_object_after_it(damage: bytes, between: bytes) -> None:
    pretty = b'{\n "a": {\n  "b": 1\n }\n}'
    for following in (A, pretty):
        assert framed(between.join([following, damage, *[following] * 5])).objects == [following] * 6


@pytest.mark.parametrize("rest", [b"", b"\n ]", b',\n  "y": 2', b'},\n  {\n"x": 3'])
def test_an_object_is_found_on_the_last_line_of_a_damaged_one(rest: bytes) -> None:
    damaged = b'{\n "a": [\n  {\n   "x": 1\n  }' + rest
    assert framed(A + damaged + B + C).objects[-1] == C
    assert B in (found := framed(A + damaged + B + C)).objects + found.fragments


def test_the_next_object_is_found_even_if_a_damaged_one_runs_into_it() -> None:
    pieces = framed(b'{"a":{"x":1},"b":"cut of' + B + C)
    assert (pieces.fragments, pieces.objects) == ([b'{"x":1}', B], [C])


@given(st.lists(st.sampled_from([A, B, C, b"line", b"#Fields: a", b"{", b'{"', b"}", b'{"a":', b"\n", b"\r\n", b" "])))
def test_every_byte_is_in_a_piece_unless_it_belongs_to_a_damaged_object(pieces: list[bytes]) -> None:
    found = framed(b"".join(pieces))
    if not found.damaged:
        everything = b"".join((*found.objects, *found.lines))
        assert sorted(everything.translate(None, b" \r\n")) == sorted(b"".join(pieces).translate(None, b" \r\n"))


def test_a_deep_or_endless_text_is_cut_in_linear_work() -> None:
    for text in (b'{"a":[1,\n', b'{"a":{"a":[', b'{"a":"}{",",":1,":', b'{"a":"\\"{', b"}{", b"{{"):
        assert len(framed(text * 20_000).objects) <= 20_000


LINES = [f"{number}\tline".encode() for number in range(300)]


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    pieces = draw(
        st.lists(st.sampled_from([A, B, C, *LINES, b"#Fields: a b", json.dumps([A.decode()]).encode()]), max_size=30)
    )
    ends = draw(st.lists(st.sampled_from([b"\n", b"\r\n", b""]), min_size=len(pieces), max_size=len(pieces)))
    return b"".join(
        piece + (end if end or piece.startswith(b"{") else b"\n") for piece, end in zip(pieces, ends, strict=True)
    )


places = st.lists(st.integers(0, 5000), max_size=4)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    return [
        data[start:end] for start, end in pairwise([0, *sorted(place % (len(data) + 1) for place in places), len(data)])
    ]


@settings(deadline=None)
@given(
    contents(), st.lists(st.integers(0, 5000), max_size=6), st.lists(st.integers(0, 5000), max_size=3), st.booleans()
)
def test_parts_depend_on_the_content_alone(text: bytes, places: list[int], members: list[int], is_packed: bool) -> None:
    packed = b"".join(map(gzip.compress, cut(text, members))) if is_packed else text
    whole = list(parts([packed], 40))
    assert list(parts(cut(packed, places), 40)) == whole
    assert b"".join(part.text for part in whole) == text
    ends = list(accumulate(len(part.text) for part in whole))
    objects = framed(text).objects
    assert [piece for part in whole for piece in framed(part.text).objects] == objects
    for part, end in zip(whole[1:], ends, strict=False):
        assert part.header == last_header(text[:end])


@given(
    st.lists(
        st.sampled_from(
            [b"\n", b"\r", b"\r\n", framing.BOM, b"#", b"a", b"#Fields:", b"#Fields: a b", b"#" * 9, b"-" * 2000]
        ),
        max_size=12,
    )
)
def test_the_last_header_is_the_last_line_that_begins_with_its_mark(written: list[bytes]) -> None:
    text = b"".join(written)
    lines = [line.removeprefix(framing.BOM) for line in text.replace(b"\r", b"\n").split(b"\n")]
    headers = [line for line in lines if line.startswith(b"#Fields:")]
    assert last_header(text) == (headers[-1] if headers else b"")


def test_marks_that_begin_no_header_cannot_make_the_search_for_one_slow() -> None:
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    text = b"#" * 100_000
    setprofile(count)
    try:
        last_header(text)
    finally:
        setprofile(None)
    assert calls < len(text) / 100


def test_a_part_is_cut_at_an_object_where_there_are_no_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "WINDOW", 100)
    texts = [part.text for part in parts([A * 1000], 2_000)]
    assert b"".join(texts) == A * 1000
    assert {len(text) % len(A) for text in texts} == {0}
    assert all(2_000 <= len(text) < 2_000 + len(A) for text in texts[:-1])


def test_a_piece_without_end_is_cut_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "WINDOW", 100)
    monkeypatch.setattr(framing, "LONGEST_PIECE", 1000)
    assert max(len(part.text) for part in parts([b"x" * 10_000], 200)) <= 1200


@pytest.mark.parametrize(
    ("data", "text", "reasons"),
    [
        pytest.param(gzip.compress(b"a\n") + gzip.compress(b"b"), b"a\nb", [], id="two members"),
        pytest.param(gzip.compress(b"a\n") + bytes(512), b"a\n", [], id="padding after"),
        pytest.param(gzip.compress(b"a") + bytes(9) + gzip.compress(b"b"), b"a\nb", [], id="padding between"),
        pytest.param(gzip.compress(b"a") + b"x\n" + gzip.compress(b"b"), b"a\nx\n\nb", [], id="other bytes between"),
        pytest.param(gzip.compress(b"a")[:-3] + gzip.compress(b"b"), b"a\nb", [Reason.GZIP], id="a damaged one"),
        pytest.param(gzip.compress(b"a") + gzip.compress(b"b")[:-3], b"ab", [Reason.GZIP], id="a truncated one"),
        pytest.param(b"\x1f\x8b\x08x" + gzip.compress(b"b"), b"\nb", [Reason.GZIP], id="a false start"),
        pytest.param(b"\x1f\x8b\nb", b"\x1f\x8b\nb", [], id="no method of gzip"),
    ],
)
def test_every_gzip_member_counts(data: bytes, text: bytes, reasons: list[Reason]) -> None:
    for blocks in ([data], [bytes([byte]) for byte in data]):
        found = list(inflated(blocks))
        assert b"".join(piece for piece in found if isinstance(piece, bytes)) == text
        assert [piece.reason for piece in found if isinstance(piece, Malformed)] == reasons


def test_a_damaged_or_large_member_of_a_record_is_malformed_as_a_whole() -> None:
    data = gzip.compress(b"a")[:-3] + gzip.compress(bytes(1001)) + gzip.compress(b"b")
    found = list(inflated([data], most=1000))
    assert [piece for piece in found if isinstance(piece, bytes)] == [b"\n", b"\n", b"b"]
    assert [piece.reason for piece in found if isinstance(piece, Malformed)] == [Reason.GZIP, Reason.TOO_LARGE]


@pytest.mark.parametrize(("mark", "name"), UNREAD_FILES[:-1])
def test_other_kinds_of_file_are_named_once(mark: bytes, name: str) -> None:
    data = mark + bytes(range(256)) * 10
    for blocks in ([data], [bytes([byte]) for byte in data]):
        (part,) = parts(blocks, 10)
        assert part == TextPart(b"", malformed=(Malformed.of(Reason.UNSUPPORTED, data, name=name),))


@pytest.mark.parametrize(("mark", "_"), UNREAD_FILES[:-1])
def test_a_text_that_begins_like_another_kind_of_file_is_read(mark: bytes, _: str) -> None:
    text = mark + b"\n" + A * 10
    assert b"".join(part.text for part in parts([text])) == text


def test_gzip_within_gzip_is_named() -> None:
    (part,) = parts([gzip.compress(gzip.compress(b"a\n" * 1000))], 10)
    assert [(piece.reason, piece.name) for piece in part.malformed] == [(Reason.UNSUPPORTED, "gzip within gzip")]
