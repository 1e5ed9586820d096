"""The content of an object: parts that are the same however it is stored, and that join to the whole."""

import gzip
import tracemalloc
from collections.abc import Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.pipeline.object_content import LONGEST_LINE, ObjectContent, Part

LINES = b"".join(b"line %d of a log\n" % number for number in range(1000))


def blocks_of(content: bytes, size: int) -> Iterator[bytes]:
    yield from (content[at : at + size] for at in range(0, len(content), size))


def parts_of(content: ObjectContent, most: int, start: int = 0) -> list[Part]:
    parts: list[Part] = []
    while (part := content.part(parts[-1].end if parts else start, most)) is not None:
        parts.append(part)
    return parts


texts = st.lists(
    st.sampled_from([b"a\n", b"longer line\n", b"\n", b"#Fields: x y\n", b"#Version: 1.0\n", b"no end"]), max_size=20
).map(b"".join)


@given(text=texts, block=st.integers(1, 60), most=st.integers(1, 40), packed=st.booleans(), members=st.integers(1, 3))
def test_parts_join_to_the_content_and_end_with_lines(
    text: bytes, block: int, most: int, packed: bool, members: int
) -> None:
    stored = text
    if packed:
        cut = len(text) // members
        pieces = [text[number * cut : (number + 1) * cut] for number in range(members)] + [text[members * cut :]]
        stored = b"".join(map(gzip.compress, pieces))
    parts = parts_of(ObjectContent(blocks_of(stored, block)), most)
    assert b"".join(part.text for part in parts) == text
    assert [part.start for part in parts] == [0, *(part.end for part in parts)][: len(parts)]
    assert all(len(part.text) <= most or part.text.find(b"\n") in (-1, len(part.text) - 1) for part in parts)
    assert all(part.text.endswith(b"\n") for part in parts[:-1])


@given(text=texts, block=st.integers(1, 60), most=st.integers(1, 40), data=st.data())
def test_reading_goes_on_at_the_end_of_any_part_of_another_reading(
    text: bytes, block: int, most: int, data: st.DataObject
) -> None:
    whole = parts_of(ObjectContent([text]), most)
    if whole:
        begun = data.draw(st.integers(0, len(whole) - 1))
        rest = parts_of(ObjectContent(blocks_of(gzip.compress(text), block)), most, whole[begun].start)
        assert rest == whole[begun:]


@given(text=texts, most=st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_parts_of_any_sizes_join_to_the_content(text: bytes, most: Sequence[int]) -> None:
    content, place, joined = ObjectContent([text]), 0, b""
    for size in [*most, *[1000] * 5]:
        part = content.part(place, size)
        if part is not None:
            joined, place = joined + part.text, part.end
    assert joined == text


def test_a_part_can_be_asked_for_again_in_another_size() -> None:
    content = ObjectContent([b"one\ntwo\nthree\n"])
    assert content.part(0, 10) == Part(0, b"one\ntwo\n", b"")
    assert content.part(0, 5) == Part(0, b"one\n", b"")
    assert content.part(4, 100) == Part(4, b"two\nthree\n", b"")
    assert content.part(14, 100) is None


def test_a_part_knows_the_fields_line_above_it() -> None:
    text = b"#Version: 1.0\n#Fields: date time\n1\t2\n3\t4\n#Fields: time date\r\n5\t6\n7 #Fields: none\n8\t9\n"
    for part in parts_of(ObjectContent(blocks_of(text, 3)), 20):
        above = [line for line in text[: part.start].splitlines() if line.startswith(b"#Fields")]
        assert part.header == (above[-1] if above else b"")
    second = ObjectContent(blocks_of(text, 7)).part(text.index(b"8\t9"), 100)
    assert second == Part(text.index(b"8\t9"), b"8\t9\n", b"#Fields: time date")


def test_a_line_that_does_not_end_is_cut() -> None:
    line = b"x" * (3 * LONGEST_LINE)
    parts = parts_of(ObjectContent(blocks_of(line + b"\nnext\n", 50_000)), 1000)
    assert b"".join(part.text for part in parts) == line + b"\nnext\n"
    assert all(len(part.text) <= LONGEST_LINE + 50_000 for part in parts)
    assert parts[-1].text == b"next\n"


def test_a_truncated_object_is_read_as_far_as_possible() -> None:
    stored = gzip.compress(LINES)
    text = b"".join(part.text for part in parts_of(ObjectContent([stored[: len(stored) // 2]]), 1000))
    assert text
    assert LINES.startswith(text)


def test_a_bomb_needs_bounded_memory() -> None:
    stored = gzip.compress(b"x" * (64 << 20))
    tracemalloc.start()
    content, place = ObjectContent([stored]), 0
    while (part := content.part(place, 1 << 20)) is not None:
        place = part.end
    assert place == 64 << 20
    assert tracemalloc.get_traced_memory()[1] < 12 << 20
    tracemalloc.stop()
