"""IAM policies of the functions: one policy per function, which allows only the calls that it makes.

docs/operate/permissions.md gives the reason for each action. The policies exist in two forms: with the ARNs of a
stage, for Chalice's deployer, and with references to the stack's resources, for ``chalice package``.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.breakers import Known, RuleBreaker, Waiting
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.events import Events, Warned
from chalicelib.core.state.feeds import Feed, FeedNetworks
from chalicelib.core.state.kinds import RECORDS
from chalicelib.core.state.operators import Audit, Receipt
from chalicelib.core.state.records import Control
from chalicelib.core.state.rule_sets import StoredRules
from chalicelib.core.state.trends import Trend
from sluice.deploy.cloudformation import ip_set_arns
from sluice.deploy.stage import Stage, split_bucket

Policy = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arns:
    """Resources that the policies name: ARNs, or CloudFormation expressions for them."""

    log_stream: Any
    tally_table: Any
    tally_stream: Any
    state_table: Any
    state_stream: Any
    ip_sets: Sequence[Any]
    tokens: Any
    dead_letters: Any
    """Queue of changes that could not be handled."""
    logs: Callable[[str], Any]
    """Returns the log streams in the log group of a function."""
    objects_queue: Any = None
    """Queue of notifications about log objects; None without one, and then ``import_objects`` is not deployed."""
    buckets: Sequence[Any] = ()
    """The buckets with these objects."""
    objects: Sequence[Any] = ()
    """The objects in them."""
    kms_keys: Sequence[Any] = ()
    """Keys with which the objects are encrypted."""
    event_bus: Any = None
    """Bus that announcements are sent to; None without one."""


def policy(statements: list[dict[str, Any]]) -> Policy:
    return {"Version": "2012-10-17", "Statement": statements}


def statements_of(policy: Policy) -> list[dict[str, Any]]:
    """Returns the statements of a policy, which may have none, or one without a list."""
    statements = policy.get("Statement", [])
    return [statements] if isinstance(statements, dict) else list(statements)


def as_list(value: Any) -> list[Any]:
    """Returns the values of a policy's element, which may be one without a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def allow(service: str, actions: str, resource: Any) -> dict[str, Any]:
    """Returns a statement that allows a service's actions, whose names are separated by spaces."""
    return {"Effect": "Allow", "Action": [f"{service}:{action}" for action in actions.split()], "Resource": resource}


