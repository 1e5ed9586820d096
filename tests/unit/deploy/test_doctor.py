"""The doctor's checks report nothing in a healthy stage, and each problem that a test causes."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.awslambda.models import lambda_backends

from chalicelib.core.state.breakers import RuleBreaker
from chalicelib.core.state.feeds import Feed
from chalicelib.core.state.operators import Pause
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.core.state.records import StateRecord, Unreadable
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.core.state.trends import TrendMark
from chalicelib.core.tokens import SECRET_BYTES, Role, dump_tokens, issue
from chalicelib.edges.state_table import StateTable
from chalicelib.ports import Item
from sluice.commands.setup import STACK_OWNS
from sluice.deploy.api_policy import api_policy
from sluice.deploy.doctor.checks import CHECKS, inspect
from sluice.deploy.doctor.deployment import api, event_sources, of_stack, settings, throttled
from sluice.deploy.doctor.enforcement import associated
from sluice.deploy.doctor.flow import records
from sluice.deploy.doctor.inspection import Finding, Inspection
from sluice.deploy.doctor.messages import alarms, notices
from sluice.deploy.resources.api_throttle import ApiThrottle
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.event_sources import configured_sources
from sluice.deploy.stage import Stage
from tests.support.deploy.account import NOW, REGION, RULES, THEIRS, World
from tests.support.deploy.additions import TEMPLATE
from tests.support.deploy.cloud_formation import FakeStack
from tests.support.deploy.front import run_no_functions

BLOCKING = RULES.replace('action = "count"', 'action = "block"', 1)
LISTENERS = {"ingest": "sluice-prod-logs", "evaluate": "tally", "enforce": "state", "publish": "state"}


class DeployedStage:
    """A healthy stage, and ways to break it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.account = world.account
        self.stage = world.stage(web_acls=(world.web_acl(),))
        self.world.set_up(self.stage)
        self.store(Heartbeat(at=NOW - 30), Heartbeat.id)
        self.store(StoredRules(text=BLOCKING), ACTIVE)
        self._deploy()
        self.report("AWS/Kinesis", "IncomingRecords", 5000, StreamName=self.stage.log_stream)
        self.report("Sluice", "Requests", 5000, service="sluice-prod")
        self.report("AWS/Lambda", "IteratorAge", 800, FunctionName="sluice-prod-ingest")

    def inspection(self) -> Inspection:
        return Inspection(self.stage, self.account, self.world.project, NOW)

    def findings(self) -> list[Finding]:
        """Returns the findings, without the remark that nothing watches the stage."""
        return inspect(self.inspection(), [check for check in CHECKS if check is not alarms])

    def store(self, record: StateRecord, id: str) -> None:
        state = StateTable(self.account.client("dynamodb"), self.stage.state_table)
        state.put_over([Item(kind=record.kind, id=id, body=record.to_json())])

    def report(self, namespace: str, name: str, value: float, **dimensions: str) -> None:
        self.account.client("cloudwatch").put_metric_data(
            Namespace=namespace,
            MetricData=[
                {
                    "MetricName": name,
                    "Value": value,
                    "Timestamp": datetime.fromtimestamp(NOW - 60, UTC),
                    "Dimensions": [{"Name": key, "Value": dimension} for key, dimension in dimensions.items()],
                }
            ],
        )

    def _deploy(self) -> None:
        """Creates what ``sluice deploy`` creates, as far as the doctor reads it."""
        project, iam, client = self.world.project, self.account.client("iam"), self.account.client("lambda")
        written = project.stage("prod")
        assert written is not None
        sources = {
            "sluice-prod-logs": self.stage.log_stream_arn,
            "tally": written["environment_variables"]["TALLY_STREAM_ARN"],
            "state": written["environment_variables"]["STATE_STREAM_ARN"],
        }
        trust = {"Service": "lambda.amazonaws.com"}
        assume = {"Statement": [{"Effect": "Allow", "Principal": trust, "Action": "sts:AssumeRole"}]}
        for name, policy in project.policies("prod").items():
            role = f"sluice-prod-{name}"
            arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(assume))["Role"]["Arn"]
            iam.put_role_policy(RoleName=role, PolicyName=role, PolicyDocument=json.dumps(policy))
            function = "sluice-prod" if name == "api_handler" else role
            client.create_function(
                FunctionName=function,
                Role=arn,
                Handler="app.x",
                Runtime="python3.13",
                Architectures=["arm64"],
                Code={"ZipFile": b"PK\x05\x06" + bytes(18)},
                Environment={"Variables": written["environment_variables"]},
                MemorySize=1769,
            )
            if executions := project.reserved("prod", name):
                client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=executions)
            if name in LISTENERS:
                client.create_event_source_mapping(
                    FunctionName=function,
                    EventSourceArn=sources[LISTENERS[name]],
                    StartingPosition="TRIM_HORIZON",
                )
        for event_source in configured_sources(self.stage):
            existing = event_source.find(self.account)
            assert existing is not None
            event_source.change(self.account, existing)
        self.create_api()
        throttle = ApiThrottle(self.stage, self.stage.prefix)
        existing = throttle.find(self.account)
        assert existing is not None
        throttle.change(self.account, existing)
        run_no_functions(REGION)

    def create_api(self, *, served: bool = True) -> str:
        """Creates an API that invokes the stage's function, and returns its id."""
        client = self.account.client("apigateway")
        api: str = client.create_rest_api(name="sluice")["id"]
        (root,) = client.get_resources(restApiId=api)["items"]
        method = {"restApiId": api, "resourceId": root["id"], "httpMethod": "GET"}
        client.put_method(**method, authorizationType="NONE")
        arn = self.stage.location.arn("lambda", "function:sluice-prod")
        uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations"
        client.put_integration(**method, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
        if served:
            client.create_deployment(restApiId=api, stageName="api")
        return api


@pytest.fixture
def deployed(world: World) -> DeployedStage:
    return DeployedStage(world)


def test_a_healthy_stage_has_no_findings(deployed: DeployedStage) -> None:
    assert deployed.findings() == []


def remove_api(deployed: DeployedStage) -> None:
    client = deployed.account.client("apigateway")
    (api,) = client.get_rest_apis()["items"]
    client.delete_rest_api(restApiId=api["id"])


def replace_api(deployed: DeployedStage) -> None:
    """As a deployment by Chalice does that has lost its record."""
    remove_api(deployed)
    deployed.create_api()


def restrict_api(deployed: DeployedStage, networks: Sequence[str] = ("8.8.8.0/24",)) -> str:
    """As a deployment does with another setting. Returns the API's id."""
    client = deployed.account.client("apigateway")
    (api,) = client.get_rest_apis()["items"]
    policy = json.dumps(api_policy(networks))
    operations = [{"op": "replace", "path": "/policy", "value": policy.replace('"', '\\"')}]
    client.update_rest_api(restApiId=api["id"], patchOperations=operations)
    return str(api["id"])


def interrupt_an_upgrade(deployed: DeployedStage) -> None:
    client = deployed.account.client("lambda")
    client.update_function_code(FunctionName="sluice-prod-enforce", ZipFile=b"PK\x05\x06" + bytes(17) + b"x")


def parallelise(deployed: DeployedStage) -> None:
    client = deployed.account.client("lambda")
    (mapping,) = client.list_event_source_mappings(FunctionName="sluice-prod-ingest")["EventSourceMappings"]
    client.update_event_source_mapping(UUID=mapping["UUID"], ParallelizationFactor=2)


def repeat_whole_batches(deployed: DeployedStage) -> None:
    client = deployed.account.client("lambda")
    (mapping,) = client.list_event_source_mappings(FunctionName="sluice-prod-enforce")["EventSourceMappings"]
    client.update_event_source_mapping(UUID=mapping["UUID"], BisectBatchOnFunctionError=False)


def weaken(deployed: DeployedStage) -> None:
    role = "sluice-prod-publish"
    iam = deployed.account.client("iam")
    policy = iam.get_role_policy(RoleName=role, PolicyName=role)["PolicyDocument"]
    for statement in policy["Statement"]:
        statement["Action"] = [action for action in statement["Action"] if action != "wafv2:UpdateIPSet"]
    iam.put_role_policy(RoleName=role, PolicyName=role, PolicyDocument=json.dumps(policy))


def reconfigure(deployed: DeployedStage, **changes: str) -> None:
    client = deployed.account.client("lambda")
    variables = client.get_function_configuration(FunctionName="sluice-prod-ingest")["Environment"]["Variables"]
    client.update_function_configuration(
        FunctionName="sluice-prod-ingest", Environment={"Variables": {**variables, **changes}}
    )


def shrink(deployed: DeployedStage) -> None:
    deployed.account.client("lambda").update_function_configuration(
        FunctionName="sluice-prod-evaluate", MemorySize=1024
    )


def outdate(deployed: DeployedStage) -> None:
    deployed.account.client("lambda").update_function_configuration(
        FunctionName="sluice-prod-sweep", Runtime="python3.11"
    )


def forget_source(deployed: DeployedStage) -> None:
    client = deployed.account.client("lambda")
    (mapping,) = client.list_event_source_mappings(FunctionName="sluice-prod-enforce")["EventSourceMappings"]
    client.delete_event_source_mapping(UUID=mapping["UUID"])


def read_a_former_table(deployed: DeployedStage) -> None:
    mappings = lambda_backends["123456789012"][REGION]._event_source_mappings.values()
    for mapping in mappings:
        if mapping.function_arn.endswith(":sluice-prod-publish"):
            mapping.event_source_arn = mapping.event_source_arn.rpartition("/")[0] + "/2020-01-01T00:00:00.000"


def expire_tokens(deployed: DeployedStage, at: int) -> None:
    """Leaves a token that expires at ``at``, and one that has expired."""
    issued = [
        issue(name, Role.OPERATOR, secret=bytes([number] * SECRET_BYTES), now=0, expires_at=end)[1]
        for number, (name, end) in enumerate((("alice", at), ("bob", NOW - 86400)))
    ]
    deployed.account.client("ssm").put_parameter(
        Name="/sluice/prod/tokens", Type="SecureString", Value=dump_tokens(issued), Overwrite=True
    )


def expire_tokens_now(deployed: DeployedStage) -> None:
    expire_tokens(deployed, NOW)


def drop_field(deployed: DeployedStage) -> None:
    deployed.world.front.log_configs["sluice-prod"]["Fields"].remove("cs-host")


def sample(deployed: DeployedStage) -> None:
    deployed.world.front.log_configs["sluice-prod"]["SamplingRate"] = 10


def stop_expiry(deployed: DeployedStage) -> None:
    deployed.account.client("dynamodb").update_time_to_live(
        TableName=deployed.stage.tally_table, TimeToLiveSpecification={"Enabled": False, "AttributeName": "expires_at"}
    )


def flood(deployed: DeployedStage) -> None:
    deployed.report("Sluice", "Malformed", 4000, service="sluice-prod")


def fall_behind(deployed: DeployedStage, function: str) -> None:
    deployed.report("AWS/Lambda", "IteratorAge", 600_000, FunctionName=f"sluice-prod-{function}")


def stop_stream(deployed: DeployedStage) -> None:
    deployed.account.client("dynamodb").update_table(
        TableName=deployed.stage.tally_table, StreamSpecification={"StreamEnabled": False}
    )


def refuse_lines(deployed: DeployedStage) -> None:
    deployed.report("AWS/Kinesis", "WriteProvisionedThroughputExceeded", 12, StreamName="sluice-prod-logs")


def remove_function(deployed: DeployedStage) -> None:
    deployed.account.client("lambda").delete_function(FunctionName="sluice-prod-sweep")


def reserve_nothing(deployed: DeployedStage) -> None:
    client = deployed.account.client("lambda")
    for function in client.list_functions()["Functions"]:
        client.delete_function_concurrency(FunctionName=function["FunctionName"])


def new_account(deployed: DeployedStage) -> None:
    remove_function(deployed)
    reserve_nothing(deployed)
    deployed.world.front.concurrency = 100


def delay(deployed: DeployedStage) -> None:
    deployed.account.client("lambda").delete_function_concurrency(FunctionName="sluice-prod-sweep")
    deployed.report("AWS/Lambda", "Throttles", 7, FunctionName="sluice-prod-sweep")


def encrypt_tokens(deployed: DeployedStage) -> None:
    key = deployed.account.client("kms").create_key()["KeyMetadata"]["KeyId"]
    client = deployed.account.client("ssm")
    tokens = client.get_parameter(Name="/sluice/prod/tokens", WithDecryption=True)["Parameter"]["Value"]
    client.put_parameter(Name="/sluice/prod/tokens", Type="SecureString", Value=tokens, KeyId=key, Overwrite=True)


def come_late(deployed: DeployedStage) -> None:
    deployed.report("Sluice", "Late", 1000, service="sluice-prod")


def come_late_with_the_longest_retention(deployed: DeployedStage) -> None:
    come_late(deployed)
    reconfigure(deployed, RETENTION_S="93600")


def override(deployed: DeployedStage, **changes: Any) -> None:
    """Changes Sluice's rule in the web ACL by hand."""
    waf, (arn,) = deployed.account.client("wafv2"), deployed.stage.choices.web_acls
    identity = {"Name": "edge", "Scope": "CLOUDFRONT", "Id": arn.rsplit("/", 1)[1]}
    answer = waf.get_web_acl(**identity)
    acl, (rule,) = answer["WebACL"], answer["WebACL"]["Rules"]
    group = {**rule["Statement"]["RuleGroupReferenceStatement"], **changes.pop("group", {})}
    changed = {**rule, "Statement": {"RuleGroupReferenceStatement": group}, **changes}
    kept = {name: acl[name] for name in ("DefaultAction", "VisibilityConfig")}
    waf.update_web_acl(**identity, **kept, Rules=[changed], LockToken=answer["LockToken"])


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        pytest.param(stop_expiry, [("drift", "sluice-prod-tally", "sluice setup")], id="a table has drifted"),
        pytest.param(remove_function, [("functions", "sweep", "sluice deploy")], id="a function is missing"),
        pytest.param(
            new_account,
            [("functions", "sweep", "sluice deploy"), ("concurrency", "nothing is reserved", "ask AWS for 1,000")],
            id="a new account",
        ),
        pytest.param(
            outdate,
            [("runtime", "python3.11", "python3.13")],
            id="an old runtime",
        ),
        pytest.param(weaken, [("permissions", "wafv2:UpdateIPSet", "sluice deploy")], id="a permission is missing"),
        pytest.param(
            lambda deployed: reconfigure(deployed, LATENESS_S="60"),
            [("settings", "LATENESS_S", "sluice deploy")],
            id="a setting differs",
        ),
        pytest.param(
            shrink,
            [("settings", "evaluate runs with 1024 MB instead of 1769", "sluice deploy")],
            id="the memory differs",
        ),
        pytest.param(
            forget_source, [("event sources", "enforce has no event source", "sluice deploy")], id="no source"
        ),
        pytest.param(
            repeat_whole_batches,
            [("event sources", "enforce lacks settings: halving of a batch that fails", "sluice deploy")],
            id="failing batches are not halved",
        ),
        pytest.param(
            parallelise,
            [("event sources", "ingest reads 2 batches of a shard at once", "--parallelization-factor 1")],
            id="batches of a shard in parallel",
        ),
        pytest.param(
            lambda deployed: deployed.account.client("lambda").put_function_concurrency(
                FunctionName="sluice-prod-ingest", ReservedConcurrentExecutions=1
            ),
            [("lag", "4 shards, but only 1 of them are read at once", "reserved concurrency of ingest to 4")],
            id="more shards than concurrency",
        ),
        pytest.param(
            lambda deployed: deployed.account.client("lambda").put_function_concurrency(
                FunctionName="sluice-prod-ingest", ReservedConcurrentExecutions=0
            ),
            [("concurrency", "ingest never runs", "delete-function-concurrency --function-name sluice-prod-ingest")],
            id="a function that was throttled by hand",
        ),
        pytest.param(
            delay,
            [("concurrency", "sweep was delayed 7 times", "ask AWS for more concurrent executions")],
            id="an account without executions left",
        ),
        pytest.param(
            reserve_nothing,
            [("concurrency", "the functions reserve nothing, and the account has room for 37", "sluice deploy")],
            id="room, and nothing is reserved",
        ),
        pytest.param(
            encrypt_tokens,
            [("tokens", "which authorize has no permission to use", "sluice token create --stage prod")],
            id="tokens under another key",
        ),
        pytest.param(come_late, [("late", "17 % of the requests came too late", "--set RETENTION_S=")], id="late"),
        pytest.param(
            come_late_with_the_longest_retention,
            [("settings", "RETENTION_S", "sluice deploy"), ("late", "17 %", "none counts after 26 hours")],
            id="late with the longest retention",
        ),
        pytest.param(
            lambda deployed: override(deployed, OverrideAction={"Count": {}}),
            [("web ACL", "in web ACL edge, sluice-prod is overridden to Count", "sluice detach --stage prod")],
            id="a rule group that only counts",
        ),
        pytest.param(
            lambda deployed: override(
                deployed,
                group={"RuleActionOverrides": [{"Name": "sluice-prod-ipv4", "ActionToUse": {"Count": {}}}]},
            ),
            [("web ACL", "sluice-prod has overrides: sluice-prod-ipv4 (Count)", "sluice setup --stage prod")],
            id="a rule of the group that only counts",
        ),
        pytest.param(
            lambda deployed: override(
                deployed,
                group={
                    "RuleActionOverrides": [
                        {"Name": name, "ActionToUse": {"Count": {}}}
                        for name in ("sluice-prod-former", "sluice-prod-watch")
                    ]
                },
            ),
            [],
            id="overrides that change nothing",
        ),
        pytest.param(
            drop_field,
            [("drift", "fields become", "sluice setup"), ("fields", "cs-host", "sluice setup")],
            id="the fields differ",
        ),
        pytest.param(
            sample,
            [
                ("drift", "10 % of requests", "sluice setup"),
                ("sampling", "ingest assumes 100 %", "--sample-rate 10"),
                ("sampling", "estimates", "--sample-rate 100"),
            ],
            id="the logs are sampled",
        ),
        pytest.param(
            read_a_former_table,
            [
                (
                    "event sources",
                    "the stream of a former table: it sees nothing of what is written now",
                    "sluice deploy",
                )
            ],
            id="the stream of a former table",
        ),
        pytest.param(
            lambda deployed: expire_tokens(deployed, NOW),
            [("tokens", "every token of the admin API has expired", "sluice token create --stage prod")],
            id="expired tokens",
        ),
        pytest.param(
            lambda deployed: expire_tokens(deployed, NOW + 3 * 86400),
            [("tokens", "will have expired in 3 days", "sluice token create --stage prod")],
            id="tokens that expire soon",
        ),
        pytest.param(
            lambda deployed: deployed.report("Sluice", "PublishFailures", 2, service="sluice-prod"),
            [("publishing", "2 updates of IP sets failed", "/aws/lambda/sluice-prod-publish")],
            id="AWS WAF rejects updates",
        ),
        pytest.param(
            lambda deployed: deployed.report("Sluice", "Overflow", 40, service="sluice-prod"),
            [("publishing", "40 networks over a limit cannot be blocked", "--ip-sets 2")],
            id="the IP sets are full",
        ),
        pytest.param(
            lambda deployed: deployed.report(
                "AWS/SQS", "ApproximateNumberOfMessagesVisible", 1, QueueName="sluice-prod-dead-letters"
            ),
            [("publishing", "1 message about changes that could not be handled", "/aws/lambda/sluice-prod-enforce")],
            id="dead letters",
        ),
        pytest.param(
            lambda deployed: deployed.report("Sluice", "ViewDropped", 70, service="sluice-prod"),
            [("memory", "evaluate dropped 70 clients", "--requests-per-second")],
            id="evaluate is full",
        ),
        pytest.param(
            lambda deployed: deployed.report("Sluice", "QuotaDropped", 80, service="sluice-prod"),
            [("memory", "sweep dropped 80 clients", "lambda_memory_size of sweep")],
            id="sweep is full",
        ),
        pytest.param(
            lambda deployed: deployed.report("Sluice", "QuotaMissing", 3, service="sluice-prod"),
            [("quotas", "3 tallies no longer existed", "/aws/lambda/sluice-prod-sweep")],
            id="tallies of quotas have expired",
        ),
        pytest.param(flood, [("malformed", "44 %", "/aws/lambda/sluice-prod-ingest")], id="malformed lines"),
        pytest.param(
            lambda deployed: fall_behind(deployed, "ingest"),
            [("lag", "ingest was 600 s behind", "more shards")],
            id="ingest is behind",
        ),
        pytest.param(remove_api, [("API", "does not exist", "sluice deploy")], id="the API is missing"),
        pytest.param(replace_api, [("API", "has no throttle", "sluice deploy")], id="an API without a throttle"),
        pytest.param(
            lambda deployed: deployed.create_api(served=False),
            [("API", "invokes the functions as well as", "aws apigateway delete-rest-api --rest-api-id")],
            id="a second API",
        ),
        pytest.param(
            restrict_api,
            [("API", "accepts calls from 8.8.8.0/24 alone, but API_NETWORKS is empty", "sluice deploy")],
            id="an API with another policy",
        ),
        pytest.param(
            interrupt_an_upgrade,
            [("functions", "different code", "sluice deploy")],
            id="an interrupted upgrade",
        ),
        *(
            pytest.param(
                partial(fall_behind, function=function),
                [("lag", f"{function} was 600 s behind", "no other function reads the stream of the state table")],
                id=f"{function} is behind",
            )
            for function in ("enforce", "publish")
        ),
        pytest.param(
            lambda deployed: fall_behind(deployed, "evaluate"),
            [("lag", "evaluate was 600 s behind", "--requests-per-second")],
            id="evaluate is behind",
        ),
        pytest.param(
            stop_stream,
            [("drift", "stream of keys", "sluice setup"), ("drift", "Chalice stage", "sluice setup")],
            id="a stream is off",
        ),
        pytest.param(refuse_lines, [("records", "rejected 12 records", "adds shards itself")], id="too few shards"),
        pytest.param(
            lambda deployed: deployed.store(Heartbeat(at=NOW - 600), Heartbeat.id),
            [("sweep", "600 s ago", "/aws/lambda/sluice-prod-sweep")],
            id="a stale sweep",
        ),
        pytest.param(
            lambda deployed: deployed.store(TrendMark(at=NOW - 1801), TrendMark.id),
            [("trends", "added up for trends 30m 1s ago", "/aws/lambda/sluice-prod-sweep")],
            id="trends that are not added up",
        ),
        pytest.param(
            lambda deployed: deployed.store(TrendMark(at=NOW - 1020), TrendMark.id),
            [],
            id="trends of the quarter hour that is over",
        ),
        pytest.param(
            lambda deployed: deployed.store(Pause(paused=True), Pause.id),
            [("paused", "is paused", "sluice resume")],
            id="paused",
        ),
        pytest.param(
            lambda deployed: deployed.store(Pause(paused=True, until=NOW), Pause.id), [], id="a pause that is over"
        ),
        pytest.param(
            lambda deployed: deployed.store(
                RuleBreaker(rule="burst", stopped_at=NOW - 60, would_hit=812, known=2000), "burst"
            ),
            [("breaker", "burst is stopped: it would have blocked 812 of 2000", "sluice breaker reset burst")],
            id="a rule is stopped",
        ),
        pytest.param(
            lambda deployed: deployed.store(StoredRules(text="[[rule]]"), ACTIVE),
            [("rules", "name: missing", "store valid rules")],
            id="invalid rules",
        ),
        pytest.param(
            lambda deployed: deployed.store(StoredRules(text=RULES), ACTIVE),
            [("rules", "only count", "block")],
            id="rules that only count",
        ),
    ],
)
def test_each_problem_is_reported_with_its_remedy_and_nothing_else(
    deployed: DeployedStage, damage: Callable[[DeployedStage], object], expected: Iterable[tuple[str, str, str]]
) -> None:
    damage(deployed)
    findings = deployed.findings()
    assert [finding.check for finding in findings] == [check for check, _, _ in expected]
    for finding, (_, what, remedy) in zip(findings, expected, strict=True):
        assert what in finding.what
        assert remedy in finding.remedy


