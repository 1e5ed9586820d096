"""AWS WAF logs: JSON lines, bare as in S3 or inside CloudWatch envelopes as Data Firehose writes them."""

from itertools import chain

import msgspec

from chalicelib.core.logs.requests import Malformed, Reason, Requests
from chalicelib.core.logs.waf import UNREADABLE, Envelope, WafRecords
from sluice.logs.files import ENVELOPE_SEAM
from sluice.logs.log_format import Decode, DecodeOptions, LogFormat

_ENVELOPE_START = ENVELOPE_SEAM[1:]
_envelopes = msgspec.json.Decoder(Envelope)


def _record_decoder(options: DecodeOptions, _header: bytes) -> Decode:
    records = WafRecords(options.trusted)
    return lambda texts: records.decode(texts, options.columns)


def _envelope_decoder(options: DecodeOptions, header: bytes) -> Decode:
    decode_records = _record_decoder(options, header)

    def decode(lines: list[bytes]) -> tuple[Requests, list[Malformed]]:
        texts, malformed_envelopes = _messages(lines)
        requests, malformed = decode_records(texts)
        return requests, malformed_envelopes + malformed

    return decode


def _messages(lines: list[bytes]) -> tuple[list[bytes], list[Malformed]]:
    """Returns the log lines inside CloudWatch envelopes; control messages hold none."""
    texts: list[bytes] = []
    malformed = []
    separated = (line.replace(ENVELOPE_SEAM, b"}\n" + _ENVELOPE_START).split(b"\n") for line in lines)
    for line in chain.from_iterable(separated):
        try:
            envelope = _envelopes.decode(line)
        except UNREADABLE:
            malformed.append(Malformed.of(Reason.ENVELOPE, line))
            continue
        if envelope.message_type == "DATA_MESSAGE":
            texts += [event.message.encode("utf-8", "surrogatepass") for event in envelope.log_events]
        elif envelope.message_type != "CONTROL_MESSAGE":
            malformed.append(Malformed.of(Reason.ENVELOPE, line))
    return texts, malformed


WAF = LogFormat("AWS WAF", lambda line, _: line.startswith(b"{"), _record_decoder, cuts_lines=True)
ENVELOPE = LogFormat(
    "CloudWatch envelope of AWS WAF", lambda line, _: line.startswith(_ENVELOPE_START), _envelope_decoder
)