def records(actions: str, table: Any, *kinds: str) -> dict[str, Any]:
    """Returns a statement that allows actions on the state table's records of ``kinds``, which are its partition keys.

    A kind may be spread over several keys: its name, ``#`` and a number.
    """
    keys = [key for kind in sorted(kinds) for key in (kind, f"{kind}#*")]
    return allow("dynamodb", actions, table) | {
        "Condition": {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": keys}}
    }


RULES, DETECTION, KNOWN = StoredRules.kind, Detection.kind, Known.kind
BREAKERS = (RuleBreaker.kind, Waiting.kind)
BLOCK, HISTORY, ALLOW, CONTROL, EVENT, AUDIT = (of.kind for of in (Block, History, Allow, Control, Events, Audit))
WARNING, TREND = Warned.kind, Trend.kind
FEEDS = (Feed.kind, FeedNetworks.kind)
EVERY_KIND = sorted({of.kind for of in RECORDS} | {CONTROL})
KEPT = {AUDIT, Receipt.kind}
"""Kinds from which no function removes a record: the audit is complete, and receipts expire."""


def policies(arns: Arns) -> dict[str, Policy]:
    """Returns each function's policy, by the function's name in Chalice's configuration."""
    # ListStreams cannot be restricted to a resource.
    read_log_stream = "DescribeStream DescribeStreamSummary GetRecords GetShardIterator ListShards"
    log_stream = [allow("kinesis", read_log_stream, arns.log_stream), allow("kinesis", "ListStreams", "*")]
    tally_stream, state_stream = (
        [allow("dynamodb", "DescribeStream GetRecords GetShardIterator", arn), allow("dynamodb", "ListStreams", "*")]
        for arn in (arns.tally_stream, arns.state_stream)
    )
    dead_letters = allow("sqs", "SendMessage", arns.dead_letters)
    rules = records("GetItem Query", arns.state_table, RULES)
    state = arns.state_table
    statements = {
        "ingest": [
            *log_stream,
            allow("dynamodb", "BatchGetItem PutItem Query UpdateItem", arns.tally_table),
            rules,
        ],
        "evaluate": [
            *tally_stream,
            allow("dynamodb", "BatchGetItem GetItem PutItem Query UpdateItem", arns.tally_table),
            rules,
            records("GetItem", state, KNOWN, WARNING),
            records("PutItem", state, DETECTION, KNOWN, WARNING, EVENT),
        ],
        "enforce": [
            *state_stream,
            records(
                "GetItem Query BatchGetItem",
                state,
                *(BLOCK, HISTORY, ALLOW, CONTROL, KNOWN, *BREAKERS, DETECTION, RULES),
                *(EVENT, AUDIT),
            ),
            records("PutItem", state, BLOCK, HISTORY, CONTROL, EVENT, *BREAKERS),
            records("DeleteItem", state, Waiting.kind),
            *([allow("events", "PutEvents", arns.event_bus)] if arns.event_bus else []),
            dead_letters,
        ],
        "publish": [
            *state_stream,
            records("GetItem Query BatchGetItem", state, BLOCK, ALLOW, CONTROL, KNOWN, RULES, WARNING),
            records("PutItem", state, CONTROL, WARNING, EVENT),
            allow("wafv2", "GetIPSet UpdateIPSet", list(arns.ip_sets)),
            allow("wafv2", "ListIPSets", "*"),  # it cannot be restricted to a resource
            dead_letters,
        ],
        "sweep": [
            records("GetItem Query BatchGetItem", state, *EVERY_KIND),
            records("PutItem", state, BLOCK, HISTORY, CONTROL, EVENT, ALLOW, AUDIT, TREND, DETECTION, *FEEDS),
            records("DeleteItem", state, BLOCK, HISTORY, ALLOW, *FEEDS),
            allow("dynamodb", "BatchGetItem PutItem Query", arns.tally_table),
        ],
        "api_handler": [
            records("GetItem Query BatchGetItem", state, *EVERY_KIND),
            records("PutItem", state, *EVERY_KIND),
            records("DeleteItem", state, *(kind for kind in EVERY_KIND if kind not in KEPT)),
            allow("dynamodb", "BatchGetItem Query", arns.tally_table),
        ],
        "authorize": [allow("ssm", "GetParameter", arns.tokens)],
    }
    if arns.objects_queue:
        statements["import_objects"] = [
            allow("sqs", "DeleteMessage GetQueueAttributes ReceiveMessage", arns.objects_queue),
            allow("s3", "GetObject", list(arns.objects)),
            # Without it, S3 answers for an object that was deleted as for one that may not be read.
            allow("s3", "ListBucket", list(arns.buckets)),
            *([allow("kms", "Decrypt", list(arns.kms_keys))] if arns.kms_keys else []),
            allow("dynamodb", "BatchGetItem PutItem Query UpdateItem", arns.tally_table),
            rules,
        ]
    # Not CreateLogGroup: deployment creates the groups, with a retention, and would fail if a function were first.
    return {
        name: policy(
            [
                *specific,
                allow("logs", "CreateLogStream PutLogEvents", arns.logs(name)),
                allow("xray", "PutTraceSegments PutTelemetryRecords", "*"),
            ]
        )
        for name, specific in statements.items()
    }


def arns_of(stage: Stage, ip_sets: Sequence[str], *, tally_stream: str, state_stream: str) -> Arns:
    """Returns a stage's ARNs. AWS chooses those of the IP sets and of the tables' streams."""
    location, buckets = stage.location, stage.choices.buckets
    return Arns(
        log_stream=stage.log_stream_arn,
        tally_table=stage.table_arn(stage.tally_table),
        tally_stream=tally_stream,
        state_table=stage.table_arn(stage.state_table),
        state_stream=state_stream,
        ip_sets=ip_sets,
        tokens=location.arn("ssm", f"parameter{stage.tokens_parameter}"),
        logs=lambda function: location.arn("logs", f"log-group:{stage.log_group(function)}:*"),
        objects_queue=stage.queue_arn(stage.objects_queue) if buckets else None,
        buckets=sorted({stage.bucket_arn(entry) for entry in buckets}),
        objects=[f"{stage.bucket_arn(entry)}/{split_bucket(entry)[1]}*" for entry in buckets],
        kms_keys=stage.choices.kms_keys,
        dead_letters=stage.queue_arn(stage.dead_letters),
        event_bus=stage.event_bus_arn,
    )


ACCOUNT_ARN = "arn:${{AWS::Partition}}:{}:${{AWS::Region}}:${{AWS::AccountId}}"

STACK = Arns(
    log_stream={"Fn::GetAtt": ["LogStream", "Arn"]},
    tally_table={"Fn::GetAtt": ["TallyTable", "Arn"]},
    tally_stream={"Fn::GetAtt": ["TallyTable", "StreamArn"]},
    state_table={"Fn::GetAtt": ["StateTable", "Arn"]},
    state_stream={"Fn::GetAtt": ["StateTable", "StreamArn"]},
    ip_sets=ip_set_arns(),
    tokens={"Fn::Sub": f"{ACCOUNT_ARN.format('ssm')}:parameter/sluice/${{Stage}}/tokens"},
    logs=lambda function: {
        "Fn::Sub": f"{ACCOUNT_ARN.format('logs')}:log-group:/aws/lambda/sluice-${{Stage}}-{function}:*"
    },
    objects_queue={"Fn::GetAtt": ["ObjectsQueue", "Arn"]},
    buckets=[{"Fn::Sub": "arn:${AWS::Partition}:s3:::${ObjectsBucket}"}],
    objects=[{"Fn::Sub": "arn:${AWS::Partition}:s3:::${ObjectsBucket}/${ObjectsPrefix}*"}],
    dead_letters={"Fn::GetAtt": ["DeadLetters", "Arn"]},
    # Without a bus, this ARN names none.
    event_bus={"Fn::Sub": f"{ACCOUNT_ARN.format('events')}:event-bus/${{EventBus}}"},
)
"""The resources of ``.chalice/resources.yaml``."""


def file_name(function: str, stage: str | None = None) -> str:
    """Returns the name of a function's policy file in ``.chalice``; without a stage, for ``chalice package``.

    >>> file_name("ingest"), file_name("ingest", "prod")
    ('policy-ingest.json', 'policy-prod-ingest.json')
    """
    return f"policy-{stage}-{function}.json" if stage else f"policy-{function}.json"


def write(directory: Path, policies: Mapping[str, Policy], stage: str | None = None) -> None:
    for function, policy in policies.items():
        (directory / file_name(function, stage)).write_text(json.dumps(policy, indent=2) + "\n")


FUNCTIONS = tuple(policies(STACK))
"""Names of all functions in Chalice's configuration."""


def deployed_functions(stage: Stage) -> tuple[str, ...]:
    """Returns the names of the functions that a stage deploys: only a stage with buckets imports objects.

    API Gateway needs no authorizer if IAM checks its callers.
    """
    unwanted = {*(() if stage.choices.buckets else ("import_objects",))}
    if stage.choices.settings.get("ADMIN_AUTH") == "iam":
        unwanted.add("authorize")
    return tuple(name for name in FUNCTIONS if name not in unwanted)


if __name__ == "__main__":
    write(Path(".chalice"), policies(STACK))