@pytest.mark.parametrize(("stack", "published"), [("", False), ("sluice-prod", False), ("sluice-prod", True)])
def test_every_remedy_is_accepted_by_the_stage_that_it_is_for(
    deployed: DeployedStage, stack: str, *, published: bool
) -> None:
    if published:
        parameters = {"CodeBucket": "packages-of-ops"}
        deployed.world.front.cloud_formation.stacks.append(FakeStack(stack, "id", "CREATE_COMPLETE", {}, parameters))
    choices = replace(deployed.stage.choices, stack=stack, shards=2)
    for damage in (refuse_lines, sample, drop_field, expire_tokens_now, flood, weaken, parallelise, forget_source):
        damage(deployed)
    for function in ("ingest", "evaluate", "publish"):
        fall_behind(deployed, function)
    for name in ("PublishFailures", "Overflow", "ViewDropped", "QuotaDropped", "Offenders.proxy"):
        deployed.report("Sluice", name, 2, service="sluice-prod")
    reserve = deployed.account.client("lambda").put_function_concurrency
    for function, executions in (("ingest", 1), ("publish", 0)):
        reserve(FunctionName=f"sluice-prod-{function}", ReservedConcurrentExecutions=executions)
    deployed.stage = replace(deployed.stage, choices=choices)
    remedies = [finding.remedy for finding in inspect(deployed.inspection())]
    assert len(remedies) > 15
    refused = [option for options, _, _ in STACK_OWNS for option in options.split(", ")]
    for command in (each for remedy in remedies for each in remedy.split("sluice ")[1:]):
        if stack:
            assert not command.startswith("deploy"), command
            assert not [each for each in (*refused, "--ip-sets", "--requests-per-second") if each in command], command
        else:
            assert not command.startswith("stack"), command
        assert set(re.findall(r"--parameter (\w+)", command)) <= TEMPLATE["Parameters"].keys()
    assert any("--parameter Shards=4" in remedy for remedy in remedies) == (bool(stack) and not published)
    if published:
        assert not [remedy for remedy in remedies if "sluice stack deploy" in remedy]
        where = "in the CloudFormation console, or with the tool that deploys it"
        assert f"update stack sluice-prod with Shards=4 {where}" in remedies
    assert any("--set TRUSTED_PROXIES" in remedy for remedy in remedies) == (not stack)


