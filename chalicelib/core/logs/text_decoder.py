"""The decoder of text: it detects the format of each JSON object and of each line, and decodes them all.

How a piece decodes depends on the piece alone and on the ``#Fields`` line above it, never on its neighbours. The fast
ways through this module, which try one format on a whole text, give what the slow way gives, or are not taken.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from chalicelib.core.logs.cloudfront import REALTIME, CloudFrontLines
from chalicelib.core.logs.cloudfront_standard import STANDARD
from chalicelib.core.logs.columns import lines_of
from chalicelib.core.logs.envelope import ENVELOPE, LogEvent
from chalicelib.core.logs.formats import JSON_ACCESS_LOG, OBJECT_FORMATS, detect, unread_log
from chalicelib.core.logs.framing import BLANK, BOM, GZIP_MEMBER, W3C_HEADER, Framed, framed, unpacked, unread_file
from chalicelib.core.logs.json_values import UNREADABLE, parsed
from chalicelib.core.logs.log_format import Decode, DecodeOptions, LineFormat, ObjectFormat, ObjectReader
from chalicelib.core.logs.requests import Decoded, Malformed, Reason, Requests
from chalicelib.core.logs.web_server import WEB_SERVER

SNIFFED_LINES = 200
"""Lines tried to detect the format of a text."""

SNIFFED_CHARACTERS = 256
"""Length of the start of a text that is searched for the keys of all formats before the rest is."""

MOST_DECODERS = 100
"""Most decoders kept, for different formats and ``#Fields`` lines."""

LARGEST_MEMBER = 16 << 20
"""Most bytes that a gzip member of a record may unpack to, to bound the cost of a decompression bomb.

That is 16 times what CloudWatch Logs accepts in one call.
"""

STRUCTURAL = frozenset((Reason.FIELDS, Reason.TIMESTAMP, Reason.ENCODING))
"""Reasons for which a line may be of another format."""

