"""Buckets: the queue, the notification beside those of others, and what is deployed for them."""

import json
from datetime import UTC, datetime
from fnmatch import fnmatch
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.config import read_config
from chalicelib.edges import events
from chalicelib.ports import LogObject
from sluice.deploy.account import AwsAccount, AwsError
from sluice.deploy.doctor.deployment import deployed, drift, event_sources
from sluice.deploy.doctor.flow import objects
from sluice.deploy.doctor.inspection import Inspection
from sluice.deploy.plan import StepAction
from sluice.deploy.policies import FUNCTIONS
from sluice.deploy.resources.objects import HIDDEN_S, MOST_RECEIVES
from sluice.deploy.stage import Choices, Refusal, Stage
from tests.support.deploy.account import NOW, Run, World

QUEUE = "arn:aws:sqs:us-east-1:123456789012:sluice-prod-objects"
OTHER = "arn:aws:sns:us-east-1:123456789012:other"


@pytest.fixture
def bucket(world: World) -> str:
    world.account.client("s3").create_bucket(Bucket="site-logs")
    return "site-logs"


@pytest.fixture
def stage(world: World, bucket: str) -> Stage:
    return world.stage(buckets=(f"{bucket}/AWSLogs/",))


def notifications(world: World, bucket: str) -> dict[str, Any]:
    answer = world.account.client("s3").get_bucket_notification_configuration(Bucket=bucket)
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def notify(world: World, bucket: str, prefix: str, event: str = "s3:ObjectCreated:Put") -> dict[str, Any]:
    """Notifies a topic of another owner, and returns the bucket's notifications."""
    client = world.account.client("sns")
    arn = client.create_topic(Name="other")["TopicArn"]
    rules = [{"Name": "prefix", "Value": prefix}]
    config: dict[str, Any] = {"Id": "other", "TopicArn": arn, "Events": [event]}
    if prefix:
        config["Filter"] = {"Key": {"FilterRules": rules}}
    world.account.client("s3").put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"TopicConfigurations": [config]}
    )
    return notifications(world, bucket)


def attributes(world: World, queue: str) -> dict[str, str]:
    client = world.account.client("sqs")
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]
    found: dict[str, str] = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return found


def test_a_bucket_notifies_the_queue_of_new_objects_under_the_prefix(world: World, stage: Stage, bucket: str) -> None:
    world.set_up(stage)
    (config,) = notifications(world, bucket)["QueueConfigurations"]
    assert (config["Id"], config["QueueArn"], config["Events"]) == (
        "sluice-prod/AWSLogs/",
        QUEUE,
        ["s3:ObjectCreated:*"],
    )
    assert config["Filter"]["Key"]["FilterRules"] == [{"Name": "prefix", "Value": "AWSLogs/"}]
    assert {step.action for step in world.plan(stage)} == {StepAction.KEEP}


def test_the_queue_admits_the_bucket_and_keeps_what_fails(world: World, stage: Stage) -> None:
    world.set_up(stage)
    queue = attributes(world, "sluice-prod-objects")
    function = world.project.config()["lambda_functions"]["import_objects"]
    assert int(queue["VisibilityTimeout"]) == HIDDEN_S == 6 * function["lambda_timeout"]
    assert json.loads(queue["RedrivePolicy"]) == {
        "deadLetterTargetArn": f"{QUEUE}-failed",
        "maxReceiveCount": MOST_RECEIVES,
    }
    (from_s3,) = json.loads(queue["Policy"])["Statement"]
    assert from_s3["Principal"] == {"Service": "s3.amazonaws.com"}
    assert from_s3["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": ["arn:aws:s3:::site-logs"]},
    }
    assert attributes(world, "sluice-prod-objects-failed")["MessageRetentionPeriod"] == str(14 * 86_400)


