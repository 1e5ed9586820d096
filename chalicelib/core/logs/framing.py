"""Framing: bytes to plain text, and plain text to JSON objects and lines, the same wherever they come from.

A Kinesis record, a file, an S3 object, a gzip member and the message of a CloudWatch Logs event hold the same things:
JSON objects one after another, with or without line ends between or within them, and lines. Every byte ends up in an
object, in a line, or in a damaged piece, whatever precedes or follows it; damage costs the damaged piece and nothing
else.
"""

import json
import re
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from chalicelib.core.logs.requests import Malformed, Reason

GZIP_MEMBER = b"\x1f\x8b\x08"
"""Start of a gzip member: the magic number, and the only compression method, deflate."""

BOM = b"\xef\xbb\xbf"
"""Byte order mark, with which some programs begin a text; in concatenated texts, later lines begin with it too."""

BLANK = b" \t\r\n"
PADDING = b"\0" + BLANK
"""Bytes that may stand before, between and after gzip members."""

W3C_HEADER = b"#Fields:"
"""Start of the line that names the fields of the lines under it."""

UNREAD_FILES = (
    (b"PAR1\x15", "Parquet"),
    (b"PK\x03\x04", "zip"),
    (b"BZh91AY&SY", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Obj\x01", "Avro"),
    (GZIP_MEMBER, "gzip within gzip"),
)
"""First bytes of kinds of file that are recognised but not opened, and their names."""

BYTES_PER_HOP = 512
"""A header is searched for from one ``#`` to the next, 15 times as fast as by searching for the whole mark, until the
text has turned out to have more than one ``#`` per so many bytes.
"""

BLOCK_BYTES = 1 << 20
"""Most bytes of text yielded at a time."""

WINDOW = 1 << 16
"""Bytes of text searched at a time for the end of a part."""

LONGEST_PIECE = 64 << 20
"""Most bytes of text in which the end of a part is searched for. A longer object or line is cut, and is malformed."""

TRAILER = 8
"""Bytes after the content of a gzip member: its checksum and its size."""

FIRST_FEED = 1 << 10
"""Compressed bytes fed to a new member at first. Whatever of them follows a member is copied once per member, so they
must be few.
"""


SNIFFED_BYTES = 512
"""Bytes at the start of a text that are examined for binary content."""

_PRINTABLE = bytes([*b"\t\r\n", *range(0x20, 0x7F)])


def unread_file(data: bytes) -> str | None:
    """Returns the kind of file that begins with ``data``, if it is not opened; None for text that begins likewise.

    >>> unread_file(b"PAR1\\x15\\x04\\x15\\xc6\\x01"), unread_file(b"BZh91AY&SY, and so on: a text")
    ('Parquet', None)
    """
    start = data[:SNIFFED_BYTES]
    is_binary = len(start.translate(None, _PRINTABLE)) * 5 > len(start)
    return next((name for mark, name in UNREAD_FILES if data.startswith(mark)), None) if is_binary else None


def unpacked(data: bytes, most: int) -> tuple[bytes, list[Malformed]]:
    """Returns the text in a record, of which each gzip member is either whole or malformed, and what is malformed."""
    inflate = zlib.decompressobj(wbits=31)
    with suppress(zlib.error):
        text = inflate.decompress(data, most)
        if inflate.eof and not inflate.unused_data:  # most records are one member
            return text, []
    pieces = list(inflated([data], most))
    malformed = [piece for piece in pieces if isinstance(piece, Malformed)]
    return b"".join(piece for piece in pieces if isinstance(piece, bytes)), malformed


def inflated(blocks: Iterable[bytes], most: int | None = None) -> Iterator[bytes | Malformed]:
    """Yields the text in ``blocks``, consecutive pieces of one object, and what cannot be unpacked.

    Gzip is unpacked, every member of it; other text is yielded as it is; other kinds of file are only named. The next
    member is searched for after a damaged one, and after other bytes between two members, which are yielded as text. A
    line end is inserted where text of different origin would run together.

    Of a damaged member, the readable part is yielded, unless ``most`` is given: then a member is either whole or
    malformed, and one that unpacks to more bytes than ``most`` is too large.
    """
    source = _Blocks(blocks)
    start = source.start(SNIFFED_BYTES)
    if start.startswith(GZIP_MEMBER):
        yield from _members(source, most)
    elif (name := unread_file(start)) is not None:
        yield Malformed.of(Reason.UNSUPPORTED, start, name=name)
    else:
        yield from source.rest()


class _Blocks:
    """Blocks. The unread part of the current one can be examined, and bytes can be put back."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._block = b""
        self._at = 0

    def start(self, number: int) -> bytes:
        """Returns the next bytes, at most ``number`` of them, without taking them."""
        while len(self._block) - self._at < number and (more := next(self._blocks, None)) is not None:
            self._append(more)
        return self._block[self._at : self._at + number]

    def starts_with(self, mark: bytes) -> bool:
        return self.start(len(mark)) == mark

    def take(self, number: int) -> bytes:
        """Returns the next bytes, at most ``number`` of them; none at the end."""
        while self._at >= len(self._block):
            more = next(self._blocks, None)
            if more is None:
                return b""
            self._append(more)
        taken = self._block[self._at : self._at + number]
        self._at += len(taken)
        return taken

    def put_back(self, number: int) -> None:
        """Puts back the last ``number`` bytes taken: at most those of the last ``take``, and ``TRAILER`` more."""
        self._at -= number

    def _append(self, more: bytes) -> None:
        kept = max(0, self._at - TRAILER)
        self._block, self._at = self._block[kept:] + more, self._at - kept

    def take_until(self, mark: bytes) -> Iterator[bytes]:
        """Yields the bytes before the next ``mark``, or all of them if there is none."""
        while not self.starts_with(mark):
            end = self._block.find(mark, self._at)
            if end < 0:
                end = max(self._at + 1, len(self._block) - len(mark) + 1)
            taken = self.take(end - self._at)
            if not taken:
                return
            yield taken

    def rest(self) -> Iterator[bytes]:
        if self._at < len(self._block):
            yield self._block[self._at :]
        yield from self._blocks


def _members(source: _Blocks, most: int | None) -> Iterator[bytes | Malformed]:
    runs_on = True  # from one member into the next
    while True:
        while (byte := source.take(1)) and byte in PADDING:
            runs_on = False
        if not byte:
            return
        source.put_back(1)
        if source.starts_with(GZIP_MEMBER):
            if not runs_on:
                yield b"\n"
            runs_on = yield from _member(source, most)
        else:
            yield b"\n"
            yield from source.take_until(GZIP_MEMBER)
            runs_on = False


def _member(source: _Blocks, most: int | None) -> Generator[bytes | Malformed, None, bool]:
    """Yields the content of a member; returns whether it is undamaged."""
    inflate = zlib.decompressobj(wbits=31)
    texts: list[bytes] = []
    size, fed, feed = 0, 0, FIRST_FEED
    start = b""
    problem = ""
    while not inflate.eof:
        packed = inflate.unconsumed_tail or source.take(feed)
        start = start or packed[: Malformed.SAMPLE_BYTES]
        feed = min(2 * feed, BLOCK_BYTES)
        before = inflate.copy()
        try:
            text = inflate.decompress(packed, BLOCK_BYTES) if packed else inflate.flush()
        except zlib.error:
            text, good = _readable(before, packed)
            problem = "damaged gzip"
            # What was taken for the member's trailer may be the start of the next one.
            source.put_back(len(packed) - max(good + 1 - TRAILER, 1 - fed))
        fed += len(packed) - len(inflate.unconsumed_tail)
        size += len(text)
        if most is None:
            yield text
        elif size <= most:
            texts.append(text)
        else:
            source.put_back(len(inflate.unconsumed_tail) + len(inflate.unused_data))
            problem = "large gzip"
        if not packed and not inflate.eof:
            problem = "truncated gzip"
        if problem:
            reason = Reason.TOO_LARGE if most is not None and size > most else Reason.GZIP
            yield Malformed.of(reason, start, name=problem)
            for _ in source.take_until(GZIP_MEMBER):
                pass
            return False
    yield from texts
    source.put_back(len(inflate.unused_data))
    return True


def _readable(inflate: "zlib._Decompress", packed: bytes) -> tuple[bytes, int]:
    """Returns the text in ``packed`` before the damage, and the number of bytes before it."""
    texts: list[bytes] = []
    with suppress(zlib.error):
        texts.extend(inflate.decompress(packed[byte : byte + 1]) for byte in range(len(packed)))
    return b"".join(texts), len(texts)


_CUT = re.compile(rb"(?<=\n)(?![ \t\r\n}\]\"])|(?<=\})[ \t\r\n]*(?=\{\s*\"[A-Za-z_@$])")
"""A place between two pieces: after a line end that is not within a JSON object, or between two objects.

JSON over several lines has blanks, brackets or quotes at the start of its inner lines. An unescaped quote before a
letter ends no string, because a comma, a colon or a bracket would follow; so two braces before it do not stand in a
string.
"""


@dataclass(frozen=True, slots=True)
class TextPart:
    """Consecutive whole pieces of one file or S3 object, unpacked."""

    text: bytes
    header: bytes = b""
    """The ``#Fields`` line in force at the start of the part; empty if there is none."""
    malformed: tuple[Malformed, ...] = ()
    """Pieces that could not be unpacked, after the previous part and up to the end of this one."""


def parts(blocks: Iterable[bytes], part_bytes: int = BLOCK_BYTES) -> Iterator[TextPart]:
    """Yields the content of one file or S3 object as parts that end at the end of a JSON object or line.

    ``blocks`` are its bytes, gzip or not, cut anywhere. The parts depend on the content alone, not on the blocks: each
    is the shortest that has at least ``part_bytes`` bytes, so that a reader can recognise a part that it has seen
    before. Memory is bounded by ``part_bytes`` and ``LONGEST_PIECE``; a longer piece is cut. Decode each with
    ``TextDecoder``.
    """
    header = rest = b""
    malformed: list[Malformed] = []
    searched = part_bytes
    is_first = True
    for content in inflated(blocks):
        if isinstance(content, Malformed):
            malformed.append(content)
            continue
        if is_first and (name := unread_file(content)) is not None:
            yield TextPart(b"", malformed=(Malformed.of(Reason.UNSUPPORTED, content, name=name),))
            return
        is_first = False
        text = content
        while len(rest) + len(text) >= searched + WINDOW:
            if searched <= len(rest):
                rest, text = b"", rest + text
            first = searched - len(rest)
            cut = _cut(text, first, first + WINDOW)
            searched += WINDOW
            if cut is None and searched - part_bytes < LONGEST_PIECE:
                continue
            cut = cut or first + WINDOW
            part = b"".join((rest, memoryview(text)[:cut]))  # the only copy of most bytes
            rest, text = b"", text[cut:]
            yield TextPart(part, header, tuple(malformed))
            header, malformed, searched = last_header(part) or header, [], part_bytes
        rest = rest + text if rest else text
    while len(rest) > searched and (cut := _cut(rest, searched, len(rest))) is not None:
        part, rest = rest[:cut], rest[cut:]
        yield TextPart(part, header, tuple(malformed))
        header, malformed, searched = last_header(part) or header, [], part_bytes
    if rest or malformed:
        yield TextPart(rest, header, tuple(malformed))


def _cut(text: bytes, first: int, end: int) -> int | None:
    """Returns the first boundary between two pieces, from ``first`` (inclusive) to ``end`` (exclusive); None if
    there is none."""
    match = _CUT.search(text, first, end)
    return None if match is None or match.end() == end else match.end()


def last_header(text: bytes) -> bytes:
    """Returns the last ``#Fields`` line, or an empty string if there is none."""
    at, hops = len(text), len(text) // BYTES_PER_HOP
    while (at := text.rfind(W3C_HEADER[:1] if hops > 0 else W3C_HEADER, 0, at)) >= 0:
        if text.startswith(W3C_HEADER, at) and _begins_line(text, at):
            return _LINE_OF_BYTES.match(text, at)[0]  # type: ignore[index]
        hops -= 1
    return b""


def _begins_line(text: bytes, at: int) -> bool:
    before = text[max(0, at - len(BOM) - 1) : at].removesuffix(BOM)
    return before[-1:] in (b"", b"\n", b"\r")


_LINE_OF_BYTES = re.compile(rb"[^\r\n]*")
_LINE = re.compile(r"[^\r\n]*")
_BLANKS = re.compile(r"[ \t\r\n]*")
_OPENING = re.compile(r"\{\s*(?:[\"}]|\Z|(?<=[\r\n]))", re.ASCII)
"""The start of an object at the start of a line, where a client may have written the brace, as in a virtual host."""
_OBJECT = re.compile(r"(?=\{\s*\"[A-Za-z_@$])", re.ASCII)
"""The start of an object, even in the middle of a line: such a quote ends no string, see ``_CUT``."""
_AFTER_DAMAGE = re.compile(rf"(?<=[\r\n])(?![ \t\r\n}}\]\"])|(?<=}})[ \t\r\n]*(?={{)|{_OBJECT.pattern}", re.ASCII)
"""A place where the next piece may begin: a line, an object after a brace, or an object anywhere."""
_LINE_START = re.compile(r"(?<=[\r\n])(?![ \t\r\n])", re.ASCII)

SCANS = 4
"""Most times that the bytes of a text are read in search of the ends of damaged objects.

Beyond that, reading resumes only at the starts of lines, so that no text can make the work grow faster than its length.
"""

_scan = json.JSONDecoder(strict=False).raw_decode


@dataclass(slots=True)
class Framed:
    """The pieces of a text."""

    objects: list[bytes] = field(default_factory=list)
    """JSON objects, of any content."""
    lines: list[bytes] = field(default_factory=list)
    """Lines, and whatever else does not begin like an object, in order and without line ends."""
    damaged: list[bytes] = field(default_factory=list)
    """Pieces that begin like an object but are not one."""
    fragments: list[bytes] = field(default_factory=list)
    """Objects that directly follow damage: parts of the damaged object, or the next one if no line end precedes it."""
    packed: bytes = b""
    """The rest of the text from the first whole gzip member on that begins a piece.

    Members within a line are not looked for, because some logs hold text that clients wrote there.
    """


def framed(text: bytes) -> Framed:
    """Returns the pieces of a text.

    >>> pieces = framed(b'{"a":1}{"b":\\n2}\\nsome line\\n{"c":{"d":1},')
    >>> pieces.objects, pieces.lines, pieces.damaged, pieces.fragments
    ([b'{"a":1}', b'{"b":\\n2}'], [b'some line'], [b'{"c":'], [b'{"d":1}'])
    """
    pieces = Framed()
    string = text.decode("latin-1")  # one character per byte
    end, budget = len(string), SCANS * len(string)
    at = 0
    is_within = False  # a damaged object
    follows_damage = False  # and no whole object since, so that lines may be the rest of the damaged one
    while (start := _skip(_BLANKS, string, at)) < end:
        if budget > 0 and text.startswith(GZIP_MEMBER, start):
            if _begins_with_member(text[start:]):
                pieces.packed = text[start:]
                break
            budget -= end - start
        line_start = max(at, string.rfind("\n", at, start) + 1, string.rfind("\r", at, start) + 1)
        begins_line = line_start > at or at == 0 or string[at - 1] in "\r\n"
        begins_object = _OPENING.match(string, start) is not None
        is_within = is_within and not begins_line
        if begins_object:
            stop, cost = _object_end(string, start, budget)
            budget -= cost
            if stop:
                (pieces.fragments if is_within else pieces.objects).append(text[start:stop])
                follows_damage = follows_damage and is_within
                is_within = is_within and not string.startswith("{", _skip(_BLANKS, string, stop))
                at = stop
                continue
        is_damage = begins_object or is_within
        if is_damage:
            stop = _end_of_match(_AFTER_DAMAGE if budget > 0 else _LINE_START, string, start + 1, end)
        else:
            stop = _skip(_LINE, string, start)
            if follows_damage or not begins_line:
                # The object may continue on the next line: its first key is looked for there.
                stop = min(stop, _end_of_match(_OBJECT, string, start, _skip(_BLANKS, string, stop) + 2))
        if not is_damage:
            pieces.lines.append(text[line_start if begins_line else start : stop])
        elif not is_within:
            pieces.damaged.append(text[start:stop])
        is_within = is_damage and string[stop - 1] not in "\r\n}"
        follows_damage = follows_damage or string[start] == "{"
        at = stop
    return pieces


def _begins_with_member(data: bytes) -> bool:
    """Tests whether ``data`` begins with a whole gzip member, of any size."""
    inflate = zlib.decompressobj(wbits=31)
    with suppress(zlib.error):
        while data and not inflate.eof:
            inflate.decompress(data, BLOCK_BYTES)
            data = inflate.unconsumed_tail
    return inflate.eof


def _skip(pattern: "re.Pattern[str]", string: str, at: int) -> int:
    """Returns the end of what ``pattern`` matches there; ``at`` if it does not match."""
    match = pattern.match(string, at)
    return match.end() if match else at


def _end_of_match(pattern: "re.Pattern[str]", string: str, start: int, end: int) -> int:
    """Returns the end of the first match of ``pattern``; ``end`` if there is none."""
    match = pattern.search(string, start, end)
    return match.end() if match else end


def _object_end(string: str, start: int, budget: int) -> tuple[int, int]:
    """Returns the end of the object at ``start``, 0 if there is none, and the characters read in vain.

    Without a budget, the object has to end on its line.
    """
    limit = len(string) if budget > 0 else _skip(_LINE, string, start)
    try:
        return (_scan(string, start)[1], 0) if budget > 0 else (start + _scan(string[start:limit])[1], 0)
    except json.JSONDecodeError as exc:
        # An unterminated string has been read to its end. To build the error, the lines before it are counted, which is
        # fast.
        position = limit if exc.msg.startswith("Unterminated") or budget <= 0 else exc.pos
        return 0, position - start + position // 64
    except (ValueError, RecursionError):
        return 0, limit - start
