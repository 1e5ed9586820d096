"""The decoder of a batch of records. Any bytes decode to requests or to Malformed values; nothing raises.

A record holds text, or gzip: the envelope of a CloudWatch Logs subscription, or any text.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from operator import itemgetter

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, CloudFrontLines
from chalicelib.core.logs.envelope import LogEvent
from chalicelib.core.logs.framing import BLANK, GZIP_MEMBER, unpacked
from chalicelib.core.logs.json_fields import JsonFields
from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.logs.requests import COLUMNS, Decoded, Malformed, Reason, Requests, Source
from chalicelib.core.logs.text_decoder import LARGEST_MEMBER, Pieces, TextDecoder

KPL = b"\xf3\x89\x9a\xc2"
"""Start of an aggregate of the Kinesis Producer Library, which neither CloudFront nor CloudWatch Logs uses."""

PART_TEXT = 64 << 20
"""Bytes of unpacked text from which a batch is decoded in parts, so that its memory is bounded.

A batch with 6 MB of envelopes unpacks to some 60 MB; decoded, it takes up to six times as much.
"""

PART_EVENTS = 500_000
"""Log events from which a batch is decoded in parts; 6 MB of envelopes hold tens of thousands."""


class BatchDecoder:
    """A decoder of records of all formats, in any mixture."""

    def __init__(
        self,
        fields: Sequence[str] = DEFAULT_FIELDS,
        trusted: NetworkSet | None = None,
        json_fields: JsonFields = (),
    ) -> None:
        """Raises ValueError for fields that cannot be decoded."""
        self.cloudfront = CloudFrontLines(fields, trusted)

        @lru_cache(4)
        def decoder(columns: frozenset[str]) -> TextDecoder:
            options = DecodeOptions(self.cloudfront.fields, columns, trusted or NetworkSet(()), json_fields)
            return TextDecoder(options, self.cloudfront)

        self._decoder = decoder

    def decode(self, records: Sequence[bytes], columns: frozenset[str] = COLUMNS, *, start: int = 0) -> Decoded:
        """Returns the parts of a batch as one."""
        parts = list(self.parts(records, columns, start=start))
        return Decoded(
            tuple(requests for part in parts for requests in part.requests),
            tuple(piece for part in parts for piece in part.malformed),
            sum(part.repeats for part in parts),
        )

    def parts(
        self, records: Sequence[bytes], columns: frozenset[str] = COLUMNS, *, start: int = 0
    ) -> Iterator[Decoded]:
        """Yields the requests of ``records[start:]``, each once, in parts whose memory is bounded.

        A request is a repeat if it has the id of one that precedes it in ``records``: the id that CloudWatch Logs
        assigned to its event, or CloudFront to the request. ``columns``: those that rules examine; decoding only them
        saves time.
        """
        seen = _Seen(self._events_of)
        for earlier in self._parts(records[:start], frozenset(), seen):
            seen.without_repeats(earlier.requests)
        seen.take_repeated_events()
        for part in self._parts(records[start:] if start else records, columns, seen):
            yield seen.distinct(part)

    def decode_text(self, text: bytes, header: bytes = b"", columns: frozenset[str] = COLUMNS) -> Decoded:
        """Returns the requests of a part of a file or object under a ``#Fields`` line, each once."""
        decoder, pieces, seen = self._decoder(columns), Pieces(), _Seen(self._events_of)
        decoder.sort_text(text, pieces, header)
        _read_events(decoder, pieces, seen, ())
        return seen.distinct(decoder.decoded(pieces))

    def _parts(self, records: Sequence[bytes], columns: frozenset[str], seen: "_Seen") -> Iterator[Decoded]:
        """Yields what the records hold, part by part, without repeated events."""
        decoder = self._decoder(columns)
        pieces, size, events = Pieces(), 0, 0
        plain = records
        if not _MARKS.isdisjoint(map(_first, records)):
            plain = [record for record in records if not record.startswith((GZIP_MEMBER, KPL))]
            for record in records:
                if record.startswith(GZIP_MEMBER):
                    size += _unpack(record, decoder, pieces)
                    # Read while the messages are in the processor's cache, whose memory the next record then uses.
                    events += _read_events(decoder, pieces, seen, (record,))
                elif record.startswith(KPL):
                    pieces.malformed.append(Malformed.of(Reason.KPL, record))
                if size >= PART_TEXT or events >= PART_EVENTS:
                    yield decoder.decoded(pieces)
                    pieces, size, events = Pieces(), 0, 0
        if plain:
            decoder.sort_records(plain, pieces)
            _read_events(decoder, pieces, seen, plain)
        yield decoder.decoded(pieces)

    def _events_of(self, record: bytes) -> list[LogEvent]:
        """Returns the events in a record."""
        decoder, pieces = self._decoder(frozenset()), Pieces()
        if record.startswith(GZIP_MEMBER):
            _unpack(record, decoder, pieces)
        else:
            decoder.sort_records([record], pieces)
        return pieces.events