def test_notifications_of_others_stay_as_they_are(world: World, stage: Stage, bucket: str) -> None:
    others = notify(world, bucket, "images/")
    world.set_up(stage)
    assert notifications(world, bucket)["TopicConfigurations"] == others["TopicConfigurations"]
    world.tear_down(stage)
    assert notifications(world, bucket) == others


@pytest.mark.parametrize("prefix", ["", "AWS", "AWSLogs/", "AWSLogs/1/"])
def test_a_prefix_of_which_another_is_notified_is_refused(world: World, stage: Stage, bucket: str, prefix: str) -> None:
    before = notify(world, bucket, prefix)
    with pytest.raises(Refusal, match=f"site-logs already notifies {OTHER} of new objects under '{prefix}'"):
        world.plan(stage)
    assert notifications(world, bucket) == before


def test_another_is_no_obstacle_if_it_is_told_of_removed_objects(world: World, stage: Stage, bucket: str) -> None:
    notify(world, bucket, "AWSLogs/", "s3:ObjectRemoved:*")
    world.set_up(stage)
    assert set(notifications(world, bucket)) == {"TopicConfigurations", "QueueConfigurations"}


def test_two_prefixes_of_a_bucket_are_two_notifications(world: World, bucket: str) -> None:
    stage = world.stage(buckets=(f"{bucket}/a/", f"{bucket}/b/"))
    world.set_up(stage)
    ids = [config["Id"] for config in notifications(world, bucket)["QueueConfigurations"]]
    assert ids == ["sluice-prod/a/", "sluice-prod/b/"]
    assert {step.action for step in world.plan(stage)} == {StepAction.KEEP}
    world.tear_down(stage)
    assert notifications(world, bucket) == {}


def test_an_edited_notification_is_repaired(world: World, stage: Stage, bucket: str) -> None:
    world.set_up(stage)
    config = notifications(world, bucket)
    config["QueueConfigurations"][0]["Events"] = ["s3:ObjectCreated:Put"]
    world.account.client("s3").put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=config)
    (step,) = [step for step in world.set_up(stage) if step.effective]
    assert step.detail == "queue, events or prefix"
    assert notifications(world, bucket)["QueueConfigurations"][0]["Events"] == ["s3:ObjectCreated:*"]


def test_a_second_bucket_is_admitted_to_the_queue(world: World, stage: Stage) -> None:
    world.set_up(stage)
    world.account.client("s3").create_bucket(Bucket="more-logs")
    both = Stage(name="prod", location=stage.location, choices=stage.choices.with_changes(buckets=("more-logs/",)))
    changes = {step.resource.name: step.detail for step in world.set_up(both) if step.action is StepAction.CHANGE}
    assert changes["sluice-prod-objects"] == "Policy"
    statement = json.loads(attributes(world, "sluice-prod-objects")["Policy"])["Statement"][0]
    assert statement["Condition"]["ArnLike"]["aws:SourceArn"] == ["arn:aws:s3:::more-logs", "arn:aws:s3:::site-logs"]
    (config,) = notifications(world, "more-logs")["QueueConfigurations"]
    assert "FilterRules" not in config.get("Filter", {}).get("Key", {})


def test_sns_or_eventbridge_may_notify_instead_of_the_bucket(world: World, bucket: str) -> None:
    before = notify(world, bucket, "AWSLogs/")
    stage = world.stage(buckets=(f"{bucket}/AWSLogs/",), notification=False)
    world.set_up(stage)
    assert notifications(world, bucket) == before
    statements = json.loads(attributes(world, "sluice-prod-objects")["Policy"])["Statement"]
    assert {each["Principal"]["Service"]: each["Condition"]["ArnLike"]["aws:SourceArn"] for each in statements} == {
        "sns.amazonaws.com": ["arn:aws:sns:us-east-1:123456789012:*"],
        "events.amazonaws.com": ["arn:aws:events:us-east-1:123456789012:rule/sluice-prod-*"],
    }


# Buckets that send their events to EventBridge