def test_what_a_stack_created_and_someone_removed_or_changed_is_reported(deployed: DeployedStage) -> None:
    deployed.stage = replace(deployed.stage, choices=replace(deployed.stage.choices, stack="sluice-prod"))
    assert list(of_stack(deployed.inspection())) == []
    client = deployed.account.client("wafv2")
    (group,) = client.list_rule_groups(Scope="CLOUDFRONT")["RuleGroups"]
    identity = {"Name": group["Name"], "Scope": "CLOUDFRONT", "Id": group["Id"]}
    answer = client.get_rule_group(**identity)
    rules = [rule | {"Action": {"Count": {}}} for rule in answer["RuleGroup"]["Rules"]]
    visibility = answer["RuleGroup"]["VisibilityConfig"]
    client.update_rule_group(**identity, Rules=rules, VisibilityConfig=visibility, LockToken=answer["LockToken"])
    deployed.account.client("sqs").delete_queue(QueueUrl=deployed.account.client("sqs").list_queues()["QueueUrls"][0])
    found = list(of_stack(deployed.inspection()))
    assert [finding.what for finding in found] == [
        "SQS queue sluice-prod-dead-letters: is missing",
        "WAF rule group sluice-prod: its answers change",
    ]
    assert all("drift-aware change set of stack sluice-prod" in finding.remedy for finding in found)


