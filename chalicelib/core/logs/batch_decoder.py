"""Decodes the records of a batch into requests; the format is detected from the bytes.

Every byte sequence decodes to requests or to named Malformed values; nothing raises.
"""

from collections.abc import Sequence
from operator import itemgetter

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, CloudFrontLines
from chalicelib.core.logs.requests import Decoded, Malformed, Reason, Requests
from chalicelib.core.logs.waf import COLUMNS, WafRecords, open_envelope

GZIP = b"\x1f\x8b"
KPL = b"\xf3\x89\x9a\xc2"
BLANK = b" \t\r\n"

MOST_MESSAGES = 1_000_000
"""Most log messages accepted from all envelopes of one batch; 6 MB of WAF records are some tens of thousands."""

MOST_TEXT = 256 << 20
"""Characters in them, some sixty times what fits an event packed.

An envelope that would go past either bound is too large: a batch full of bombs must not take up all memory.
"""


class BatchDecoder:
    """Decodes records of all formats, mixed as they come."""

    def __init__(self, fields: Sequence[str] = DEFAULT_FIELDS, trusted: NetworkSet | None = None) -> None:
        self.cloudfront = CloudFrontLines(fields, trusted)
        self.waf = WafRecords(trusted)

    def decode(
        self, records: Sequence[bytes], seen: set[bytes | str] | None = None, wanted: frozenset[str] = COLUMNS
    ) -> Decoded:
        """Requests of all ``records``, each request id once.

        ``seen`` holds ids that count as repeats already, and takes up the new ones. ``wanted``: the columns that will
        be asked for; naming no more than that saves time.
        """
        malformed: list[Malformed] = []
        lines, texts = _sort(records, malformed)
        found: list[Requests] = []
        repeats = 0
        decoded = [self.cloudfront.decode(lines)] if lines else []
        decoded += [self.waf.decode(texts, wanted)] if texts else []
        for requests, bad in decoded:
            malformed += bad
            distinct = requests.without_repeats(seen)
            repeats += len(requests) - len(distinct)
            if distinct:
                found.append(distinct)
        return Decoded(tuple(found), tuple(malformed), repeats)


_first = itemgetter(slice(1))


def _sort(records: Sequence[bytes], malformed: list[Malformed]) -> tuple[Sequence[bytes], Sequence[bytes | str]]:
    """CloudFront lines and WAF texts; records of one format alone are left as they are, of several lines or one."""
    firsts = set(map(_first, records))
    if _MARKS.isdisjoint(firsts):
        return records, ()
    if firsts == {b"{"}:
        return (), records
    lines: list[bytes] = []
    texts: list[bytes | str] = []
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
    return lines, texts


_BLANKS = frozenset((b"", b" ", b"\t", b"\r", b"\n"))
_MARKS = frozenset((b"{", GZIP[:1], KPL[:1])) | _BLANKS
