"""Alarms, dashboard and budget of a stage: one definition for setup, which has names, and the stack, with references.

The properties are those of CloudFormation's resources and of the calls PutMetricAlarm, PutDashboard and CreateBudget,
which agree.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice.deploy.stage import API, Stage

Properties = dict[str, Any]
"""Properties of a resource, by CloudFormation's names."""

Threshold = int | str
"""A number, or the parameter of a stack that takes its place."""

BUDGETED = ("Amazon Kinesis", "Amazon DynamoDB", "AWS Lambda")
"""Services whose costs the budget counts, by AWS's names."""

OBJECTS_FAILED = "ObjectsFailed"
"""The alarm of stages that count logs in S3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    iterator_age_ms: Threshold = 60_000
    """Delay of ingest or of evaluate."""
    malformed_percent: Threshold = 5
    ip_set_fill_percent: Threshold = 80
    paused_minutes: Threshold = 60
    replayed_records: Threshold = 50_000
    """Within 15 minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Names of what is watched, and of what is notified. A stack has references, such as ``${Ingest}``."""

    service: str
    """Dimension of Sluice's own metrics."""
    region: str
    functions: Mapping[str, str]
    """Lambda's names, by those in Chalice's configuration."""
    stream: str
    dead_letters: str
    objects_dead_letters: str
    topic: str
    """ARN of the topic of the alarms."""
    thresholds: Thresholds = Thresholds()

    @classmethod
    def of(cls, stage: Stage) -> "Watched":
        names = ("ingest", "evaluate", "enforce", "publish", "sweep")
        return cls(
            service=stage.prefix,
            region=stage.location.region,
            functions={name: stage.function(name) for name in names} | {API: stage.prefix},
            stream=stage.log_stream,
            dead_letters=stage.dead_letters,
            objects_dead_letters=stage.objects_dead_letters,
            topic=stage.location.arn("sns", stage.alarms_topic),
        )