def test_a_stack_is_checked_without_a_checkout(deployed: DeployedStage, tmp_path: Path) -> None:
    """As after a deployment from the CloudFormation console, with the wheel alone."""
    deployed.stage = replace(deployed.stage, choices=replace(deployed.stage.choices, stack="sluice-prod"))
    outdate(deployed)
    deployed.world.project = Project(tmp_path / "nothing")
    found = [(finding.check, finding.what) for finding in deployed.findings()]
    assert [what for check, what in found if check == "drift"] == ["SSM parameter /sluice/prod/attached: is missing"]
    assert [check for check, _ in found if check != "drift"] == ["runtime"]


def test_the_api_of_a_stack_is_checked_under_the_name_that_the_stack_gives_it(deployed: DeployedStage) -> None:
    deployed.stage = replace(deployed.stage, choices=replace(deployed.stage.choices, stack="sluice-prod"))
    client = deployed.account.client("lambda")
    former = client.get_function(FunctionName="sluice-prod")["Configuration"]
    client.delete_function(FunctionName="sluice-prod")
    kept = {key: former[key] for key in ("Role", "Handler", "Runtime", "Architectures", "Environment", "MemorySize")}
    code = {"ZipFile": b"PK\x05\x06" + bytes(18)}
    client.create_function(FunctionName="sluice-prod-api_handler", Code=code, **kept)
    assert list(throttled(deployed.inspection())) == []
    client.put_function_concurrency(FunctionName="sluice-prod-api_handler", ReservedConcurrentExecutions=0)
    (finding,) = throttled(deployed.inspection())
    assert finding.remedy == "aws lambda delete-function-concurrency --function-name sluice-prod-api_handler"


