"""Alarms about failures of Sluice itself, their topic, the dashboard and the budget of a stage without a stack.

Sources: Amazon CloudWatch API Reference, "PutMetricAlarm" and "PutDashboard"; AWS Billing and Cost Management API
Reference, "CreateBudget"; AWS Cost Management User Guide, "Creating an Amazon SNS topic for budget notifications".
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.monitoring import (
    OBJECTS_FAILED,
    Properties,
    Watched,
    alarms_of,
    budget_notifications,
    budget_of,
    dashboard_of,
)
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.topics import MailSubscription, Topic
from sluice.deploy.stage import MONTHLY_BUDGET, Stage

COMPARED = ("AlarmDescription", "MetricName", "AlarmActions", "OKActions")
"""Properties by which an alarm of another version differs. A threshold and periods that operators set are kept."""

KEPT = ("Threshold", "EvaluationPeriods", "DatapointsToAlarm", "ActionsEnabled")

BUSY = ("Throttling", "ThrottlingException")
"""CloudWatch accepts three alarms per second ("CloudWatch service quotas", Amazon CloudWatch User Guide)."""


class AlarmsTopic(Topic):
    """The topic to which alarms and the budget publish. CloudWatch cannot use the account's own key for SNS."""

    def publisher(self) -> dict[str, Any]:
        services = {"Service": ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]}
        this_account = {"StringEquals": {"aws:SourceAccount": self.stage.location.account}}
        return {"Principal": services, "Condition": this_account}


class Alarms(Resource):
    """All alarms of the stage."""

    kind = "CloudWatch alarms"

    def find(self, account: AwsAccount) -> Existing | None:
        alarms, desired = self._every(), self._desired()
        listed = account.list_all("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNames=[*alarms])
        present = {each["AlarmName"]: each for each in listed}
        if not present:
            return None
        arn = next(iter(present.values()))["AlarmArn"]
        tags = account.client("cloudwatch").list_tags_for_resource(ResourceARN=arn)["Tags"]
        put = {
            name: alarm | {key: present[name][key] for key in KEPT if key in present.get(name, {})}
            for name, alarm in desired.items()
            if any(present.get(name, {}).get(key) != alarm.get(key) for key in COMPARED)
        }
        surplus = [name for name in present if name not in desired]
        names = {name: name.removeprefix(f"{self.name}-") for name in alarms}
        differences = [f"{names[name]} differs" if name in present else f"lacks {names[name]}" for name in put]
        differences += [f"{names[name]} is not needed" for name in surplus]
        return Existing(self.tagged(tags), differences, {"put": put, "surplus": surplus, "present": [*present]})

    def create(self, account: AwsAccount) -> None:
        self._put(account, self._desired())

    def change(self, account: AwsAccount, existing: Existing) -> None:
        self._put(account, existing.facts["put"])
        self._delete(account, existing.facts["surplus"])

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        self._delete(account, existing.facts["present"])

    def _every(self) -> dict[str, Properties]:
        alarms = alarms_of(Watched.of(self.stage))
        return {f"{self.name}-{name}": properties for name, properties in alarms.items()}

    def _desired(self) -> dict[str, Properties]:
        """Returns the alarms that the stage needs: only objects can fail to be imported."""
        alarms, objects = self._every(), bool(self.stage.choices.buckets)
        return {name: each for name, each in alarms.items() if objects or not name.endswith(f"-{OBJECTS_FAILED}")}

    def _put(self, account: AwsAccount, alarms: dict[str, Properties]) -> None:
        put = account.client("cloudwatch").put_metric_alarm
        for name, properties in alarms.items():
            # CloudWatch ignores the tags of an alarm that exists.
            account.retry(put, BUSY, AlarmName=name, Tags=self.stage.tag_list, **properties)

    def _delete(self, account: AwsAccount, names: Sequence[str]) -> None:
        if names:
            account.client("cloudwatch").delete_alarms(AlarmNames=names)


class Dashboard(Resource):
    """The dashboard. It has no tags of its own, so the metrics that it shows tell whose it is."""

    kind = "CloudWatch dashboard"

    @missing_ok("ResourceNotFound", "DashboardNotFoundError")
    def find(self, account: AwsAccount) -> Existing | None:
        body = json.loads(account.client("cloudwatch").get_dashboard(DashboardName=self.name)["DashboardBody"])
        return Existing(f'"{self.stage.prefix}"' in json.dumps(body), [] if body == self._body() else ["widgets"])

    def create(self, account: AwsAccount) -> None:
        account.client("cloudwatch").put_dashboard(DashboardName=self.name, DashboardBody=json.dumps(self._body()))

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("cloudwatch").delete_dashboards(DashboardNames=[self.name])

    def _body(self) -> Any:
        return json.loads(dashboard_of(Watched.of(self.stage)))


class Budget(Resource):
    """The monthly budget, which notifies the topic of the alarms."""

    kind = "budget"

    @missing_ok("NotFoundException")
    def find(self, account: AwsAccount) -> Existing | None:
        client, owner = account.client("budgets"), self.stage.location.account
        limit = client.describe_budget(AccountId=owner, BudgetName=self.name)["Budget"]["BudgetLimit"]["Amount"]
        arn = self.stage.location.arn("budgets", f"budget/{self.name}", region=False)
        tags = client.list_tags_for_resource(ResourceARN=arn)["ResourceTags"]
        dollars = self.stage.choices.monthly_budget
        changed = [] if float(limit) == dollars else [f"{dollars} instead of {float(limit):g} USD per month"]
        return Existing(self.tagged(tags), changed)

    def create(self, account: AwsAccount) -> None:
        account.client("budgets").create_budget(
            AccountId=self.stage.location.account,
            Budget=self._budget(),
            NotificationsWithSubscribers=budget_notifications(Watched.of(self.stage).topic),
            ResourceTags=self.stage.tag_list,
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("budgets").update_budget(AccountId=self.stage.location.account, NewBudget=self._budget())

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("budgets").delete_budget(AccountId=self.stage.location.account, BudgetName=self.name)

    def _budget(self) -> Properties:
        return budget_of(self.name, str(self.stage.choices.monthly_budget))


def monitoring(stage: Stage) -> list[Resource]:
    """Returns what watches the stage, as its choices say."""
    choices, topic = stage.choices, stage.alarms_topic
    if not choices.alarms:
        return []
    watched = [
        AlarmsTopic(stage, topic, about="receives what alarms and the budget notify"),
        *(
            MailSubscription(stage, each, topic, about="its owner confirms it by the link in AWS's first mail")
            for each in choices.alarm_emails
        ),
        Alarms(stage, stage.prefix, about=f"notify {topic} if Sluice fails, falls behind or fills up"),
        Dashboard(stage, stage.prefix, about="requests, detections, delays and failures"),
    ]
    if choices.monthly_budget:
        services = "Kinesis, DynamoDB and Lambda"
        about = f"notifies {topic} at 80 % of {choices.monthly_budget} USD per month for {services}, or 100 % forecast"
        watched.append(Budget(stage, stage.prefix, about=about))
    return watched


def watched_no_longer(stage: Stage, emails: Sequence[str] = ()) -> list[Resource]:
    """Returns what the choices leave out of all that could watch the stage and notify ``emails``."""
    kept = {(each.kind, each.name) for each in monitoring(stage)}
    choices = stage.choices
    every = replace(
        choices,
        alarms=True,
        alarm_emails=(*choices.alarm_emails, *emails),
        monthly_budget=choices.monthly_budget or MONTHLY_BUDGET,
    )
    return [each for each in monitoring(replace(stage, choices=every)) if (each.kind, each.name) not in kept]
