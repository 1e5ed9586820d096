"""Envelopes of CloudWatch Logs: every event of every member counts, and what cannot be opened has a reason."""

import gzip
import json

import pytest

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.requests import Malformed, Reason
from chalicelib.core.logs.text_decoder import LARGEST_MEMBER
from tests.support.records import envelope, waf_text

DEEP = 100_000


def test_an_envelope_holds_many_events() -> None:
    decoded = BatchDecoder().decode([envelope(*(waf_text(requestId=str(number)) for number in range(3)))])
    assert (len(decoded), decoded.malformed) == (3, ())


def test_a_control_message_holds_no_requests() -> None:
    control = envelope(b"CWL CONTROL MESSAGE: Checking health of destination", kind="CONTROL_MESSAGE")
    decoded = BatchDecoder().decode([control])
    assert (len(decoded), decoded.malformed) == (0, ())


@pytest.mark.parametrize("tail", [b"\n", b"\0" * 512])
def test_padding_after_an_envelope_means_nothing(tail: bytes) -> None:
    decoded = BatchDecoder().decode([envelope(waf_text()) + tail])
    assert (len(decoded), decoded.malformed) == (1, ())


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        pytest.param(gzip.compress(b"{}")[:-3], Reason.GZIP, id="cut in the trailer"),
        pytest.param(envelope(waf_text())[:60], Reason.GZIP, id="cut"),
        pytest.param(b"\x1f\x8b", Reason.ENCODING, id="two bytes"),
        pytest.param(b"\x1f\x8b\x08not gzip at all", Reason.GZIP, id="no gzip"),
        pytest.param(gzip.compress(b"{}")[:-8] + bytes(8), Reason.GZIP, id="a wrong checksum"),
        pytest.param(gzip.compress(bytes(LARGEST_MEMBER + 1)), Reason.TOO_LARGE, id="a bomb"),
        pytest.param(gzip.compress(bytes(LARGEST_MEMBER * 2))[:-20], Reason.TOO_LARGE, id="a bomb, cut"),
        pytest.param(gzip.compress(bytes(LARGEST_MEMBER)), Reason.FIELDS, id="as large as may be"),
        pytest.param(gzip.compress(envelope(waf_text())), Reason.UNSUPPORTED, id="gzip in gzip"),
        pytest.param(gzip.compress(b""), Reason.EMPTY, id="nothing in it"),
        pytest.param(gzip.compress(b'{"messageType":"DATA_MESSAGE","logEvents":7}'), Reason.ENVELOPE, id="no events"),
        pytest.param(gzip.compress(b'{"messageType":"\xff"}'), Reason.ENVELOPE, id="not UTF-8"),
        pytest.param(gzip.compress(b'{"messageType":"DATA_MESSAGE","log'), Reason.ENVELOPE, id="incomplete"),
        pytest.param(gzip.compress(b"[" * DEEP), Reason.FIELDS, id="nested too deep"),
        pytest.param(envelope(waf_text(), kind="NEWS"), Reason.ENVELOPE, id="an unknown kind"),
    ],
)
def test_a_record_that_cannot_be_opened_is_malformed(packed: bytes, reason: Reason) -> None:
    (piece,) = BatchDecoder().decode([packed]).malformed
    assert piece.reason is reason
    assert len(piece.raw) <= Malformed.SAMPLE_BYTES


def test_an_event_without_a_message_does_not_harm_the_others() -> None:
    events = [{"id": "1", "message": waf_text().decode()}, {"id": "2"}, {"id": "3", "message": 7}, 8]
    decoded = BatchDecoder().decode([json.dumps({"logEvents": events, "messageType": "DATA_MESSAGE"}).encode()])
    assert (len(decoded), [piece.reason for piece in decoded.malformed]) == (1, [Reason.EMPTY] * 3)