def test_callers_whom_the_api_of_a_stack_accepts_against_its_parameter_are_reported(deployed: DeployedStage) -> None:
    def found(networks: str) -> list[tuple[str, str]]:
        choices = replace(deployed.stage.choices, stack="s", settings={"API_NETWORKS": networks})
        deployed.stage = replace(deployed.stage, choices=choices)
        return [(finding.what, finding.remedy) for finding in api(deployed.inspection())]

    stacks = deployed.world.front.cloud_formation.stacks
    stacks.append(FakeStack("s", "id", "CREATE_COMPLETE", outputs={"RestAPIId": restrict_api(deployed)}))
    assert found("8.8.8.0/24") == []
    ((what, remedy),) = found("8.8.4.0/24")
    assert what == "the admin API accepts calls from 8.8.8.0/24 alone, but ApiNetworks is 8.8.4.0/24"
    assert remedy.endswith("--parameter ApiNetworks=, then the same with 8.8.4.0/24")
    ((what, remedy),) = found("")
    assert what.endswith("from 8.8.8.0/24 alone, but ApiNetworks is empty")
    assert remedy.startswith("aws apigateway update-rest-api --rest-api-id")
    ((what, remedy),) = found("10.0.0.0/8")
    assert what.startswith("the admin API may reject all calls: API_NETWORKS='10.0.0.0/8': expected public networks")
    assert remedy.endswith("--parameter ApiNetworks=NETWORKS")


