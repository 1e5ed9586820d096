"""Lambda's events as the pipeline gets them."""

from base64 import b64encode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.edges.events import adds_items, kinesis_batch
from sluice.local.events import kinesis_event, tally_event
from sluice.local.kinesis import StreamRecord


@given(data=st.lists(st.binary(max_size=40), min_size=1, max_size=5))
def test_a_kinesis_event_becomes_the_batch_that_was_put(data: list[bytes]) -> None:
    records = [StreamRecord(10**55 + n, each, 1_760_000_000.25 + n) for n, each in enumerate(data)]
    batch = kinesis_batch(kinesis_event("logs", "shardId-000000000007", records))
    assert batch.shard == "logs/shardId-000000000007"
    assert batch.data == data
    assert batch.sequences == [str(record.sequence) for record in records]
    assert batch.arrived == [record.arrived for record in records]


def test_whole_seconds_and_padding_are_accepted_and_other_text_is_not() -> None:
    event = kinesis_event("logs", "shardId-0", [StreamRecord(1, b"a", 1_760_000_000.0)])
    record = event["Records"][0]["kinesis"]
    record["approximateArrivalTimestamp"] = 1_760_000_000
    record["data"] = b64encode(b"\xff").decode()
    assert kinesis_batch(event).data == [b"\xff"]
    assert kinesis_batch(event).arrived == [1_760_000_000]
    record["data"] = "no base64!"
    with pytest.raises(msgspec.ValidationError):
        kinesis_batch(event)


@pytest.mark.parametrize(
    ("changes", "adds"),
    [
        pytest.param(["INSERT"], True, id="an appended item"),
        pytest.param(["MODIFY", "REMOVE", "INSERT"], True, id="an appended item among others"),
        pytest.param(["MODIFY"], False, id="the registry, or the evaluator's own position"),
        pytest.param(["REMOVE", "REMOVE"], False, id="expired items"),
        pytest.param(["MODIFY", "REMOVE"], False, id="no appended item"),
    ],
)
def test_only_new_items_are_a_reason_to_evaluate(changes: list[str], adds: bool) -> None:
    event = tally_event([("logs/shardId-0@1760000000000", offset) for offset in range(len(changes))])
    assert adds_items(event)
    for record, change in zip(event["Records"], changes, strict=True):
        record["eventName"] = change
    assert adds_items(event) == adds
