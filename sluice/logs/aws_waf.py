"""AWS WAF logs: JSON lines, bare as in S3 or inside CloudWatch envelopes as Data Firehose writes them."""

from collections.abc import Sequence

from chalicelib.core.logs.requests import Malformed, Requests
from chalicelib.core.logs.waf import WafRecords, messages_of
from sluice.logs.files import ENVELOPE_SEAM
from sluice.logs.log_format import Decode, DecodeOptions, LogFormat

_ENVELOPE_START = ENVELOPE_SEAM[1:]


def _record_decoder(options: DecodeOptions, _header: bytes) -> Decode:
    records = WafRecords(options.trusted)
    return lambda texts: records.decode(texts, options.columns)


def _envelope_decoder(options: DecodeOptions, _header: bytes) -> Decode:
    records = WafRecords(options.trusted)

    def decode(lines: Sequence[bytes]) -> tuple[Requests, list[Malformed]]:
        texts: list[str] = []
        malformed: list[Malformed] = []
        for line in b"\n".join(lines).replace(ENVELOPE_SEAM, b"}\n" + _ENVELOPE_START).split(b"\n"):
            messages = messages_of(line)
            if isinstance(messages, Malformed):
                malformed.append(messages)
            else:
                texts += messages
        requests, invalid = records.decode(texts, options.columns)
        return requests, malformed + invalid

    return decode


WAF = LogFormat("AWS WAF", lambda line, _: line.startswith(b"{"), _record_decoder, cuts_lines=True)
ENVELOPE = LogFormat(
    "CloudWatch envelope of AWS WAF", lambda line, _: line.startswith(_ENVELOPE_START), _envelope_decoder
)