def test_a_policy_that_opens_the_api_to_callers_without_iams_permission_is_reported(deployed: DeployedStage) -> None:
    restrict_api(deployed, ())
    assert list(api(deployed.inspection())) == []
    choices = replace(deployed.stage.choices, settings={"ADMIN_AUTH": "iam"})
    deployed.stage = replace(deployed.stage, choices=choices)
    (finding,) = api(deployed.inspection())
    assert finding.what.startswith("with ADMIN_AUTH=iam, the API's resource policy allows calls")
    assert finding.remedy == "sluice deploy --stage prod --region us-east-1"


def test_a_policy_of_the_operators_own_is_a_remark(deployed: DeployedStage) -> None:
    client, id_ = deployed.account.client("apigateway"), restrict_api(deployed)
    own = json.dumps({"Statement": {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}})
    client.update_rest_api(restApiId=id_, patchOperations=[{"op": "replace", "path": "/policy", "value": own}])
    (finding,) = api(deployed.inspection())
    assert (finding.wrong, finding.what) == (
        False,
        "the admin API has a resource policy of your own, and API_NETWORKS is empty",
    )


def test_settings_that_the_functions_of_a_stack_lack_are_reported(deployed: DeployedStage) -> None:
    chosen = {"LATENESS_S": "60", "EVENT_BUS": "default"}
    deployed.stage = replace(deployed.stage, choices=replace(deployed.stage.choices, stack="s", settings=chosen))
    reconfigure(deployed, LATENESS_S="60")
    found = list(settings(deployed.inspection()))
    assert len(found) == len(deployed.inspection().functions) - 1
    assert {finding.remedy for finding in found} == {"sluice stack deploy --stage prod --region us-east-1"}
    released = FakeStack("s", "id", "CREATE_COMPLETE", {}, {"CodeBucket": "packages-of-ops"})
    deployed.world.front.cloud_formation.stacks.append(released)
    first, *_ = settings(deployed.inspection())
    assert first.remedy.startswith("add them to the environment_variables of stage dev in .chalice/config.json")
    assert "enforce runs without settings that setup remembers: LATENESS_S" in [finding.what for finding in found]


def test_a_stack_with_too_little_memory_for_the_chosen_rate_is_reported(deployed: DeployedStage) -> None:
    choices = replace(deployed.stage.choices, stack="s", requests_per_second=300_000)
    deployed.stage = replace(deployed.stage, choices=choices)
    (finding,) = settings(deployed.inspection())
    assert finding.what == f"evaluate runs with 1769 MB, and the rate that setup remembers needs {choices.evaluator_mb}"
    assert finding.remedy.endswith(
        f"sluice stack deploy --stage prod --region us-east-1 --parameter EvaluateMemory={choices.evaluator_mb}"
    )


def test_what_an_update_of_a_stack_overlooks_is_restored_by_a_drift_aware_change_set(deployed: DeployedStage) -> None:
    deployed.stage = replace(deployed.stage, choices=replace(deployed.stage.choices, stack="s"))
    forget_source(deployed)
    (finding,) = [each for each in event_sources(deployed.inspection()) if "has no event source" in each.what]
    assert finding.remedy == (
        "sluice stack deploy --stage prod --region us-east-1; if that changes nothing: in the CloudFormation console, "
        "create a drift-aware change set of stack s, and execute it"
    )


