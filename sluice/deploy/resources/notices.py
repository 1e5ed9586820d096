"""Notices: messages to people about announcements, by rules of the stage's event bus, without code in between.

E-mail and chat get theirs by topics of the stage, a webhook by an API destination, and an existing topic directly.
Source: Amazon EventBridge User Guide, "API destinations", "Input transformation"; Amazon SNS Developer Guide; Amazon Q
Developer in chat applications Administrator Guide, "Custom notifications".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

from chalicelib.core.announcements import (
    CLIENT_UNBLOCKED,
    NETWORK_UNBLOCKED,
    SOURCE,
    TYPES,
    WOULD_BE_BLOCKED,
)
from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.policies import allow, policy
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.event_rules import EventBridgeRule
from sluice.deploy.resources.roles import ServiceRole
from sluice.deploy.resources.topics import MailSubscription, Topic, topic_arn
from sluice.deploy.stage import TAG, Refusal, Stage

NOTICED = tuple(each for each in TYPES if each not in (CLIENT_UNBLOCKED, NETWORK_UNBLOCKED, WOULD_BE_BLOCKED))
"""Types of announcements that are sent to people: all but ends of blocks, and blocks that were not made."""

PLAIN = '"<title>. <text>"'
WEBHOOK = '{"text": <title>, "attachments": [{"fallback": <title>, "text": <text>, "mrkdwn_in": []}]}'
"""Body for a Slack-compatible webhook. A variable outside quotes becomes a JSON string, quotes included."""
CHAT = (
    '{"version": "1.0", "source": "custom", "id": <id>, "content": {"textType": "client-markdown", "title": <title>, '
    '"description": <text>, "keywords": ["sluice"]}, "metadata": {"summary": <title>, "enableCustomActions": false}}'
)
"""Message for Amazon Q Developer in chat applications."""

WEBHOOK_CALLS_PER_S = 1
"""Slack accepts about one message per second for each webhook; EventBridge holds the others back for up to a day."""

NEW_ROLE = ("ValidationException",)
"""Error code of EventBridge for the role of a target that IAM has just created."""


@dataclass(frozen=True, slots=True)
class NoticeRule(EventBridgeRule):
    """The rule that sends a stage's announcements to one target."""

    arn: str
    """ARN of the target, unless AWS chooses it."""
    template: str
    """The message, with variables in angle brackets."""

    def pattern(self) -> dict[str, Any]:
        return {"source": [SOURCE], "detail-type": list(NOTICED), "detail": {"stage": [self.stage.prefix]}}

    def bus(self) -> str:
        return self.stage.choices.settings.get("EVENT_BUS", "default")

    def target(self, account: AwsAccount) -> dict[str, Any]:  # noqa: ARG002
        paths = {name: f"$.detail.{name}" for name in ("id", "title", "text") if f"<{name}>" in self.template}
        transformer = {"InputPathsMap": paths, "InputTemplate": self.template}
        return {"Arn": self.arn, "InputTransformer": transformer}


class NoticeTopic(Topic):
    """A topic to which rules of the stage may publish."""

    def publisher(self) -> dict[str, Any]:
        rules = {"ArnLike": {"aws:SourceArn": self.stage.location.arn("events", f"rule/*{self.stage.prefix}-notify-*")}}
        return {"Principal": {"Service": "events.amazonaws.com"}, "Condition": rules}


class Connection(Resource):
    """The connection that an API destination needs. Connections have no tags, so the description names the stage."""

    kind = "EventBridge connection"

    @missing_ok("ResourceNotFoundException")
    def find(self, account: AwsAccount) -> Existing | None:
        connection = account.client("events").describe_connection(Name=self.name)
        return Existing(connection.get("Description") == mark(self.stage))

    def create(self, account: AwsAccount) -> None:
        # A webhook is authorised by its address alone; EventBridge demands a header nonetheless.
        header = {"ApiKeyName": "X-Sluice-Stage", "ApiKeyValue": self.stage.prefix}
        account.client("events").create_connection(
            Name=self.name,
            Description=mark(self.stage),
            AuthorizationType="API_KEY",
            AuthParameters={"ApiKeyAuthParameters": header},
        )

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("events").delete_connection(Name=self.name)