@pytest.fixture
def told(world: World, bucket: str) -> Stage:
    """A stage whose queue hears of a bucket by EventBridge, beside a topic of another owner."""
    client, config = world.account.client("s3"), notify(world, bucket, "AWSLogs/")
    config = {**config, "EventBridgeConfiguration": {}}
    client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=config)
    return world.stage(buckets=(f"{bucket}/AWSLogs/",), notification=False, event_rules=True)


def rules(world: World) -> dict[str, Any]:
    """Returns the patterns of EventBridge's rules, by name."""
    listed = world.account.client("events").list_rules()["Rules"]
    return {rule["Name"]: json.loads(rule["EventPattern"]) for rule in listed}


def test_eventbridge_tells_the_queue_and_the_bucket_stays_as_it_is(world: World, told: Stage, bucket: str) -> None:
    before = notifications(world, bucket)
    world.set_up(told)
    assert notifications(world, bucket) == before
    ((name, pattern),) = rules(world).items()
    assert pattern == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": ["site-logs"]}, "object": {"key": [{"prefix": "AWSLogs/"}]}},
    }
    (target,) = world.account.client("events").list_targets_by_rule(Rule=name)["Targets"]
    assert target["Arn"] == QUEUE
    policy = json.loads(attributes(world, "sluice-prod-objects")["Policy"])["Statement"]
    admitted = {each["Principal"]["Service"]: each["Condition"]["ArnLike"]["aws:SourceArn"] for each in policy}
    assert fnmatch(f"arn:aws:events:us-east-1:123456789012:rule/{name}", *admitted["events.amazonaws.com"])
    assert {step.action for step in world.plan(told)} == {StepAction.KEEP}
    assert list(drift(inspection(world, told))) == []
    world.tear_down(told)
    assert (rules(world), notifications(world, bucket)) == ({}, before)
    assert world.plan_teardown(told) == []


