"""The decoder of a batch: it detects the format of each record from its bytes.

Any bytes decode to requests or to Malformed values; nothing raises.
"""

from collections.abc import Sequence
from operator import itemgetter

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, CloudFrontLines
from chalicelib.core.logs.requests import COLUMNS, Decoded, Malformed, Reason, Requests
from chalicelib.core.logs.waf import WafRecords, open_envelope

GZIP = b"\x1f\x8b"
KPL = b"\xf3\x89\x9a\xc2"
BLANK = b" \t\r\n"

MOST_MESSAGES = 1_000_000
"""Most log messages accepted from all envelopes of one batch; 6 MB of WAF records hold tens of thousands."""

MOST_TEXT = 256 << 20
"""Most characters in these messages: about 60 times what an event can carry compressed.

An envelope that would exceed either bound is too large, so that a batch of decompression bombs cannot exhaust memory.
"""


class BatchDecoder:
    """A decoder of records of all formats, in any mixture."""

    def __init__(self, fields: Sequence[str] = DEFAULT_FIELDS, trusted: NetworkSet | None = None) -> None:
        self.cloudfront = CloudFrontLines(fields, trusted)
        self.waf = WafRecords(trusted)

    def decode(self, records: Sequence[bytes], columns: frozenset[str] = COLUMNS, *, start: int = 0) -> Decoded:
        """Returns the requests of ``records[start:]``, each request id once.

        A request with an id of ``records[:start]`` is a repeat. ``columns``: those that rules examine; decoding only
        them saves time.
        """
        earlier = [id for requests in self._decode(records[:start], columns)[0] for id in requests.ids]
        decoded, malformed = self._decode(records[start:] if start else records, columns)
        distinct = [requests.without_repeats(earlier) for requests in decoded]
        repeats = sum(map(len, decoded)) - sum(map(len, distinct))
        return Decoded(tuple(filter(None, distinct)), tuple(malformed), repeats)

    def _decode(self, records: Sequence[bytes], columns: frozenset[str]) -> tuple[list[Requests], list[Malformed]]:
        """Returns the requests of each format, and the pieces that are not requests."""
        lines, texts, malformed = _sort(records)
        decoded = [self.cloudfront.decode(lines)] if lines else []
        decoded += [self.waf.decode(texts, columns)] if texts else []
        malformed += [piece for _, others in decoded for piece in others]
        return [requests for requests, _ in decoded], malformed


_first = itemgetter(slice(1))
_BLANKS = frozenset((b"", b" ", b"\t", b"\r", b"\n"))
_MARKS = frozenset((b"{", GZIP[:1], KPL[:1])) | _BLANKS
"""First bytes of records that are not CloudFront lines."""


def _sort(records: Sequence[bytes]) -> tuple[Sequence[bytes], Sequence[bytes | str], list[Malformed]]:
    """Returns the CloudFront lines, the AWS WAF records, and the pieces that are neither.

    CloudFront lines and bare AWS WAF records are returned as they are: a record may hold several lines.
    """
    firsts = set(map(_first, records))
    if _MARKS.isdisjoint(firsts):
        return records, (), []
    if firsts == {b"{"}:
        return (), records, []
    lines: list[bytes] = []
    texts: list[bytes | str] = []
    malformed: list[Malformed] = []
    messages_left, text_left = MOST_MESSAGES, MOST_TEXT
    for record in records:
        first = record[:1]
        if first in _BLANKS:
            first = record.lstrip(BLANK)[:1]
        if first == b"{":
            texts.append(record)
        elif not first:
            malformed.append(Malformed.of(Reason.EMPTY, record))
        elif record.startswith(GZIP):
            messages = open_envelope(record)
            if isinstance(messages, Malformed):
                malformed.append(messages)
                continue
            size = sum(map(len, messages))
            if len(messages) > messages_left or size > text_left:
                malformed.append(Malformed.of(Reason.TOO_LARGE, record))
                continue
            messages_left -= len(messages)
            text_left -= size
            texts += messages
        elif record.startswith(KPL):
            malformed.append(Malformed.of(Reason.KPL, record))
        else:
            lines.append(record)
    return lines, texts, malformed
