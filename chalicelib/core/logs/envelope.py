"""The envelope in which a CloudWatch Logs subscription delivers log events: a JSON object.

Source: CloudWatch Logs User Guide, "Subscription filters".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from chalicelib.core.logs.json_values import salvaged
from chalicelib.core.logs.log_format import DecodeOptions, ObjectFormat
from chalicelib.core.logs.requests import Malformed, Reason, Requests, Source

KEY = "messageType"
KINDS = ("DATA_MESSAGE", "CONTROL_MESSAGE")


class LogEvent(msgspec.Struct, gc=False):
    message: str = ""
    id: str = ""
    """Assigned by CloudWatch Logs, and the same when it delivers the event again; empty if unknown."""


class Envelope(msgspec.Struct, rename="camel", gc=False):
    message_type: Literal["DATA_MESSAGE", "CONTROL_MESSAGE"]
    log_events: list[LogEvent] = []
    http_request: None = None
    """A key of AWS WAF's records, whose format precedes this one."""

    def events(self) -> list[LogEvent]:
        """Returns the events with messages of a log. Those of a control message only test the connection."""
        return self.log_events if self.message_type == "DATA_MESSAGE" else []


_decoder = msgspec.json.Decoder(Envelope)


class Envelopes:
    """A reader of envelopes. They hold no requests, but events whose messages do."""

    read = _decoder.decode
    read_lines = _decoder.decode_lines

    def __init__(self, options: DecodeOptions) -> None:
        pass

    def salvage(self, members: Mapping[str, Any], text: bytes) -> Envelope | Reason:  # noqa: ARG002
        """Returns the envelope in an object of unusual form; an event without a message counts as empty."""
        events = members.get("logEvents")
        if members[KEY] not in KINDS or not isinstance(events, list):
            return Reason.ENVELOPE
        messages = [salvaged(LogEvent, event if isinstance(event, dict) else {}) for event in events]
        return Envelope(members[KEY], messages)

    def requests(self, records: Sequence[Envelope]) -> tuple[Requests, list[Malformed]]:  # noqa: ARG002
        """Returns no requests: the messages of the events are decoded as texts of their own."""
        return Requests(Source.WAF, [], [], lambda _: None), []


ENVELOPE = ObjectFormat("CloudWatch Logs envelope", None, (KEY,), Envelopes)