_BOM_OF_LINE = re.compile(rb"(?:\A|(?<=[\r\n]))" + BOM)
_BEGINS_OTHER = re.compile(rb"(?:\A|[\r\n])[ \t]*(?:\{|\x1f\x8b\x08)")
"""A line that begins like an object or like gzip."""
_EXPORTED = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]{8,15}Z (?=\{)", re.ASCII)
"""The time before each message that CloudWatch Logs exports to S3."""


@dataclass(slots=True)
class Pieces:
    """Pieces of texts, sorted by what they are."""

    records: dict[int, list[Any]] = field(default_factory=dict)
    """Records of JSON objects, by the number of their kind."""
    lines: dict[bytes, list[bytes]] = field(default_factory=dict)
    """Lines by the ``#Fields`` line in force."""
    events: list[LogEvent] = field(default_factory=list)
    """Events of CloudWatch Logs envelopes, whose messages are texts."""
    requests: list[Requests] = field(default_factory=list)
    malformed: list[Malformed] = field(default_factory=list)

    def add(self, requests: Requests, malformed: Iterable[Malformed]) -> None:
        if requests:
            self.requests.append(requests)
        self.malformed += malformed


class _Kind(NamedTuple):
    """A format of objects, with the reader for this decoder's options."""

    format: ObjectFormat
    reader: ObjectReader
    marks: tuple[tuple[bytes, str], ...]
    """The keys as they stand in a text. A client cannot write one, because quotes within a value are escaped."""

    def is_in(self, text: bytes | str) -> bool:
        """Tests whether the text contains the keys, possibly in a nested object."""
        return all(mark[isinstance(text, str)] in text for mark in self.marks)  # type: ignore[operator]


class TextDecoder:
    """A decoder of texts of all formats, in any mixture."""

    def __init__(self, options: DecodeOptions, realtime: CloudFrontLines | None = None) -> None:
        """Raises ValueError for real-time fields that cannot be decoded. ``realtime``: their decoder, if any."""
        formats = [f for f in OBJECT_FORMATS if f is not JSON_ACCESS_LOG or options.json_fields]
        self._kinds = [
            _Kind(f, f.reader(options), tuple((f'"{key}"'.encode(), f'"{key}"') for key in f.keys)) for f in formats
        ]

        @lru_cache(MOST_DECODERS)
        def line_decoder(log_format: LineFormat, header: bytes) -> Decode:
            return log_format.decoder(options, header)

        self._line_decoder = line_decoder
        self._realtime = realtime or CloudFrontLines(options.realtime_fields, options.trusted)

    def decode(self, text: bytes, header: bytes = b"") -> Decoded:
        """Decodes the text of a file or S3 object, or a ``TextPart`` of it, under a ``#Fields`` line."""
        pieces = Pieces()
        self.sort_text(text, pieces, header)
        events, pieces.events = pieces.events, []
        self.sort_messages([event.message for event in events], pieces)
        return self.decoded(pieces)

    def sort_text(self, text: bytes, pieces: Pieces, header: bytes = b"") -> None:
        """Sorts a text of many pieces; envelopes are opened, but not their messages."""
        header, rest = _after_comments(text.removeprefix(BOM), header)
        if rest.startswith(b"{"):
            self._sort([rest], pieces, header)
            return
        log_format = STANDARD if header else detect(rest[: rest.find(b"\n")], header)
        if log_format is not None and log_format.cuts_lines and rest.endswith(b"\n"):
            requests, malformed = self._decoder(log_format, header)([rest])
            if not _may_be_mixed(malformed):
                pieces.add(requests, malformed)
                return
        if rest.strip(BLANK):
            self._frame(rest, pieces, header)

    def sort_records(self, records: Sequence[bytes], pieces: Pieces) -> None:
        """Sorts texts of one or more pieces each. A ``#Fields`` line applies to the rest of its own text."""
        if _NOT_LINES.isdisjoint(map(_first, records)):
            requests, malformed = self._realtime.decode(records)
            if not _may_be_mixed(malformed):
                pieces.add(requests, malformed)
                return
        self._sort(records, pieces)

    def sort_messages(self, messages: Sequence[str], pieces: Pieces) -> None:
        """Sorts the messages of events, each a text; an envelope in a message is not opened."""
        texts = [message for message in messages if message and not message.isspace()]
        if len(texts) < len(messages):
            pieces.malformed += [_NO_MESSAGE] * (len(messages) - len(texts))
        self._sort(texts, pieces)
        events = [event.message.encode("utf-8", "replace") for event in pieces.events]
        pieces.malformed += [Malformed.of(Reason.ENVELOPE, message) for message in events]
        pieces.events.clear()

    def decoded(self, pieces: Pieces) -> Decoded:
        """Decodes what was sorted, except for events."""
        groups, pieces.lines = pieces.lines, {}
        for header, lines in groups.items():
            self._decode_lines(lines, header, pieces)
        for number, records in pieces.records.items():
            pieces.add(*self._kinds[number].reader.requests(records))
        return Decoded(tuple(pieces.requests), tuple(pieces.malformed))

    def _sort(self, texts: Sequence[bytes | str], pieces: Pieces, header: bytes = b"") -> None:
        """Sorts texts, of which most are one JSON object each."""
        if len(texts) > 1 and self._read_uniform(texts, pieces):
            return
        for text in texts:
            if self._read(text, pieces):
                continue
            if isinstance(text, bytes):
                self._frame(text, pieces, header)
            elif not self._rescue(text, pieces):
                self._frame(text.encode("utf-8", "surrogatepass"), pieces, header)

    def _read_uniform(self, texts: Sequence[bytes | str], pieces: Pieces) -> bool:
        """Reads texts that are one usual object each, all of one kind. Returns False for other texts, unread."""
        number = next(self._likely(texts[0]), None)
        if number is not None:
            with suppress(*UNREADABLE):
                self._add(number, list(map(self._kinds[number].reader.read, texts)), pieces)
                return True
        return False

    def _read(self, text: bytes | str, pieces: Pieces) -> bool:
        """Reads a text that holds nothing but usual objects of one kind. Returns False for another text, unread."""
        for number in self._likely(text):
            reader = self._kinds[number].reader
            with suppress(*UNREADABLE):
                self._add(number, [reader.read(text)], pieces)
                return True
            with suppress(*UNREADABLE):
                self._add(number, reader.read_lines(text), pieces)
                return True
        return False

    def _likely(self, text: bytes | str) -> Iterator[int]:
        """Yields the numbers of the kinds that a text may be of, the likeliest first."""
        start = text[:SNIFFED_CHARACTERS]
        at_start = [number for number, kind in enumerate(self._kinds) if kind.marks and kind.is_in(start)]
        yield from at_start
        for number, kind in enumerate(self._kinds):
            if number not in at_start and kind.is_in(text):
                yield number

    def _rescue(self, text: bytes | str, pieces: Pieces) -> bool:
        """Reads the record with which a text begins, if it is of a kind whose values are not escaped."""
        for number, kind in enumerate(self._kinds):
            if kind.format.rescue is not None and (record := kind.format.rescue(text)) is not None:
                self._add(number, [record], pieces)
                return True
        return False

    def _add(self, number: int, records: list[Any], pieces: Pieces) -> None:
        if self._kinds[number].format is ENVELOPE:
            pieces.events += [event for record in records for event in record.events()]
        elif number in pieces.records:
            pieces.records[number] += records
        else:
            pieces.records[number] = records

    def _frame(self, text: bytes, pieces: Pieces, header: bytes, *, is_unpacked: bool = False) -> None:
        """Sorts a text piece by piece. ``is_unpacked``: it was packed within another text."""
        if BOM in text:  # a search for it costs much less than one for the start of its line
            text = _BOM_OF_LINE.sub(b"", text)
        name = unread_file(text)
        if name is not None:
            pieces.malformed.append(Malformed.of(Reason.UNSUPPORTED, text, name=name))
        elif not text.strip(BLANK):
            pieces.malformed.append(Malformed.of(Reason.EMPTY, text))
        elif (b"{" not in text and GZIP_MEMBER not in text) or _BEGINS_OTHER.search(text) is None:
            _sort_lines(lines_of(text), header, pieces.lines)
        else:
            frames = framed(text)
            self._sort_framed(frames, pieces, header)
            if frames.packed and is_unpacked:
                pieces.malformed.append(Malformed.of(Reason.UNSUPPORTED, frames.packed, name="gzip within gzip"))
            elif frames.packed:
                unpacked_text, malformed = unpacked(frames.packed, LARGEST_MEMBER)
                pieces.malformed += malformed
                if unpacked_text.strip(BLANK):
                    self._frame(unpacked_text, pieces, header, is_unpacked=True)

    def _sort_framed(self, frames: Framed, pieces: Pieces, header: bytes) -> None:
        for piece in frames.objects:
            if not self._read_object(piece, pieces):
                pieces.malformed.append(Malformed.of(Reason.FIELDS, piece))
        for piece in frames.fragments:
            self._read_object(piece, pieces)
        for piece in frames.damaged:
            if not self._rescue(piece, pieces):
                pieces.malformed.append(self._damaged(piece))
        _sort_lines(frames.lines, header, pieces.lines)

    def _read_object(self, text: bytes, pieces: Pieces) -> bool:
        """Reads one object, parts of which may be unreadable; returns whether it is of a known kind."""
        if self._read(text, pieces):
            return True
        content = parsed(text)
        for number, kind in enumerate(self._kinds):
            if content is not None and all(key in content for key in kind.format.keys):
                record = kind.reader.salvage(content, text)
                if isinstance(record, Reason):
                    pieces.malformed.append(Malformed.of(record, text, kind.format.source))
                else:
                    self._add(number, [record], pieces)
                return True
        return False

    def _damaged(self, text: bytes) -> Malformed:
        kind = next((kind for kind in self._kinds if kind.format.keys and kind.is_in(text)), None)
        reason = Reason.ENVELOPE if kind and kind.format is ENVELOPE else Reason.JSON
        return Malformed.of(reason, text, kind and kind.format.source)

    def _decode_lines(self, lines: list[bytes], header: bytes, pieces: Pieces) -> None:
        """Decodes lines in the format of the first; if some do not fit, each in its own."""
        first = STANDARD if header else next(filter(None, map(detect, lines[:SNIFFED_LINES])), None)
        if first is not None:
            requests, malformed = self._decoder(first, header)(lines)
            if not _may_be_mixed(malformed):
                pieces.add(requests, malformed)
                return
        by_format: dict[LineFormat | None, list[bytes]] = {}
        for line in lines:
            by_format.setdefault(self._format_of(line, header), []).append(line)
        messages = []
        for line in by_format.pop(None, ()):
            exported = _EXPORTED.match(line)
            if exported:
                messages.append(line[exported.end() :].decode("utf-8", "replace"))
            else:
                pieces.malformed.append(_unrecognised(line))
        self._sort_exported(messages, pieces)
        for log_format, group in by_format.items():
            assert log_format is not None
            pieces.add(*self._decoder(log_format, header)(group))

    def _sort_exported(self, messages: Sequence[str], pieces: Pieces) -> None:
        """Sorts messages of events that hold objects; whatever else is in one is malformed."""
        self.sort_messages(messages, pieces)
        pieces.malformed += [_unrecognised(line) for lines in pieces.lines.values() for line in lines]
        pieces.lines.clear()

    def _format_of(self, line: bytes, header: bytes) -> LineFormat | None:
        """Returns the format of a line or, if none recognises it, the one that it was probably meant to have; None if
        unclear."""
        log_format = detect(line, header)
        if log_format is not None or _EXPORTED.match(line):
            return log_format
        if header:
            return STANDARD
        return REALTIME if b"\t" in line else None

    def _decoder(self, log_format: LineFormat, header: bytes) -> Decode:
        if log_format is REALTIME:
            return self._realtime.decode
        return self._line_decoder(log_format, header if log_format.has_header else b"")


_NO_MESSAGE = Malformed(Reason.EMPTY, b"")
_first = itemgetter(slice(1))
_NOT_LINES = frozenset((b"{", b"", *map(_first, (b" ", b"\t", b"\r", b"\n"))))
"""First bytes of records that are not plain CloudFront real-time lines."""


def _unrecognised(line: bytes) -> Malformed:
    name = unread_log(line)
    if name is not None:
        return Malformed.of(Reason.UNSUPPORTED, line, name=name)
    try:
        line.decode()
    except UnicodeDecodeError:
        return Malformed.of(Reason.ENCODING, line)
    return Malformed.of(Reason.JSON if line.startswith(b"{") else Reason.FIELDS, line)


def _may_be_mixed(malformed: Sequence[Malformed]) -> bool:
    """Tests whether a malformed line may be of another format."""
    return any(piece.reason in STRUCTURAL for piece in malformed)


def _after_comments(text: bytes, header: bytes) -> tuple[bytes, bytes]:
    """Returns the ``#Fields`` line in force after the comments at the start of a text, and the text after them."""
    while text.startswith(b"#") and b"\n" in text:
        line, _, rest = text.partition(b"\n")
        if b"\r" in line or not _is_comment(line):
            break
        header, text = line if line.startswith(W3C_HEADER) else header, rest
    return header, text


def _is_comment(line: bytes) -> bool:
    """Tests whether a line is a comment, not a line of a web server that writes the requested host first."""
    return line.startswith(b"#") and not WEB_SERVER.recognises(line, b"")


def _sort_lines(lines: Iterable[bytes], header: bytes, groups: dict[bytes, list[bytes]]) -> None:
    """Adds the lines to the groups of the ``#Fields`` lines in force; comments are skipped."""
    group: list[bytes] | None = None
    for line in lines:
        if not _is_comment(line):
            group = groups.setdefault(header, []) if group is None else group
            group.append(line)
        elif line.startswith(W3C_HEADER):
            header, group = line, None
