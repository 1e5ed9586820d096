"""Stored records are read by the versions before and after the one that wrote them."""

import msgspec

from chalicelib.core.state import CONTROLS, RECORDS, Control, Detection, NetworkRecord, Offender, StateRecord

STORED = (
    b'{"id":"log@1/000000000001/burst/cloudfront","terms":{"name":"burst","limit":50,"window_s":5,"action":"block",'
    b'"block_for_s":600},"source":"cloudfront","offenders":[["203.0.113.9/32",73,1000,5049,2500]],"detected_ms":6000,'
    b'"arrived_ms":5100}'
)
"""A detection as versions without ``served_since_ms`` write it."""


def test_an_offender_of_an_earlier_version_is_judged_by_all_its_requests() -> None:
    (offender,) = Detection.from_json(STORED).offenders
    assert offender == Offender("203.0.113.9/32", 73, 1000, 5049, 2500, 0)


def test_an_earlier_version_reads_an_offender_with_further_fields() -> None:
    class EarlierOffender(msgspec.Struct, frozen=True, array_like=True):
        network: str
        count: int
        first_ms: int
        last_ms: int
        since_ms: int

    written = msgspec.json.encode(Offender("203.0.113.9/32", 73, 1000, 5049, 2500, 3000))
    read = msgspec.json.decode(written, type=EarlierOffender)
    assert msgspec.structs.astuple(read) == ("203.0.113.9/32", 73, 1000, 5049, 2500)


def test_every_kind_of_record_is_known_to_those_that_look_for_unreadable_ones() -> None:
    assert {*StateRecord.__subclasses__(), *NetworkRecord.__subclasses__()} - {NetworkRecord, Control} == {*RECORDS}
    assert {*Control.__subclasses__()} == {*CONTROLS}