_first = itemgetter(slice(1))
_MARKS = frozenset((GZIP_MEMBER[:1], KPL[:1]))


def _unpack(record: bytes, decoder: TextDecoder, pieces: Pieces) -> int:
    """Sorts the text in a packed record, and returns its size."""
    text, malformed = unpacked(record, LARGEST_MEMBER)
    if text.strip(BLANK):
        decoder.sort_text(text, pieces)
    elif not malformed:
        malformed = [Malformed.of(Reason.EMPTY, record)]
    pieces.malformed += malformed
    return len(text)


def _read_events(decoder: TextDecoder, pieces: Pieces, seen: "_Seen", records: Sequence[bytes]) -> int:
    """Sorts the messages of the events in ``pieces``, which ``records`` hold, and returns the number of events."""
    events, pieces.events = pieces.events, []
    if events:
        decoder.sort_messages([event.message for event in seen.without_repeated(events, records)], pieces)
    return len(events)


class _Seen:
    """The ids that have occurred in a batch."""

    def __init__(self, events_of: Callable[[bytes], Iterable[LogEvent]]) -> None:
        """``events_of`` returns the events in a record."""
        self._events_of = events_of
        self._ids: dict[Source, set[bytes | str]] = {}
        self._event_ids: set[str] = set()
        self._opened: list[bytes] = []
        """The records that held the events."""
        self._messages: set[tuple[str, int]] | None = None
        """Ids of events with hashes of their messages, in case ids are not as unique as CloudWatch Logs promises; None
        while no id has occurred twice."""
        self._repeated_events = 0

    def distinct(self, decoded: Decoded) -> Decoded:
        """Returns ``decoded`` without the requests that have occurred before, which it counts as repeats."""
        distinct = self.without_repeats(decoded.requests)
        repeats = len(decoded) - sum(map(len, distinct)) + self.take_repeated_events()
        return Decoded(tuple(filter(None, distinct)), decoded.malformed, repeats)

    def without_repeats(self, batches: Sequence[Requests]) -> list[Requests]:
        """Returns the requests with an id that has not occurred in their source, or without one."""
        distinct = []
        for requests in batches:
            seen = self._ids.setdefault(requests.source, set())
            distinct.append(requests.without_repeats(seen))
            seen.update(requests.ids)
        return distinct

    def without_repeated(self, events: Sequence[LogEvent], records: Sequence[bytes]) -> Sequence[LogEvent]:
        """Returns the events of ``records`` whose id and message have not occurred together."""
        ids = {event.id for event in events}
        if self._messages is None and len(ids) == len(events) and ids.isdisjoint(self._event_ids):
            self._event_ids |= ids
            self._opened += records
            return events
        if self._messages is None:  # not before, because hashing a message takes half as long as reading it
            self._messages = set()
            for record in self._opened:
                _take_new(self._events_of(record), self._messages)
        distinct = _take_new(events, self._messages)
        self._repeated_events += len(events) - len(distinct)
        return distinct

    def take_repeated_events(self) -> int:
        """Returns the number of repeated events since the last call."""
        number, self._repeated_events = self._repeated_events, 0
        return number


def _take_new(events: Iterable[LogEvent], messages: set[tuple[str, int]]) -> list[LogEvent]:
    """Returns the events that are not among ``messages``, to which it adds those with an id."""
    new = []
    for event in events:
        key = event.id, hash(event.message)
        if key not in messages:
            new.append(event)
            if event.id:
                messages.add(key)
    return new