@dataclass(frozen=True, slots=True)
class WebhookDestination(Resource):
    """The API destination that holds the address of a webhook, which is a secret and stored nowhere else."""

    kind = "EventBridge API destination"

    url: str
    """Empty for the present one."""

    @missing_ok("ResourceNotFoundException")
    def remains(self, account: AwsAccount) -> Existing | None:
        destination = account.client("events").describe_api_destination(Name=self.name)
        wrong = ["webhook"] if self.url and self.url != destination["InvocationEndpoint"] else []
        return Existing(
            destination.get("Description") == mark(self.stage), wrong, {"arn": destination["ApiDestinationArn"]}
        )

    def find(self, account: AwsAccount) -> Existing | None:
        existing = self.remains(account)
        if existing is None and not self.url:
            raise Refusal("the webhook is not remembered, because it is a secret: name it with --notify slack:URL")
        return existing

    def create(self, account: AwsAccount) -> None:
        client = account.client("events")
        connection = client.describe_connection(Name=self.name)["ConnectionArn"]
        client.create_api_destination(
            Name=self.name,
            Description=mark(self.stage),
            ConnectionArn=connection,
            InvocationEndpoint=self.url,
            HttpMethod="POST",
            InvocationRateLimitPerSecond=WEBHOOK_CALLS_PER_S,
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("events").update_api_destination(Name=self.name, InvocationEndpoint=self.url)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("events").delete_api_destination(Name=self.name)


class WebhookRole(ServiceRole):
    """The role by which the rule calls the API destination."""

    policy_name = "call-webhook"
    description = "Calls the webhook that Sluice's announcements are sent to."

    def trust(self) -> dict[str, Any]:
        this_account = {"StringEquals": {"aws:SourceAccount": self.stage.location.account}}
        service = {"Service": "events.amazonaws.com"}
        return policy(
            [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": service, "Condition": this_account}]
        )

    def permissions(self) -> dict[str, Any]:
        destination = self.stage.location.arn("events", f"api-destination/{self.stage.webhook}/*")
        return policy([allow("events", "InvokeApiDestination", destination)])


@dataclass(frozen=True, slots=True)
class WebhookRule(NoticeRule):
    """The rule whose target is the API destination; its ARN ends in an id that AWS chooses."""

    def target(self, account: AwsAccount) -> dict[str, Any]:
        existing = WebhookDestination(self.stage, self.stage.webhook, "").remains(account)
        arn = {"Arn": existing.facts["arn"]} if existing else {}
        return {**NoticeRule.target(self, account), **arn, "RoleArn": self.stage.webhook_role_arn}

    def create(self, account: AwsAccount) -> None:
        account.retry(lambda: EventBridgeRule.create(self, account), NEW_ROLE)


def notices(stage: Stage, webhook: str = "") -> list[Resource]:
    """Returns what sends notices as the stage's choices say; ``webhook``: its address, empty for the present one."""
    made: list[Resource] = []
    for notice in stage.choices.notices:
        made += _notice(stage, notice, webhook)
    # Both addresses and chat have one topic each, which is shared.
    return list({(each.kind, each.name): each for each in made}.values())


def _notice(stage: Stage, notice: str, webhook: str) -> list[Resource]:
    kind, _, place = notice.partition(":")
    sent = f"sends {len(NOTICED)} types of announcements"
    match kind:
        case "email":
            topic = stage.mail_topic
            return [
                NoticeTopic(stage, topic, about="the topic of the addresses that are mailed"),
                MailSubscription(stage, place, topic, about="its owner confirms it by the link in AWS's first mail"),
                NoticeRule(
                    stage, f"{stage.prefix}-notify-mail", topic_arn(stage, topic), PLAIN, about=f"{sent} by e-mail"
                ),
            ]
        case "chat":
            topic = stage.chat_topic
            return [
                NoticeTopic(stage, topic, about="the topic for a channel of Amazon Q Developer in chat applications"),
                NoticeRule(stage, f"{stage.prefix}-notify-chat", topic_arn(stage, topic), CHAT, about=f"{sent} to it"),
            ]
        case "sns":
            name = f"{stage.prefix}-notify-{crc32(place.encode()):08x}"
            about = f"{sent} to {place}, whose policy must let events.amazonaws.com publish"
            return [NoticeRule(stage, name, place, PLAIN, about=about)]
        case _:
            name = stage.webhook
            return [
                Connection(stage, name, about="authorises calls of the webhook"),
                WebhookDestination(stage, name, webhook, about="holds the address of the webhook; one call per second"),
                WebhookRole(stage, name, about="lets EventBridge call the webhook, and nothing else"),
                WebhookRule(stage, f"{stage.prefix}-notify-webhook", "", WEBHOOK, about=f"{sent} to the webhook"),
            ]


def no_longer(stage: Stage, removed: Sequence[str]) -> list[Resource]:
    """Returns the resources that sent only notices that are ``removed``, and none of those that stay."""
    kept = {(each.kind, each.name) for each in notices(stage)}
    former = notices(replace(stage, choices=replace(stage.choices, notices=tuple(removed))))
    return [each for each in former if (each.kind, each.name) not in kept]


def mark(stage: Stage) -> str:
    """Returns the description of what has no tags."""
    return f"{TAG} {stage.name}"