def test_eventbridge_puts_new_objects_under_the_prefix_into_the_queue_for_the_importer(
    world: World, told: Stage, bucket: str
) -> None:
    """Only the etag is spelled otherwise in the event that moto sends: as in a notification of S3."""
    world.set_up(told)
    s3, sqs = world.account.client("s3"), world.account.client("sqs")
    for key in ("AWSLogs/a b+c%20.gz", "other/AWSLogs/x.gz", "AWSLog"):
        etag = s3.put_object(Bucket=bucket, Key=key, Body=key.encode())["ETag"].strip('"')
        if key.startswith("AWSLogs/"):
            expected = LogObject(bucket, key, etag)
    s3.delete_object(Bucket=bucket, Key=expected.key)
    url = sqs.get_queue_url(QueueName="sluice-prod-objects")["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    event = {"Records": [{"messageId": "one", "body": message["Body"].replace('"eTag"', '"etag"')}]}
    ((new,),) = (each.objects for each in events.notifications(event))
    assert new.object == expected


def test_each_bucket_and_prefix_has_a_rule_of_its_own(world: World, told: Stage, bucket: str) -> None:
    both = world.stage(buckets=(f"{bucket}/a/", f"{bucket}/"), notification=False, event_rules=True)
    world.set_up(both)
    details = [pattern["detail"] for pattern in rules(world).values()]
    assert {json.dumps(detail.get("object")) for detail in details} == {"null", '{"key": [{"prefix": "a/"}]}'}
    assert all(len(name) <= 64 for name in rules(world))


def test_a_rule_of_eventbridge_that_was_edited_is_repaired(world: World, told: Stage) -> None:
    world.set_up(told)
    (name,) = rules(world)
    client = world.account.client("events")
    client.remove_targets(Rule=name, Ids=["target"])
    client.put_rule(Name=name, EventPattern='{"source": ["aws.ec2"]}', State="DISABLED")
    assert "pattern; not enabled; target" in [
        finding.what.rpartition(": ")[2] for finding in drift(inspection(world, told))
    ]
    (step,) = [step for step in world.set_up(told) if step.effective]
    assert step.detail == "pattern; not enabled; target"
    assert {step.action for step in world.plan(told)} == {StepAction.KEEP}


def test_a_rule_of_eventbridge_that_is_not_setups_is_refused_and_stays(world: World, told: Stage) -> None:
    world.set_up(told)
    (name,) = rules(world)
    client = world.account.client("events")
    client.untag_resource(ResourceARN=client.describe_rule(Name=name)["Arn"], TagKeys=["sluice:stage"])
    assert StepAction.REFUSE in {step.action for step in world.plan(told)}
    world.tear_down(told)
    assert list(rules(world)) == [name]


def test_a_bucket_that_sends_nothing_to_eventbridge_is_refused(world: World, bucket: str) -> None:
    stage = world.stage(buckets=(f"{bucket}/",), notification=False, event_rules=True)
    with pytest.raises(Refusal, match=r"site-logs sends no events to EventBridge\. Turn on .* --events s3"):
        world.plan(stage)
    (finding,) = drift(inspection(world, stage))
    assert finding.what.startswith("bucket site-logs sends no events to EventBridge")


def test_eventbridge_is_suggested_where_the_bucket_sends_its_events_there(
    world: World, told: Stage, bucket: str
) -> None:
    with pytest.raises(Refusal, match="Use --events eventbridge, because the bucket sends its events to EventBridge"):
        world.plan(world.stage(buckets=(f"{bucket}/AWSLogs/",)))


def test_teardown_removes_the_rule_of_a_bucket_that_is_gone(world: World, told: Stage, bucket: str) -> None:
    world.set_up(told)
    world.account.client("s3").delete_bucket(Bucket=bucket)
    world.tear_down(told)
    assert rules(world) == {}


def test_the_way_of_notification_can_be_changed_and_changed_back(world: World, bucket: str, run: Run) -> None:
    config: dict[str, Any] = {"EventBridgeConfiguration": {}}
    world.account.client("s3").put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=config)
    assert run("setup", "--bucket", bucket, "--prefix", "a/", "--yes").exit_code == 0
    assert (len(notifications(world, bucket)["QueueConfigurations"]), rules(world)) == (1, {})
    assert run("setup", "--events", "eventbridge", "--yes").exit_code == 0
    assert (notifications(world, bucket), len(rules(world))) == (config, 1)
    assert run("setup", "--yes").exit_code == 0
    assert len(rules(world)) == 1
    detached = run("detach", "--bucket", bucket, "--yes")
    assert (detached.exit_code, rules(world)) == (0, {})
    assert run("setup", "--bucket", bucket, "--prefix", "a/", "--yes").exit_code == 0
    assert len(rules(world)) == 1
    assert run("setup", "--events", "s3", "--yes").exit_code == 0
    assert (len(notifications(world, bucket)["QueueConfigurations"]), rules(world)) == (1, {})
    both = run("setup", "--events", "s3", "--no-notification")
    assert (both.exit_code, "give one of them" in both.output) == (2, True)


def test_a_bucket_that_does_not_exist_is_refused(world: World) -> None:
    with pytest.raises(Refusal, match="bucket no-such-bucket does not exist"):
        world.plan(world.stage(buckets=("no-such-bucket/",)))


def test_a_bucket_of_another_region_is_refused(world: World) -> None:
    location = {"LocationConstraint": "eu-west-1"}
    world.account.client("s3").create_bucket(Bucket="far-logs", CreateBucketConfiguration=location)
    with pytest.raises(
        Refusal, match="far-logs is in eu-west-1, and S3 notifies only queues in the bucket's own region"
    ):
        world.plan(world.stage(buckets=("far-logs/",)))


