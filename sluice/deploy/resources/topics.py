"""Topics of SNS that belong to a stage, and the subscriptions of people's addresses.

Source: Amazon Simple Notification Service Developer Guide, "Access policies" and "Email notifications".
"""

import json
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.policies import allow, policy
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.stage import Stage


class Topic(Resource):
    """A topic to which one kind of AWS's services may publish."""

    kind = "SNS topic"

    @abstractmethod
    def publisher(self) -> dict[str, Any]:
        """Returns who may publish: Principal and Condition of a statement."""

    @missing_ok("NotFound", "NotFoundException")
    def find(self, account: AwsAccount) -> Existing | None:
        client, arn = account.client("sns"), topic_arn(self.stage, self.name)
        attributes = client.get_topic_attributes(TopicArn=arn)["Attributes"]
        tags = client.list_tags_for_resource(ResourceArn=arn)["Tags"]
        wrong = [] if json.loads(attributes.get("Policy", "{}")) == self._policy() else ["policy"]
        return Existing(self.tagged(tags), wrong)

    def create(self, account: AwsAccount) -> None:
        attributes = {"Policy": json.dumps(self._policy())}
        account.client("sns").create_topic(Name=self.name, Attributes=attributes, Tags=self.stage.tag_list)

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("sns").set_topic_attributes(
            TopicArn=topic_arn(self.stage, self.name),
            AttributeName="Policy",
            AttributeValue=json.dumps(self._policy()),
        )

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("sns").delete_topic(TopicArn=topic_arn(self.stage, self.name))

    def _policy(self) -> dict[str, Any]:
        return policy([allow("sns", "Publish", topic_arn(self.stage, self.name)) | self.publisher()])


@dataclass(frozen=True, slots=True)
class MailSubscription(Resource):
    """The subscription of an address, ``name``, to a topic of the stage. Its owner confirms it by a link."""

    kind = "e-mail subscription"

    topic: str

    @missing_ok("NotFound", "NotFoundException")
    def find(self, account: AwsAccount) -> Existing | None:
        arn = topic_arn(self.stage, self.topic)
        for each in account.list_all("sns", "list_subscriptions_by_topic", "Subscriptions", TopicArn=arn):
            if (each["Protocol"], each["Endpoint"]) == ("email", self.name):
                return Existing(True, facts={"arn": each["SubscriptionArn"]})
        return None

    def create(self, account: AwsAccount) -> None:
        arn = topic_arn(self.stage, self.topic)
        account.client("sns").subscribe(TopicArn=arn, Protocol="email", Endpoint=self.name)

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        # One that was never confirmed has no ARN, and ends by itself.
        if existing.facts["arn"].startswith("arn:"):
            account.client("sns").unsubscribe(SubscriptionArn=existing.facts["arn"])


def topic_arn(stage: Stage, name: str) -> str:
    return stage.location.arn("sns", name)