def test_a_role_that_lacks_a_kind_of_record_is_reported(deployed: DeployedStage) -> None:
    """As after an upgrade of the functions without the policies: the actions are the same."""
    iam, role = deployed.account.client("iam"), "sluice-prod-sweep"
    policy = iam.get_role_policy(RoleName=role, PolicyName=role)["PolicyDocument"]
    for statement in policy["Statement"]:
        for condition in statement.get("Condition", {}).values():
            keys = condition["dynamodb:LeadingKeys"]
            condition["dynamodb:LeadingKeys"] = [key for key in keys if not key.startswith("feed")]
    iam.put_role_policy(RoleName=role, PolicyName=role, PolicyDocument=json.dumps(policy))
    (finding,) = deployed.findings()
    assert finding.check == "permissions"
    assert "sweep may not call dynamodb:BatchGetItem (feed, feed-networks)" in finding.what


def test_a_provisioned_stream_that_rejects_lines_needs_twice_the_shards(deployed: DeployedStage) -> None:
    refuse_lines(deployed)
    deployed.stage = replace(deployed.stage, choices=deployed.stage.choices.with_changes(shards=2))
    assert [finding.remedy for finding in records(deployed.inspection())] == [
        "sluice setup --stage prod --region us-east-1 --shards 4"
    ]


def test_an_architecture_other_than_the_configured_one_is_reported(deployed: DeployedStage) -> None:
    deployed.world.project.config_file.write_text(
        deployed.world.project.config_file.read_text().replace('"arm64"', '"x86_64"')
    )
    (finding,) = deployed.findings()
    assert finding.check == "runtime"
    assert "run on arm64" in finding.what
    assert finding.what.endswith("says x86_64")


def test_rules_that_may_end_evaluation_before_sluice_are_reported_in_their_order(deployed: DeployedStage) -> None:
    waf, (arn,) = deployed.account.client("wafv2"), deployed.stage.choices.web_acls
    identity = {"Name": "edge", "Scope": "CLOUDFRONT", "Id": arn.rsplit("/", 1)[1]}
    answer = waf.get_web_acl(**identity)
    (own,) = answer["WebACL"]["Rules"]
    others = [("office", 4, "Allow"), ("bots", 2, "Allow"), ("countries", 3, "Count"), ("health", 9, "Allow")]
    rules = [THEIRS | {"Name": name, "Priority": at, "Action": {action: {}}} for name, at, action in others]
    waf.update_web_acl(
        **identity,
        DefaultAction=answer["WebACL"]["DefaultAction"],
        VisibilityConfig=answer["WebACL"]["VisibilityConfig"],
        Rules=[*rules, own | {"Priority": 5}],
        LockToken=answer["LockToken"],
    )
    (finding,) = deployed.findings()
    allows = "allows requests, also those of blocked clients"
    assert finding.what == (
        "in web ACL edge, 2 rules before sluice-prod may end the evaluation of a request: "
        f"bots ({allows}), office ({allows})"
    )
    assert finding.remedy.startswith("sluice setup --stage prod --region us-east-1 --renumber")
    assert not finding.wrong


def test_an_empty_stream_is_reported(world: World) -> None:
    stage = world.stage()
    world.set_up(stage)
    findings = inspect(Inspection(stage, world.account, world.project, NOW))
    assert {"records", "functions", "sweep", "web ACL"} <= {finding.check for finding in findings}
    (arrived,) = [finding for finding in findings if finding.check == "records"]
    assert "nothing has arrived" in arrived.what
    assert arrived.remedy.startswith("count a log with requests: sluice setup")
    (functions,) = [finding.what for finding in findings if finding.check == "functions"]
    assert functions == "ingest, evaluate, enforce, publish, sweep, api_handler, authorize are not deployed"
    attached = Inspection(world.stage(distributions=("E2EXAMPLE1234",)), world.account, world.project, NOW)
    (arrived,) = records(attached)
    assert arrived.remedy.startswith("send requests to the site, and run this again five minutes later; if it is used")
    assert [finding.wrong for finding in findings] == sorted((finding.wrong for finding in findings), reverse=True)


def test_a_check_that_aws_rejects_is_a_finding(deployed: DeployedStage) -> None:
    def forbidden(inspection: Inspection) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DescribeTable")

    findings = inspect(deployed.inspection(), [forbidden, *CHECKS[1:2]])
    assert [(f.check, f.what) for f in findings] == [("forbidden", "could not check: DescribeTable: AccessDenied: no")]


def test_a_check_that_fails_leaves_the_findings_of_the_others(deployed: DeployedStage) -> None:
    """Setup's own look at the stream is refused, and the table that holds rules and breakers is gone."""
    refused = (400, "AccessDeniedException", "not authorized")
    deployed.world.front.refusals["kinesis:DescribeStreamSummary"] = [refused] * 20
    client = deployed.account.client("dynamodb")
    client.update_table(TableName=deployed.stage.state_table, DeletionProtectionEnabled=False)
    client.delete_table(TableName=deployed.stage.state_table)
    remove_api(deployed)
    findings = deployed.findings()
    (drifted,) = [finding.what for finding in findings if finding.check == "drift"]
    assert drifted.startswith("could not check: could not ")
    assert "DescribeStreamSummary" in drifted
    assert [finding.what for finding in findings if finding.check == "API"]
    assert [finding.what for finding in findings if finding.check == "control"]


def test_doctor_names_the_rules_whose_limit_is_too_low_for_the_sample_rate(deployed: DeployedStage) -> None:
    choices = replace(deployed.stage.choices, sample_rate=1)
    deployed.stage = replace(deployed.stage, choices=choices)
    (finding,) = [finding for finding in deployed.findings() if "only counts" in finding.what]
    assert (finding.check, finding.wrong) == ("sampling", False)