def alarms_of(watched: Watched) -> dict[str, Properties]:
    """Returns the properties of each alarm, by its name in the stack: message, metric, threshold and what it notifies.

    >>> from sluice.deploy.stage import Choices, Location
    >>> stage = Stage(name="prod", location=Location(account="1", region="us-east-1"), choices=Choices())
    >>> alarms_of(Watched.of(stage))["ApiErrors"]["Dimensions"]
    [{'Name': 'FunctionName', 'Value': 'sluice-prod'}]
    """
    limits = watched.thresholds
    notified = {"AlarmActions": [watched.topic], "OKActions": [watched.topic]}

    def alarm(
        text: str,
        namespace: str,
        metric: str,
        dimension: tuple[str, str],
        statistic: str = "Sum",
        *,
        period: int = 60,
        periods: Threshold = 1,
        of_which: int | None = None,
        above: Threshold = 0,
        **others: Any,
    ) -> Properties:
        """Returns an alarm if the statistic is above a threshold in all periods, or in ``of_which`` of them."""
        return {
            "AlarmDescription": text,
            "Namespace": namespace,
            "MetricName": metric,
            "Dimensions": [{"Name": dimension[0], "Value": dimension[1]}],
            "Statistic": statistic,
            "Period": period,
            "EvaluationPeriods": periods,
            **({"DatapointsToAlarm": of_which} if of_which else {}),
            "Threshold": above,
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
            **others,
            **notified,
        }

    def of_function(text: str, function: str, metric: str = "Errors", **others: Any) -> Properties:
        name = watched.functions[function]
        return alarm(text, "AWS/Lambda", metric, ("FunctionName", name), periods=5, of_which=3, **others)

    def own(text: str, metric: str, statistic: str = "Sum", **others: Any) -> Properties:
        return alarm(text, "Sluice", metric, ("service", watched.service), statistic, **others)

    def waiting(text: str, queue: str) -> Properties:
        return alarm(text, "AWS/SQS", "ApproximateNumberOfMessagesVisible", ("QueueName", queue), "Maximum")

    late: Properties = {"metric": "IteratorAge", "statistic": "Maximum", "above": limits.iterator_age_ms}
    filling: Properties = {"statistic": "Maximum", "period": 300, "above": limits.ip_set_fill_percent}
    full = "IP sets are filling up. Beyond 100 % the oldest blocks are omitted. Use wider aggregates or more IP sets."
    return {
        "IngestBehind": of_function(
            "Ingest is behind, so clients are blocked late. Check for errors, throttling, and too few shards.",
            "ingest",
            **late,
        ),
        "LogLinesRefused": alarm(
            "The stream rejects log lines, which CloudFront may not send again. Add shards.",
            "AWS/Kinesis",
            "WriteProvisionedThroughputExceeded",
            ("StreamName", watched.stream),
            periods=3,
        ),
        "IngestErrors": of_function(
            "Ingest fails. Its records wait in Kinesis and are counted if it recovers within an hour.", "ingest"
        ),
        "EvaluateLate": of_function(
            "Evaluate is behind, so clients are blocked late. Check for errors and time-outs, and give it more memory.",
            "evaluate",
            **late,
        ),
        "EvaluateErrors": of_function(
            "Evaluate fails. Tallies wait in the tally table, and no client is detected meanwhile.", "evaluate"
        ),
        "EnforceErrors": of_function(
            "Enforce fails. Detections wait in the state table's stream for an hour at most.", "enforce"
        ),
        "PublishErrors": of_function("Publish fails. IP sets stay unchanged, including expired blocks.", "publish"),
        "SweepErrors": of_function("Sweep fails. Expired blocks do not end.", "sweep"),
        "ApiErrors": of_function("The admin API fails.", API),
        "MalformedFlood": _malformed_flood(watched) | notified,
        "IpSetsFillingV4": own(full, "IpSetFill.v4", **filling),
        "IpSetsFillingV6": own(full, "IpSetFill.v6", **filling),
        "UnreadableRecords": own(
            "Records of the state table cannot be read and are skipped. 'sluice records list' names them.",
            "Unreadable",
            "Maximum",
            period=300,
        ),
        "PublishFailing": own(
            "AWS WAF rejects updates of the IP sets. The blocked networks stay unchanged.",
            "PublishFailures",
            periods=3,
        ),
        "BreakerOpen": own(
            "A rule would block known clients, so it is stopped and blocks no new client. Check its limit; sluice "
            "status names the rule.",
            "BreakerOpen",
            "Maximum",
        ),
        "RulesInvalid": own(
            "The stored rule set is invalid. Older rules are used, or nothing is counted.",
            "RulesInvalid",
            "Maximum",
            periods=3,
        ),
        "PausedTooLong": own(
            "Enforcement has been paused for a long time. Resume it if the pause was forgotten.",
            "Paused",
            "Minimum",
            periods=limits.paused_minutes,
        ),
        "HeartbeatMissing": own(
            "No sweep for five minutes, so expired blocks do not end. Check its schedule and its errors.",
            "Heartbeat",
            period=300,
            above=1,
            ComparisonOperator="LessThanThreshold",
            TreatMissingData="breaching",
        ),
        OBJECTS_FAILED: waiting(
            "Notifications about log objects could not be handled, so their requests are not counted. Run 'sluice "
            "doctor'.",
            watched.objects_dead_letters,
        ),
        "DeadLettersWaiting": waiting(
            "Changes of the state table could not be handled. The dead-letter queue lists them.",
            watched.dead_letters,
        ),
        "ManyReplayed": own(
            "Many records had been counted before. Causes are retries and a recreated stream.",
            "Replayed",
            period=900,
            above=limits.replayed_records,
        ),
    }


