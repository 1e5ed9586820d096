"""The faults of malformed pieces and their remedies, in the same words on the page, in commands and in documents."""

from typing import NamedTuple

import msgspec

from chalicelib.core.logs.malformed_counts import MalformedCount
from chalicelib.core.logs.requests import Reason, Source
from chalicelib.core.wording import plural


class Explanation(NamedTuple):
    noun: str
    """The word for a piece."""
    fault: str
    """The object in "pieces have ..."."""
    remedy: str
    """The advice, in the imperative, without its full stop."""


EXPLANATIONS = {
    Reason.EMPTY: Explanation("record", "no content", "Check what writes to the stream, unless there are only a few"),
    Reason.FIELDS: Explanation(
        "line",
        "another number of fields than expected, or none of the known formats",
        "Compare the sample with the formats in docs/sources.md; for CloudFront real-time logs, set CLOUDFRONT_FIELDS, "
        "or in commands, name their fields with --fields",
    ),
    Reason.TIMESTAMP: Explanation(
        "line",
        "no readable time",
        "Compare the sample's time with that of its format; for CloudFront real-time logs, check CLOUDFRONT_FIELDS "
        "(--fields)",
    ),
    Reason.FUTURE: Explanation(
        "line", "a time more than five minutes ahead", "Set the clock of the machine that writes the log"
    ),
    Reason.ADDRESS: Explanation(
        "line",
        "no readable client address",
        "Log whole addresses, not host names; for CloudFront real-time logs, check CLOUDFRONT_FIELDS (--fields)",
    ),
    Reason.FORWARDED: Explanation(
        "line",
        "a trusted proxy as the client, and no readable address behind it",
        "Make the trusted proxies append the client to X-Forwarded-For, and the log include that header",
    ),
    Reason.ENCODING: Explanation(
        "line",
        "bytes that are not UTF-8",
        "Give the log as text or gzip; other compression and binary files are not read",
    ),
    Reason.JSON: Explanation(
        "line", "damaged or incomplete JSON", "Check whether something cuts or rewrites lines on their way"
    ),
    Reason.GZIP: Explanation(
        "record", "damaged gzip", "Check whether something cuts records on their way, or objects while it writes them"
    ),
    Reason.TOO_LARGE: Explanation(
        "record", "more content than the bounds allow", "Check what writes to the stream: AWS writes no such record"
    ),
    Reason.ENVELOPE: Explanation(
        "record",
        "an envelope that holds no log messages, or is not from CloudWatch Logs",
        "Subscribe the stream to the log group itself",
    ),
    Reason.KPL: Explanation(
        "record",
        "the aggregated form of the Kinesis Producer Library",
        "Turn aggregation off in the producer (AggregationEnabled = false)",
    ),
    Reason.UNSUPPORTED: Explanation(
        "record",
        "an unsupported format",
        "Choose one of the formats in docs/sources.md, as text or gzip",
    ),
}
"""The explanation of every reason."""

_COMPARE = "Compare the sample with the format of that log, and with its #Fields line if it has one"
_NAME_FIELDS = (
    "Set CLOUDFRONT_FIELDS to the fields that the real-time log configuration selects; in commands, name their fields "
    "with --fields"
)


class MalformedPieces(msgspec.Struct, frozen=True, kw_only=True):
    """Pieces of one log that cannot be read as requests, all for the same reason."""

    source: str | None
    """The log they were read as; null if no format recognised them."""
    reason: str
    number: int
    problem: str
    """The fault, as a clause."""
    remedy: str
    """The advice, as a sentence without its full stop."""
    sample: str
    """The start of one of them: at most 160 printable ASCII characters."""
    where: str = ""
    """The bucket and the key of the object that holds it, with a slash between them; empty for a record."""


def explained(count: MalformedCount) -> MalformedPieces:
    """Returns a count in words."""
    return MalformedPieces(
        source=count.source,
        reason=count.reason,
        number=count.number,
        problem=fault(count),
        remedy=remedy(count),
        sample=count.sample,
        where=count.where,
    )


def fault(count: MalformedCount, setting: str = "CLOUDFRONT_FIELDS") -> str:
    """Returns what is wrong, as a clause; ``setting`` names the fields of CloudFront real-time lines.

    >>> fault(MalformedCount(source="cloudfront", reason="fields", number=3000, found=12, expected=9))
    '3,000 lines have 12 fields where CLOUDFRONT_FIELDS names 9'
    """
    explanation = _explanation(count)
    verb = "has" if count.number == 1 else "have"
    return f"{plural(count.number, explanation.noun)} {verb} {_object(count, explanation, setting)}"


def _object(count: MalformedCount, explanation: Explanation, setting: str) -> str:
    if count.name:
        return f"an unsupported format: {count.name}"
    if count.reason != Reason.FIELDS:
        return explanation.fault
    if count.expected is not None:
        named_by = {str(Source.CLOUDFRONT): setting, str(Source.STANDARD): "the #Fields line"}.get(count.source or "")
        number = "another number of" if count.found is None else f"{count.found:,}"
        expected = f"{named_by} names {count.expected:,}" if named_by else f"{count.expected:,} are expected"
        return f"{number} {'field' if count.found == 1 else 'fields'} where {expected}"
    return "none of the known formats" if count.source is None else "only some of the required fields"


def remedy(count: MalformedCount) -> str:
    """Returns what to do, as a sentence without its full stop."""
    if count.reason == Reason.FIELDS and count.source is not None:
        return _NAME_FIELDS if count.source == Source.CLOUDFRONT else _COMPARE
    return _explanation(count).remedy


def _explanation(count: MalformedCount) -> Explanation:
    try:
        return EXPLANATIONS[Reason(count.reason)]
    except ValueError:  # a newer version counted it
        return Explanation("line", f"a fault that this version does not know ({count.reason})", "Look at the sample")
