"""JSON as it arrives: objects with or without line ends, cut off, spread over lines, or among lines that are none."""

import gzip
import json
from collections.abc import Sequence

import pytest

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.framing import parts
from chalicelib.core.logs.requests import Reason
from tests.support import replay_logs as logs
from tests.support.records import waf_text
from tests.support.replay_logs import T0, Hit

WAF = [waf_text(timestamp=T0 + number, clientIp=f"192.0.2.{number % 256}") for number in range(600)]
STANDARD = [logs.v2_json(Hit(T0 + number, f"192.0.2.{number % 256}")).encode() for number in range(600)]


def pretty(text: bytes) -> bytes:
    return json.dumps(json.loads(text), indent=4).encode()


def read(*records: bytes) -> tuple[int, Sequence[Reason]]:
    """Returns the number of requests and the reasons of the rest, the same in a stream and in an object."""
    decoder = BatchDecoder()
    batch = decoder.decode(records)
    of_objects = [decoder.decode_text(part.text, part.header) for record in records for part in parts([record], 5000)]
    reasons = [piece.reason for piece in batch.malformed]
    assert sum(map(len, of_objects)) == len(batch)
    assert [piece.reason for each in of_objects for piece in each.malformed] == reasons
    return len(batch), reasons


@pytest.mark.parametrize("objects", [WAF, STANDARD], ids=["AWS WAF", "CloudFront"])
class TestObjects:
    def test_several_in_a_record_count_whatever_other_records_the_batch_has(self, objects: list[bytes]) -> None:
        a, b, c, d = objects[:4]
        for records in (
            [a + b],
            [a + b, c + d],
            [a + b, c, d],
            [a + b + b"\n", c + d],
            [a, b"", b"no JSON", b + c + d],
        ):
            assert len(BatchDecoder().decode(records)) == sum(record.count(b"192.0.2.") for record in records)

    def test_two_on_each_line_of_which_the_last_is_cut_off(self, objects: list[bytes]) -> None:
        text = b"\n".join(objects[n] + objects[n + 1] for n in (0, 2, 4))
        assert read(text[:-20]) == (5, [Reason.JSON])

    def test_none_of_which_ends_its_line_and_the_last_is_cut_off(self, objects: list[bytes]) -> None:
        assert read(b"".join(objects)[:-30]) == (599, [Reason.JSON])

    def test_over_several_lines_and_on_one_line_beside_a_line_that_is_none(self, objects: list[bytes]) -> None:
        text = b"\n".join((*map(pretty, objects[:3]), *objects[3:6], b"bad line"))
        assert read(text) == (6, [Reason.FIELDS])

    @pytest.mark.parametrize("before", [b"  ", b"\t", b"\n\n", b"\r\n ", b"\xef\xbb\xbf"])
    def test_with_blanks_before_each(self, objects: list[bytes], before: bytes) -> None:
        assert read(b"\n".join(before + each for each in objects[:6])) == (6, [])
        assert read(*(before + each for each in objects[:6])) == (6, [])

    @pytest.mark.parametrize("damage", [b'{"timestamp":1,', b'{"a":"', b"{}}", b'"}', b"[1,2", b"null", b"{'a':1}"])
    def test_damage_between_two_costs_neither(self, objects: list[bytes], damage: bytes) -> None:
        for end in (b"", b"\n"):
            number, reasons = read(end.join((objects[0], damage, objects[1])))
            assert number == 2
            assert reasons

    def test_packed_or_plain_with_or_without_an_envelope(self, objects: list[bytes]) -> None:
        events = [{"id": f"{n}", "message": text.decode()} for n, text in enumerate(objects[:6])]
        for keys in (("messageType", "owner", "logEvents"), ("owner", "logEvents", "messageType")):
            members = {"messageType": "DATA_MESSAGE", "owner": "1", "logEvents": events}
            envelope = {key: members[key] for key in keys}
            for text in (json.dumps(envelope).encode(), json.dumps(envelope, indent=1).encode()):
                assert read(text) == read(gzip.compress(text)) == (6, [])
        assert read(gzip.compress(b"\n".join(objects[:6]))) == read(gzip.compress(b"".join(objects[:6]))) == (6, [])
