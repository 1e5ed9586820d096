"""The decoder of a batch of records. Any bytes decode to requests or to Malformed values; nothing raises.

A record holds text, or gzip: the envelope of a CloudWatch Logs subscription, or any text.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import itemgetter

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, CloudFrontLines
from chalicelib.core.logs.envelope import LogEvent
from chalicelib.core.logs.framing import BLANK, GZIP, unpacked
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
        seen = _Seen()
        for earlier in self._parts(records[:start], frozenset(), seen):
            seen.without_repeats(earlier.requests)
        seen.take_repeated_events()
        for part in self._parts(records[start:] if start else records, columns, seen):
            yield seen.distinct(part)

    def decode_text(self, text: bytes, header: bytes = b"", columns: frozenset[str] = COLUMNS) -> Decoded:
        """Returns the requests of a part of a file or object under a ``#Fields`` line, each once."""
        decoder, pieces, seen = self._decoder(columns), Pieces(), _Seen()
        decoder.sort_text(text, pieces, header)
        return seen.distinct(_decoded(decoder, pieces, seen))

    def _parts(self, records: Sequence[bytes], columns: frozenset[str], seen: "_Seen") -> Iterator[Decoded]:
        """Yields what the records hold, part by part, without repeated events."""
        decoder = self._decoder(columns)
        pieces, size = Pieces(), 0
        plain = records
        if not _MARKS.isdisjoint(map(_first, records)):
            plain = [record for record in records if not record.startswith((GZIP, KPL))]
            for record in records:
                if record.startswith(GZIP):
                    size += _unpack(record, decoder, pieces)
                elif record.startswith(KPL):
                    pieces.malformed.append(Malformed.of(Reason.KPL, record))
                if size >= PART_TEXT or len(pieces.events) >= PART_EVENTS:
                    yield _decoded(decoder, pieces, seen)
                    pieces, size = Pieces(), 0
        if plain:
            decoder.sort_records(plain, pieces)
        yield _decoded(decoder, pieces, seen)


_first = itemgetter(slice(1))
_MARKS = frozenset((GZIP[:1], KPL[:1]))


def _unpack(record: bytes, decoder: TextDecoder, pieces: Pieces) -> int:
    """Sorts the text in a packed record, and returns its size."""
    text, malformed = unpacked(record, LARGEST_MEMBER)
    if text.strip(BLANK):
        decoder.sort_text(text, pieces)
    elif not malformed:
        malformed = [Malformed.of(Reason.EMPTY, record)]
    pieces.malformed += malformed
    return len(text)


def _decoded(decoder: TextDecoder, pieces: Pieces, seen: "_Seen") -> Decoded:
    events, pieces.events = seen.without_repeated(pieces.events), []
    decoder.sort_messages([event.message for event in events], pieces)
    return decoder.decoded(pieces)


class _Seen:
    """The ids that have occurred in a batch."""

    def __init__(self) -> None:
        self._ids: dict[Source, set[bytes | str]] = {}
        self._events: set[tuple[str, int]] = set()
        """Ids of events, with hashes of the messages in case ids are not as unique as CloudWatch Logs promises."""
        self._repeated_events = 0

    def distinct(self, decoded: Decoded) -> Decoded:
        """Returns ``decoded`` without the requests that have occurred, which it counts as repeats."""
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

    def without_repeated(self, events: Sequence[LogEvent]) -> list[LogEvent]:
        """Returns the events whose id and message have not occurred together."""
        distinct = []
        for event in events:
            key = event.id, hash(event.message)
            if key not in self._events:
                distinct.append(event)
                if event.id:
                    self._events.add(key)
        self._repeated_events += len(events) - len(distinct)
        return distinct

    def take_repeated_events(self) -> int:
        """Returns the number of repeated events since the last call."""
        number, self._repeated_events = self._repeated_events, 0
        return number
