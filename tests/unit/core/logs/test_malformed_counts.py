"""Counts of malformed pieces add up, stay small, and survive being stored."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.logs.malformed_counts import (
    MOST_STORED,
    MalformedCount,
    added,
    counted,
    pack_counts,
    unpack_counts,
)
from chalicelib.core.logs.requests import Malformed, Reason, Source

PIECES = st.lists(
    st.builds(
        Malformed.of,
        st.sampled_from(Reason),
        st.binary(max_size=400),
        st.none() | st.sampled_from(Source),
        st.none() | st.tuples(st.integers(1, 3), st.integers(8, 9)),
    ),
    max_size=60,
)


@given(PIECES, st.integers(0, 60))
def test_counts_are_those_of_the_pieces_however_these_are_divided(pieces: list[Malformed], cut: int) -> None:
    whole = counted(pieces)
    assert {(c.source, c.reason): c.number for c in whole} == Counter((p.source, p.reason) for p in pieces)
    assert [c.number for c in whole] == sorted((c.number for c in whole), reverse=True)
    for count in whole:
        own = [p for p in pieces if (p.source, p.reason) == (count.source, count.reason)]
        assert count.sample == own[0].sample()
        fields = [p.fields or (None, None) for p in own]
        assert count.found == (fields[0][0] if len({found for found, _ in fields}) == 1 else None)
        assert count.expected == (fields[0][1] if len({expected for _, expected in fields}) == 1 else None)
    parts = added((*counted(pieces[:cut]), *counted(pieces[cut:])))
    assert sorted(map(repr, parts)) == sorted(map(repr, whole))


@given(PIECES)
def test_stored_counts_are_the_largest_and_bounded(pieces: list[Malformed]) -> None:
    counts = counted(pieces)
    packed = pack_counts(counts)
    assert unpack_counts(packed) == counts[:MOST_STORED]
    assert len(packed) < MOST_STORED * 500
    assert packed.isascii()


def test_the_counts_of_another_version_are_read_or_left() -> None:
    text = '[{"source":"new-log","reason":"new-reason","number":3,"new-field":1}]'
    assert unpack_counts(text) == (MalformedCount(source="new-log", reason="new-reason", number=3),)
    assert unpack_counts("{}") == unpack_counts("\ud800") == ()


def test_a_place_is_asked_for_once_for_each_kind_of_piece() -> None:
    asked: list[bytes] = []

    def where(raw: bytes) -> str:
        asked.append(raw)
        return "a.log, line 7"

    (count,) = counted([Malformed.of(Reason.JSON, b"{%d" % number) for number in range(100)], where)
    assert (count.number, count.where, asked) == (100, "a.log, line 7", [b"{0"])
