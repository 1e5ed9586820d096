"""Lambda's events as the pipeline gets them."""

import json
from base64 import b64encode
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.edges.events import adds_items, failed, kinesis_batch, notifications
from chalicelib.pipeline.import_objects import NewObject, Notification
from chalicelib.ports import LogObject
from sluice.local.events import kinesis_event, objects_event, tally_event
from sluice.local.kinesis import StreamRecord
from tests.support.objects import object_created


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


KEY = "AWSLogs/1/a b+c%20/\u00e9=1.log.gz"
ONE = NewObject(LogObject("logs-of-site", KEY, "9b2cf535"), 1_760_000_000_123)


def message(body: object, id: str = "m") -> dict[str, object]:
    return {"Records": [{"messageId": id, "body": body if isinstance(body, str) else json.dumps(body)}]}


def s3_record(name: str = "ObjectCreated:Put", **changes: object) -> dict[str, object]:
    return {
        "eventName": name,
        "eventTime": "2025-10-09T08:53:20.123Z",
        "s3": {
            "bucket": {"name": "logs-of-site"},
            "object": {"key": "AWSLogs/1/a+b%2Bc%2520/%C3%A9%3D1.log.gz", "size": 7, "eTag": "9b2cf535", **changes},
        },
    }


EVENT_BRIDGE = object_created(ONE.object, "2025-10-09T08:53:20Z")


@pytest.mark.parametrize("name", ["Put", "Post", "Copy", "CompleteMultipartUpload"])
def test_a_notification_of_s3_names_the_object_that_was_created(name: str) -> None:
    event = message({"Records": [s3_record(f"ObjectCreated:{name}")]})
    assert notifications(event) == [Notification("m", (ONE,))]


def test_a_notification_may_come_through_sns_or_eventbridge() -> None:
    through_sns = {"Type": "Notification", "Message": json.dumps({"Records": [s3_record()]})}
    assert notifications(message(through_sns)) == [Notification("m", (ONE,))]
    whole_second = replace(ONE, created_ms=1_760_000_000_000)
    assert notifications(message(EVENT_BRIDGE)) == [Notification("m", (whole_second,))]


@pytest.mark.parametrize(
    "body",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "logs-of-site"},
        {"Records": [s3_record("ObjectRemoved:Delete")]},
        {**EVENT_BRIDGE, "detail-type": "Object Deleted"},
        {"Records": []},
    ],
    ids=["test", "removed", "deleted", "nothing"],
)
def test_a_notification_about_no_new_object_names_none(body: dict[str, object]) -> None:
    assert notifications(message(body)) == [Notification("m", ())]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not JSON",
        "[]",
        "null",
        '"text"',
        "{}",
        {"Records": [{}]},
        {"Records": [s3_record(eTag=...)]},
        {"Records": "text"},
        {"Type": "Notification", "Message": "not JSON"},
        {**EVENT_BRIDGE, "time": "yesterday"},
        {**EVENT_BRIDGE, "detail": None},
    ],
    ids=str,
)
def test_what_is_no_notification_is_a_problem_of_its_message_alone(body: object) -> None:
    if isinstance(body, dict):
        body = json.dumps(body, default=lambda _: None)
    event = message(body)
    event["Records"] += message({"Records": [s3_record()]}, id="good")["Records"]  # type: ignore[operator]
    bad, good = notifications(event)
    assert (bad.id, bad.objects) == ("m", ())
    assert bad.problem is not None
    assert bad.problem.startswith("not a notification about an object (")
    assert good == Notification("good", (ONE,))


def test_a_local_event_is_read_as_one_of_aws() -> None:
    event = objects_event([("m", ONE.object, 1_760_000_000.123)])
    assert notifications(event) == [Notification("m", (ONE,))]


def test_failed_messages_are_named_as_lambda_expects() -> None:
    assert failed(["a", "b"]) == {"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "b"}]}


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