@pytest.mark.parametrize("entry", ["UPPER/", "a/", "logs", "logs_of/", "/prefix", "arn:aws:s3:::logs/"])
def test_a_name_that_is_no_bucket_is_refused(entry: str) -> None:
    with pytest.raises(Refusal, match="use the name of a bucket"):
        Choices(buckets=(entry,))


@pytest.mark.parametrize("key", ["alias/logs", "1234abcd", "arn:aws:kms:us-east-1:111122223333:alias/logs"])
def test_a_key_is_named_by_its_arn(key: str) -> None:
    with pytest.raises(Refusal, match="use its ARN"):
        Choices(kms_keys=(key,))


def test_the_function_is_deployed_with_its_queue_and_its_policy(world: World, stage: Stage) -> None:
    world.set_up(stage)
    written = world.project.stage("prod")
    assert written is not None
    assert read_config(written["environment_variables"]).objects_queue == "sluice-prod-objects"
    assert written["lambda_functions"]["import_objects"] == {"iam_policy_file": "policy-prod-import_objects.json"}
    actions = {
        (action, resource)
        for statement in world.project.policies("prod")["import_objects"]["Statement"]
        for action in statement["Action"]
        for resource in ([statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"])
    }
    assert {pair for pair in actions if pair[0].startswith(("s3:", "sqs:", "kms:"))} == {
        ("s3:GetObject", "arn:aws:s3:::site-logs/AWSLogs/*"),
        ("s3:ListBucket", "arn:aws:s3:::site-logs"),
        *((f"sqs:{action}", QUEUE) for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")),
    }


def test_encrypted_objects_may_be_decrypted_with_their_key_alone(world: World, bucket: str) -> None:
    key = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab"
    world.set_up(world.stage(buckets=(f"{bucket}/",), kms_keys=(key,)))
    statements = world.project.policies("prod")["import_objects"]["Statement"]
    assert [s["Resource"] for s in statements if s["Action"] == ["kms:Decrypt"]] == [[key]]


def test_without_a_bucket_nothing_is_made_for_objects(world: World) -> None:
    world.set_up(world.stage())
    written = world.project.stage("prod")
    assert written is not None
    assert "OBJECTS_QUEUE" not in written["environment_variables"]
    assert "import_objects" not in written["lambda_functions"]
    assert set(world.project.policies("prod")) == set(FUNCTIONS) - {"import_objects"}
    queues = [url.rpartition("/")[2] for url in world.account.client("sqs").list_queues()["QueueUrls"]]
    assert queues == ["sluice-prod-dead-letters"]


def test_teardown_removes_the_queues(world: World, stage: Stage) -> None:
    world.set_up(stage)
    world.tear_down(stage)
    with pytest.raises(ClientError, match="NonExistentQueue"):
        attributes(world, "sluice-prod-objects")
    assert world.plan_teardown(stage) == []


def test_a_notification_waits_until_s3_may_send(
    world: World, stage: Stage, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = world.account.client("s3")
    put, failures = client.put_bucket_notification_configuration, [3]

    def refuse(**arguments: Any) -> Any:
        if failures[0]:
            failures[0] -= 1
            message = "Unable to validate the following destination configurations"
            raise ClientError({"Error": {"Code": "InvalidArgument", "Message": message}}, "PutBucketNotification")
        return put(**arguments)

    monkeypatch.setattr(client, "put_bucket_notification_configuration", refuse)
    object.__setattr__(world.account, "sleep", lambda seconds: None)
    world.set_up(stage)
    assert len(notifications(world, bucket)["QueueConfigurations"]) == 1
    failures[0] = 1000
    with pytest.raises(AwsError, match="Unable to validate"):
        world.tear_down(stage)


# The doctor


def inspection(world: World, stage: Stage) -> Inspection:
    return Inspection(stage, world.account, world.project, NOW)


def report(world: World, name: str, queue: str, value: float) -> None:
    world.account.client("cloudwatch").put_metric_data(
        Namespace="AWS/SQS",
        MetricData=[
            {
                "MetricName": name,
                "Value": value,
                "Timestamp": datetime.fromtimestamp(NOW - 60, UTC),
                "Dimensions": [{"Name": "QueueName", "Value": queue}],
            }
        ],
    )


def test_the_doctor_finds_nothing_wrong_with_queues_that_are_empty(world: World, stage: Stage) -> None:
    report(world, "NumberOfMessagesSent", "sluice-prod-objects", 1)
    assert list(objects(inspection(world, stage))) == []


@pytest.mark.parametrize(
    ("choices", "remedy"),
    [
        ({}, "sluice setup --stage prod --region us-east-1 repairs what notifies the queue"),
        ({"notification": False}, "--notification"),
        ({"elsewhere": True}, "compare what notifies the queue with sluice setup"),
    ],
)
def test_the_doctor_notes_a_queue_that_received_nothing_for_a_day(
    world: World, choices: dict[str, bool], remedy: str
) -> None:
    """A bucket may be quiet, so nothing need be wrong."""
    stage = world.stage(sources=(), buckets=("site-logs/AWSLogs/",), **choices)
    (finding,) = objects(inspection(world, stage))
    assert finding.what == "sluice-prod-objects has received no notification about an object for a day"
    assert not finding.wrong
    assert "objects are written under site-logs/AWSLogs/" in finding.remedy
    assert remedy in finding.remedy


def test_the_doctor_finds_notifications_that_failed_and_says_how_to_send_them_again(world: World, stage: Stage) -> None:
    report(world, "NumberOfMessagesSent", "sluice-prod-objects", 1)
    report(world, "ApproximateNumberOfMessagesVisible", "sluice-prod-objects-failed", 3)
    (finding,) = objects(inspection(world, stage))
    assert finding.what.startswith("3 notifications about objects could not be handled")
    assert f"aws sqs start-message-move-task --source-arn {QUEUE}-failed" in finding.remedy
    assert list(objects(inspection(world, world.stage()))) == []


def test_the_doctor_finds_notifications_that_wait(world: World, stage: Stage) -> None:
    report(world, "NumberOfMessagesSent", "sluice-prod-objects", 1)
    report(world, "ApproximateAgeOfOldestMessage", "sluice-prod-objects", 7200)
    (finding,) = objects(inspection(world, stage))
    assert finding.what == "the oldest notification about an object has waited for 120 minutes"


@pytest.mark.parametrize(
    ("mapping", "wrong"),
    [
        ({"BatchSize": 1}, False),
        ({"BatchSize": 10, "FunctionResponseTypes": ["ReportBatchItemFailures"]}, False),
        ({"BatchSize": 10}, True),
        ({"BatchSize": 10, "FunctionResponseTypes": []}, True),
    ],
)
def test_the_doctor_finds_an_event_source_that_loses_failed_messages(
    world: World, stage: Stage, mapping: dict[str, Any], wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_stage = inspection(world, stage)
    of_stage.__dict__["functions"] = {"import_objects": {"FunctionName": "sluice-prod-import_objects"}}
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{stage.function('import_objects')}"
    queue = "arn:aws:sqs:us-east-1:123456789012:sluice-prod-objects"
    described = {"UUID": "u", "State": "Enabled", "FunctionArn": arn, "EventSourceArn": queue, **mapping}
    monkeypatch.setattr(AwsAccount, "list_all", lambda *_, **__: iter([described]))
    found = [finding.what for finding in event_sources(of_stage)]
    assert found == ["import_objects gets several messages at once, and those that fail are lost"] * wrong


def test_the_doctor_misses_the_function_only_in_a_stage_with_a_bucket(world: World, stage: Stage) -> None:
    world.set_up(stage)
    (missing,) = deployed(inspection(world, stage))
    (others,) = deployed(inspection(world, world.stage()))
    assert missing.what.replace(", import_objects", "") == others.what != missing.what
