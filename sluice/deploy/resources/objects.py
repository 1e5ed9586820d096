"""Notifications about new objects: from a bucket, which has another owner, to a queue that ``import_objects`` reads."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

from botocore.exceptions import ClientError

from sluice.deploy.account import AwsAccount, code_of, missing_ok
from sluice.deploy.policies import allow, policy
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.event_rules import EventBridgeRule
from sluice.deploy.stage import Refusal, Stage, split_bucket

FUNCTION_S = 300
"""Time-out of ``import_objects``, as in ``.chalice/config.json``."""

HIDDEN_S = 6 * FUNCTION_S
"""Seconds until a message that is being handled is delivered again (Lambda Developer Guide, "Using Lambda with Amazon
SQS": at least six times the function's time-out)."""

MOST_RECEIVES = 5
"""Deliveries of a message before it is moved to the dead-letter queue."""

KEPT_S, DEAD_LETTERS_KEPT_S = 4 * 86400, 14 * 86400
"""Seconds that messages are kept: in the queue, and in the dead-letter queue, where 14 days are SQS's maximum."""

NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
DELETED_RECENTLY = ("AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently")
"""Error codes of SQS for a name whose queue was deleted within the last 60 seconds."""
DELETED_RECENTLY_S = 75.0

NOT_ALLOWED_YET = ("InvalidArgument",)
"""Error code of S3 while its test message does not reach the queue, because the queue's policy is new."""

SOURCE = "aws:SourceArn"
CREATED = "s3:ObjectCreated:*"
EVENT_BRIDGE = "EventBridgeConfiguration"
"""Member of a bucket's notifications if it sends its events to EventBridge, of all objects and besides the others."""
DESTINATIONS = ("QueueConfigurations", "TopicConfigurations", "LambdaFunctionConfigurations")


@dataclass(frozen=True, slots=True)
class Queue(Resource):
    """A queue whose attributes are those of ``_desired``."""

    kind = "SQS queue"

    @missing_ok(*NO_QUEUE)
    def find(self, account: AwsAccount) -> Existing | None:
        client = account.client("sqs")
        url = client.get_queue_url(QueueName=self.name)["QueueUrl"]
        tags = client.list_queue_tags(QueueUrl=url).get("Tags", {})
        attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        wrong = [name for name, value in self._desired().items() if not _same(attributes.get(name), value)]
        return Existing(self.stage.tags.items() <= tags.items(), wrong, {"url": url})

    def create(self, account: AwsAccount) -> None:
        create = account.client("sqs").create_queue
        arguments = {"QueueName": self.name, "Attributes": self._desired(), "tags": self.stage.tags}
        account.retry(create, DELETED_RECENTLY, DELETED_RECENTLY_S, **arguments)

    def change(self, account: AwsAccount, existing: Existing) -> None:
        account.client("sqs").set_queue_attributes(QueueUrl=existing.facts["url"], Attributes=self._desired())

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        account.client("sqs").delete_queue(QueueUrl=existing.facts["url"])

    def _desired(self) -> dict[str, str]:
        return {"MessageRetentionPeriod": str(DEAD_LETTERS_KEPT_S), "SqsManagedSseEnabled": "true"}


class ObjectsQueue(Queue):
    """The queue of notifications, to which the stage's buckets may send."""

    def _desired(self) -> dict[str, str]:
        stage = self.stage
        redrive = {"deadLetterTargetArn": stage.queue_arn(stage.objects_dead_letters), "maxReceiveCount": MOST_RECEIVES}
        return {
            "MessageRetentionPeriod": str(KEPT_S),
            "SqsManagedSseEnabled": "true",
            "VisibilityTimeout": str(HIDDEN_S),
            "RedrivePolicy": json.dumps(redrive),
            "Policy": json.dumps(senders(stage)),
        }


def senders(stage: Stage) -> dict[str, Any]:
    """Returns the queue's policy: the stage's buckets may send, or else topics and rules of the account, as chosen.

    With setup's own rules, the buckets may send as well, so that no notification is lost while the rules take over.
    """
    location = stage.location
    sources = {"s3": sorted({stage.bucket_arn(entry) for entry in stage.choices.buckets})}
    rules = [location.arn("events", f"rule/{stage.prefix}-*")]
    if stage.choices.event_rules:
        sources["events"] = rules
    elif not stage.choices.notification:
        sources = {"sns": [location.arn("sns", "*")], "events": rules}
    return policy(
        [
            {
                **allow("sqs", "SendMessage", stage.queue_arn(stage.objects_queue)),
                "Principal": {"Service": f"{service}.amazonaws.com"},
                "Condition": {"StringEquals": {"aws:SourceAccount": location.account}, "ArnLike": {SOURCE: arns}},
            }
            for service, arns in sources.items()
        ]
    )


@dataclass(frozen=True, slots=True)
class BucketNotification(Resource):
    """The notification of a bucket about new objects under a prefix. ``name`` is an entry of ``Choices.buckets``.

    A bucket has one list of notifications, which is replaced as a whole; those of others are kept.
    """

    kind = "bucket notification"

    def find(self, account: AwsAccount) -> Existing | None:
        bucket, prefix = split_bucket(self.name)
        config = _config_of(bucket, self.stage, account)
        for each, destination in _notifications(config):
            theirs = _filters(each).get("prefix", "")
            made_elsewhere = self.elsewhere and (destination, theirs) == (self.desired()["QueueArn"], prefix)
            if each.get("Id") == self._id or made_elsewhere:  # CloudFormation gives it an id of its own
                matches = _plain({**each, "Id": self._id}) == _plain(self.desired())
                return Existing(ours=True, differences=[] if matches else ["queue, events or prefix"])
            if _of_new_objects(each) and (theirs.startswith(prefix) or prefix.startswith(theirs)):
                remedy = (
                    "Use --events eventbridge, because the bucket sends its events to EventBridge as well"
                    if EVENT_BRIDGE in config
                    else "Have it forward the notifications to the queue "
                    f"{self.stage.objects_queue}, and use --no-notification (docs/operate/objects.md)"
                )
                raise Refusal(
                    f"bucket {bucket} already notifies {destination} of new objects under {theirs!r}, and S3 "
                    f"allows one destination for an object. {remedy}"
                )
        return None

    def create(self, account: AwsAccount) -> None:
        config = self._others(account)
        config["QueueConfigurations"] = [*config.get("QueueConfigurations", ()), self.desired()]
        self._put(account, config)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        self._put(account, self._others(account))

    def _others(self, account: AwsAccount) -> dict[str, Any]:
        """Returns the bucket's notifications without this one."""
        config = _config_of(split_bucket(self.name)[0], self.stage, account)
        queues = [each for each in config.pop("QueueConfigurations", ()) if each.get("Id") != self._id]
        return {**config, "QueueConfigurations": queues} if queues else config

    def _put(self, account: AwsAccount, config: dict[str, Any]) -> None:
        put = account.client("s3").put_bucket_notification_configuration
        account.retry(put, NOT_ALLOWED_YET, Bucket=split_bucket(self.name)[0], NotificationConfiguration=config)

    @property
    def _id(self) -> str:
        return f"{self.stage.prefix}/{split_bucket(self.name)[1]}"

    def desired(self) -> dict[str, Any]:
        """Returns the notification, as S3 takes it."""
        prefix = split_bucket(self.name)[1]
        rules = [{"Name": "prefix", "Value": prefix}] if prefix else []
        return {
            "Id": self._id,
            "QueueArn": self.stage.queue_arn(self.stage.objects_queue),
            "Events": [CREATED],
            **({"Filter": {"Key": {"FilterRules": rules}}} if rules else {}),
        }


@dataclass(frozen=True, slots=True)
class EventRule(EventBridgeRule):
    """An EventBridge rule that notifies the queue of new objects under a prefix of a bucket that sends its events
    there.

    ``name`` is that of the rule, and ``entry`` an entry of ``Choices.buckets``.
    """

    entry: str

    def find(self, account: AwsAccount) -> Existing | None:
        bucket, _ = split_bucket(self.entry)
        if EVENT_BRIDGE not in _config_of(bucket, self.stage, account):
            if self.elsewhere:
                existing = self.remains(account)
                silent = f"bucket {bucket} sends no events to EventBridge"
                return existing and replace(existing, differences=[*existing.differences, silent])
            raise Refusal(
                f"bucket {bucket} sends no events to EventBridge. Turn on Amazon EventBridge in its properties, under "
                "Event notifications, or let the bucket notify the queue itself: --events s3"
            )
        return self.remains(account)

    def pattern(self) -> dict[str, Any]:
        bucket, prefix = split_bucket(self.entry)
        under = {"object": {"key": [{"prefix": prefix}]}} if prefix else {}
        detail = {"bucket": {"name": [bucket]}, **under}
        return {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": detail}

    def target(self, account: AwsAccount) -> dict[str, Any]:  # noqa: ARG002
        return {"Arn": self.stage.queue_arn(self.stage.objects_queue)}


def event_rule(stage: Stage, entry: str) -> EventRule:
    """Returns the rule for an entry of ``Choices.buckets``. Its name is a digest: it can hold no slash."""
    about = f"tells {stage.objects_queue} of new objects under {entry}"
    return EventRule(stage, f"{stage.prefix}-objects-{crc32(entry.encode()):08x}", entry, about=about)


def notified_otherwise(stage: Stage) -> list[Resource]:
    """Returns the notifications to the queue that earlier choices may have set up and the present ones do not need."""
    buckets = stage.choices.buckets
    rules: list[Resource] = [] if stage.choices.event_rules else [event_rule(stage, entry) for entry in buckets]
    return rules if stage.choices.notification else [*rules, *(BucketNotification(stage, entry) for entry in buckets)]


def _config_of(bucket: str, stage: Stage, account: AwsAccount) -> dict[str, Any]:
    """Returns the notifications of a bucket. Raises Refusal if it cannot notify the stage's queue."""
    client = account.client("s3")
    try:
        answer = client.get_bucket_notification_configuration(Bucket=bucket)
        region = client.get_bucket_location(Bucket=bucket)["LocationConstraint"] or "us-east-1"
    except ClientError as exc:
        if code_of(exc) in ("NoSuchBucket", "404"):
            raise Refusal(f"bucket {bucket} does not exist; 'aws s3 ls' lists those of the account") from exc
        raise
    if region != stage.location.region:
        raise Refusal(
            f"bucket {bucket} is in {region}, and S3 notifies only queues in the bucket's own region. Set up a stage "
            f"in {region}, or replicate the logs to a bucket in {stage.location.region}"
        )
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def _notifications(config: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yields each notification of a bucket with the ARN of its destination."""
    for key in DESTINATIONS:
        for each in config.get(key, ()):
            yield each, next(value for name, value in each.items() if name.endswith("Arn"))


def _of_new_objects(notification: Mapping[str, Any]) -> bool:
    return any(event.startswith("s3:ObjectCreated:") for event in notification["Events"])


def _filters(notification: Mapping[str, Any]) -> dict[str, str]:
    """Returns the values of a notification's filters by name, in lower case: S3 returns names in another case than it
    takes."""
    rules = notification.get("Filter", {}).get("Key", {}).get("FilterRules", ())
    return {rule["Name"].lower(): rule["Value"] for rule in rules}


def _plain(notification: Mapping[str, Any]) -> dict[str, Any]:
    return {**notification, "Filter": _filters(notification)}


def _same(actual: str | None, desired: str) -> bool:
    """Returns whether two values of a queue's attribute are equal. JSON is parsed, because SQS may change its form."""
    if actual is None or not desired.startswith("{"):
        return actual == desired
    return bool(json.loads(actual) == json.loads(desired))