def test_doctor_names_records_that_cannot_be_read(deployed: DeployedStage) -> None:
    damaged = Unreadable("allow", "192.0.2.77/24", "it has host bits set")
    deployed.store(Heartbeat(at=NOW - 30, unreadable=(damaged,)), Heartbeat.id)
    table = StateTable(deployed.account.client("dynamodb"), deployed.stage.state_table)
    table.put_over([Item(kind=StoredRules.kind, id=ACTIVE, body=b"{"), Item(kind=Pause.kind, id=Pause.id, body=b"[")])
    found = {finding.check: finding.what for finding in deployed.findings()}
    assert found["records"] == "1 stored record cannot be read, for example allow 192.0.2.77/24: it has host bits set"
    assert "no rules that can be read are stored" in found["rules"]


def test_a_feed_that_could_not_be_used_is_named_with_the_reason(deployed: DeployedStage) -> None:
    url = "https://bots.example/list"
    table = f'\n[feeds.bot]\nurl = "{url}"\nallow = true\n[feeds.new]\nurl = "{url}"\nallow = true\n'
    deployed.store(StoredRules(text=BLOCKING + table), ACTIVE)
    deployed.store(Feed(name="bot", url=url, checked_at=NOW - 30), "bot")
    assert deployed.findings() == []
    deployed.store(Feed(name="bot", url=url, checked_at=NOW - 30, problem="it contains no networks"), "bot")
    (finding,) = deployed.findings()
    assert finding.wrong
    assert finding.what == "feed bot could not be used: it contains no networks; its last list stays in use"
    assert finding.remedy == f"sluice feeds check {url} shows what is published"


def test_cdns_that_were_spared_are_reported_with_what_to_set(deployed: DeployedStage) -> None:
    deployed.report("Sluice", "Offenders.proxy", 3, service="sluice-prod")
    (finding,) = deployed.findings()
    assert finding.wrong
    assert finding.what.startswith("3 clients over a limit had the address of CloudFront or another CDN")
    assert "--set TRUSTED_PROXIES=NETWORK" in finding.remedy
    assert "--set SPARE_PROXIES=no" in finding.remedy


def test_a_distribution_behind_no_web_acl_of_the_stage_is_reported(world: World) -> None:
    id_ = world.distribution()
    stage = world.stage(web_acls=(world.web_acl(rules=[THEIRS]),), distributions=(id_,))
    world.set_up(stage)

    def found() -> list[Finding]:
        return list(associated(Inspection(stage, world.account, world.project, NOW)))

    def associate(web_acl: str) -> None:
        client = world.account.client("cloudfront")
        answer = client.get_distribution_config(Id=id_)
        config = {**answer["DistributionConfig"], "WebACLId": web_acl}
        client.update_distribution(Id=id_, IfMatch=answer["ETag"], DistributionConfig=config)

    (finding,) = found()
    assert finding.what.startswith(f"distribution {id_} has no web ACL")
    assert finding.remedy == "associate it with web ACL edge"
    associate(world.web_acl("other"))
    (finding,) = found()
    assert "has web ACL other, to which setup has not added sluice-prod" in finding.what
    assert finding.remedy.endswith("--web-acl other")
    associate(stage.choices.web_acls[0])
    assert found() == []


def test_alarms_that_notify_nobody_are_reported(world: World) -> None:
    stage = world.stage(stack="sluice-prod")

    def found() -> list[tuple[str, str]]:
        inspection = Inspection(stage, world.account, world.project, NOW)
        return [(finding.what, finding.remedy) for finding in alarms(inspection)]

    assert found() == []
    client = world.account.client("sns")
    topic = client.create_topic(Name="sluice-prod-alarms")["TopicArn"]
    ((what, remedy),) = found()
    assert what == "the alarms have no recipient"
    assert "sluice stack deploy --stage prod --region us-east-1 --parameter AlarmEmail=" in remedy
    client.subscribe(TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:123456789012:x")
    assert found() == []
    world.front.stale["sns:ListSubscriptionsByTopic"] = [
        {"Subscriptions": [{"SubscriptionArn": "PendingConfirmation"}]}
    ]
    ((what, _),) = found()
    assert what.endswith("none has confirmed the subscription")


def test_announcements_that_do_not_arrive_are_reported(deployed: DeployedStage) -> None:
    world, places = deployed.world, ("email:ops@example.com", "sns:arn:aws:sns:us-east-1:123456789012:ops", "slack")
    for bus in ("default", "security"):
        named = {"EventBusName": bus} if bus != "default" else {}
        deployed.stage = world.stage(notices=places, settings={"EVENT_BUS": bus})

        def found(stage: Stage = deployed.stage) -> list[Finding]:
            return list(notices(Inspection(stage, world.account, world.project, NOW)))

        assert found() == []
        deployed.report("AWS/Events", "FailedInvocations", 3, RuleName="sluice-prod-notify-webhook", **named)
        (finding,) = found()
        assert finding.what == "3 announcements by the rule sluice-prod-notify-webhook did not reach the target"
        assert finding.remedy.endswith("--notify slack:WEBHOOK")
    deployed.report("AWS/Events", "FailedInvocations", 1, RuleName="sluice-prod-notify-mail", EventBusName="security")
    deployed.report("Sluice", "AnnouncementFailures", 2, service="sluice-prod")
    world.account.client("sns").create_topic(Name="sluice-prod-mail")
    pending = {"SubscriptionArn": "PendingConfirmation", "Protocol": "email", "Endpoint": "ops@example.com"}
    world.front.stale["sns:ListSubscriptionsByTopic"] = [{"Subscriptions": [pending]}]
    assert [finding.what for finding in found()][:3] == [
        "announcements do not reach ops@example.com: the subscription is not confirmed",
        "2 announcements could not be sent to the event bus, and will be sent again",
        "1 announcement by the rule sluice-prod-notify-mail did not reach the target",
    ]