def _malformed_flood(watched: Watched) -> Properties:
    dimensions = [{"Name": "service", "Value": watched.service}]
    summed = [
        {
            "Id": metric.lower(),
            "ReturnData": False,
            "MetricStat": {
                "Metric": {"Namespace": "Sluice", "MetricName": metric, "Dimensions": dimensions},
                "Period": 300,
                "Stat": "Sum",
            },
        }
        for metric in ("Malformed", "Requests")
    ]
    share = {
        "Id": "share",
        "Label": "malformed lines, percent",
        "Expression": "IF(malformed > 100, 100 * malformed / (malformed + requests), 0)",
        "ReturnData": True,
    }
    return {
        "AlarmDescription": (
            "Many log lines are malformed. Run 'sluice doctor' to compare the fields of the log configuration."
        ),
        "Metrics": [share, *summed],
        "EvaluationPeriods": 1,
        "Threshold": watched.thresholds.malformed_percent,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }


def dashboard_of(watched: Watched) -> str:
    """Returns the body of the dashboard, JSON with one line per widget."""
    functions = watched.functions

    def own(first: str, *others: str) -> list[list[Any]]:
        return [["Sluice", first, "service", watched.service], *([".", name, ".", "."] for name in others)]

    right, latest = {"yAxis": "right"}, {"stat": "Maximum"}
    age = ["AWS/Lambda", "IteratorAge", "FunctionName", functions["ingest"], latest]
    errors = ["AWS/Lambda", "Errors", "FunctionName"]
    first, *others = functions.values()
    blocked = f'{{AWS/WAFV2,Rule,WebACL}} MetricName="BlockedRequests" {watched.service}'
    charts: list[tuple[str, str, list[list[Any]]]] = [
        ("Requests counted", "Sum", own("Requests", "Late", "Malformed", "Replayed")),
        (
            "Clients over a limit",
            "Sum",
            own("Detections", "Blocks", "Lifted", "Offenders.counted", "Offenders.allowlisted"),
        ),
        (
            "Delays (ms)",
            "p99",
            [*own("TimeToBlock", "TimeToDetect", "Lag"), age, ["...", functions["evaluate"], latest]],
        ),
        (
            "In force",
            "Maximum",
            [
                *own("ActiveBlocks"),
                *([".", name, ".", ".", right] for name in ("IpSetFill.v4", "IpSetFill.v6")),
                *([".", name, ".", "."] for name in ("Paused", "BreakerOpen")),
            ],
        ),
        (
            "Failures",
            "Sum",
            [
                [*errors, first],
                *(["...", name] for name in others),
                *own("PublishFailures", "PublishThrottled"),
                ["AWS/Kinesis", "WriteProvisionedThroughputExceeded", "StreamName", watched.stream],
            ],
        ),
        ("Blocked by WAF", "Sum", [[{"expression": f"SEARCH('{blocked}', 'Sum', 60)"}]]),
    ]
    widgets = [
        {
            "type": "metric",
            "x": 12 * (number % 2),
            "y": 6 * (number // 2),
            "width": 12,
            "height": 6,
            "properties": {"title": title, "region": watched.region, "stat": stat, "period": 60, "metrics": metrics},
        }
        for number, (title, stat, metrics) in enumerate(charts)
    ]
    lines = ",\n".join(map(json.dumps, widgets))
    return f'{{"widgets": [\n{lines}\n]}}\n'


def budget_of(name: str, dollars: str) -> Properties:
    """Returns a monthly budget for what Sluice's services cost in the account."""
    return {
        "BudgetName": name,
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": dollars, "Unit": "USD"},
        "CostFilters": {"Service": list(BUDGETED)},
    }


def budget_notifications(topic: str) -> list[Properties]:
    """Returns when a budget notifies a topic: at 80 % spent, or 100 % forecast."""
    return [
        {
            "Notification": {
                "NotificationType": kind,
                "ComparisonOperator": "GREATER_THAN",
                "Threshold": percent,
                "ThresholdType": "PERCENTAGE",
            },
            "Subscribers": [{"SubscriptionType": "SNS", "Address": topic}],
        }
        for kind, percent in (("ACTUAL", 80), ("FORECASTED", 100))
    ]
