"""From objects and envelopes to an IP set: S3, SQS and WAF in moto, DynamoDB Local, and the deployed handlers."""

import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from moto import mock_aws

import app
from chalicelib.bootstrap import Services, aws, compose, running_in
from chalicelib.config import read_config
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.edges.events import notifications
from chalicelib.pipeline.stored import State
from sluice.local.events import kinesis_event, schedule_event, tally_event
from sluice.local.kinesis import StreamRecord
from tests.support.objects import object_created
from tests.support.records import envelope, waf
from tests.support.tables import CREDENTIALS, REGION, StreamsClient, Tables, stream_event, streams_client

RULES = """
[[rule]]
name = "guessing"
limit = 20
window = "10m"
block_for = "1h"
action = "block"
"""
BUCKET = "site-logs"
OFFENDER, VISITOR = "203.0.113.9", "198.51.100.7"


@dataclass
class Site:
    """A bucket that notifies a queue, an IP set, and the functions."""

    services: Services
    streams: StreamsClient
    tables: Tables
    queue: str

    def put(self, key: str, lines: list[bytes]) -> None:
        boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=gzip.compress(b"\n".join((*lines, b""))))

    def event(self) -> dict[str, Any]:
        """Returns Lambda's event of the messages in the queue, which stay there."""
        client = boto3.client("sqs")
        answer = client.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, VisibilityTimeout=0)
        messages = answer.get("Messages", [])
        return {"Records": [{"messageId": each["MessageId"], "body": each["Body"]} for each in messages]}

    def blocked(self) -> set[str]:
        """Returns the addresses in the IP set once everything has been evaluated, enforced and published."""
        app.evaluate(tally_event([("any", 0)]), None)
        for function in (app.enforce, app.publish):
            function(stream_event(self.streams, self.tables.state_stream_arn), None)
        app.sweep(schedule_event(), None)
        (ip_set,) = self.services.config.ip_sets_v4
        answer = boto3.client("wafv2").get_ip_set(Name=ip_set.name, Id=ip_set.id, Scope="CLOUDFRONT")
        return set(answer["IPSet"]["Addresses"])


@pytest.fixture
def site(local_tables: Tables, dynamodb_local: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamodb_local)
    with mock_aws(config={"core": {"mock_credentials": False}}):  # DynamoDB Local keeps tables by credentials
        queue = boto3.client("sqs").create_queue(QueueName="sluice-objects")["QueueUrl"]
        told = {"QueueArn": f"arn:aws:sqs:{REGION}:123456789012:sluice-objects", "Events": ["s3:ObjectCreated:*"]}
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_notification_configuration(
            Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [told]}
        )
        made = boto3.client("wafv2").create_ip_set(
            Name="v4", Scope="CLOUDFRONT", IPAddressVersion="IPV4", Addresses=[]
        )["Summary"]
        settings = {
            "STATE_TABLE": local_tables.state,
            "TALLY_TABLE": local_tables.tally,
            "IP_SETS_V4": f"v4/{made['Id']}",
            "RETENTION_S": "7200",
        }
        config = read_config(settings)
        services = compose(config, replace(aws(config), sleep=lambda _: None))
        State(services.world.state).overwrite(StoredRules(text=RULES), id=ACTIVE)
        boto3.client("sqs").purge_queue(QueueUrl=queue)  # of S3's test message
        streams = streams_client(dynamodb_local)
        with running_in(services):
            yield Site(services, streams, local_tables, queue)
        streams.close()


def waf_lines(client: str, number: int, age_s: float) -> list[bytes]:
    now_ms = int((time.time() - age_s) * 1000)
    records = (waf(clientIp=client, timestamp=now_ms + n * 1000) for n in range(number))
    return [json.dumps(record).encode() for record in records]


def balancer_lines(client: str, number: int, age_s: float) -> list[bytes]:
    start = time.time() - age_s
    stamps = (
        datetime.fromtimestamp(start + n, UTC).isoformat(timespec="microseconds")[:26] + "Z" for n in range(number)
    )
    lines = [
        f"https {stamp} app/site/50dc6c495c0c9188 {client}:2817 10.0.0.1:80 0.086 0.048 0.037 401 401 0 57 "
        f'"POST https://www.example.com:443/login HTTP/1.1" "curl/7.46.0" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 '
        f'arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/site/73e2d6bc24d8a067 "Root=1-58337281" '
        f'"www.example.com" "-" 1 {stamp} "waf,forward" "-" "-" "10.0.0.1:80" "401" "-" "-" TID_1234abcd5678ef90'
        for stamp in stamps
    ]
    return list(map(str.encode, lines))


@pytest.mark.parametrize("lines", [waf_lines, balancer_lines], ids=["waf", "load balancer"])
def test_a_client_in_objects_of_an_hour_ago_is_blocked_once(site: Site, lines: Any) -> None:
    site.put("AWSLogs/1/one.log.gz", lines(OFFENDER, 12, 3600) + lines(VISITOR, 12, 3600))
    site.put("AWSLogs/1/two.log.gz", lines(OFFENDER, 12, 3560) + lines(VISITOR, 5, 3560))
    event = site.event()
    assert len(event["Records"]) == 2
    for _ in range(2):
        assert app.import_objects({"Records": event["Records"][::-1]}, None) == {"batchItemFailures": []}
    assert site.blocked() == {f"{OFFENDER}/32"}


def test_a_client_in_an_object_that_eventbridge_names_is_blocked_once(site: Site) -> None:
    """The key is not encoded, unlike in a notification of S3, which names the object as well."""
    site.put("AWSLogs/a b+c%20/one.log.gz", waf_lines(OFFENDER, 21, 3600) + waf_lines(VISITOR, 12, 3600))
    (of_s3,) = site.event()["Records"]
    ((new,),) = (each.objects for each in notifications({"Records": [of_s3]}))
    assert new.object.key == "AWSLogs/a b+c%20/one.log.gz"
    body = json.dumps(object_created(new.object, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"))
    for record in ({"messageId": "one", "body": body}, of_s3, {"messageId": "two", "body": body}):
        assert app.import_objects({"Records": [record]}, None) == {"batchItemFailures": []}
    assert site.blocked() == {f"{OFFENDER}/32"}


def test_repeats_block_nobody(site: Site) -> None:
    site.put("AWSLogs/1/one.log.gz", waf_lines(VISITOR, 20, 600))
    event = site.event()
    for _ in range(3):
        app.import_objects(event, None)
    assert site.blocked() == set()


def test_a_client_in_envelopes_of_cloudfronts_standard_log_is_blocked(site: Site) -> None:
    """Version 2 of the log, as CloudWatch Logs delivers it to the stream: JSON messages, packed."""
    now_ms, records = int(time.time() * 1000), []
    for number in range(3):
        messages = [
            json.dumps({"timestamp(ms)": str(now_ms - 9000 + n), "c-ip": client, "x-edge-request-id": f"{client}-{n}"})
            for client, requests in ((OFFENDER, 9), (VISITOR, 3))
            for n in range(10 * number, 10 * number + requests)
        ]
        records.append(StreamRecord(number + 1, envelope(*map(str.encode, messages)), now_ms / 1000))
    for _ in range(2):
        app.ingest(kinesis_event("sluice-logs", "shardId-000000000000", records), None)
    assert site.blocked() == {f"{OFFENDER}/32"}
