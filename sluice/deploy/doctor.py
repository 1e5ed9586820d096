"""What is wrong with a deployed stage, and what to do about it. Each check is a function of its own; none changes
anything.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.core.rules import Action, RulesError, parse_rules
from chalicelib.core.state import ACTIVE, Breaker, Heartbeat, Pause, StoredRules
from chalicelib.edges.state_table import item_of
from sluice.deploy.account import Account, absent, code_of, message_of
from sluice.deploy.apply import survey
from sluice.deploy.plan import Action as Step
from sluice.deploy.plan import to_set_up
from sluice.deploy.policies import arns_of, policies
from sluice.deploy.resource import Resource
from sluice.deploy.resources.deployed import API_FUNCTIONS, EVENT_FUNCTIONS, functions_of
from sluice.deploy.resources.project import ChaliceStage
from sluice.deploy.resources.waf import ip_sets_of
from sluice.deploy.stage import Refusal, Stage

LOOKED_BACK_S = 900
STALE_S = 180
"""The sweep comes once a minute."""

BEHIND_MS = 60_000
MALFORMED_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, or worth knowing, and its remedy."""

    check: str
    what: str
    remedy: str
    wrong: bool = True
    """False: it may well be meant."""


@dataclass(frozen=True)
class Patient:
    """A stage that is examined. ``now``: epoch seconds."""

    stage: Stage
    account: Account
    now: int
    resources: Sequence[Resource] = field(repr=False)

    @cached_property
    def functions(self) -> dict[str, Mapping[str, Any]]:
        """Lambda's description of each deployed function, by the name in Chalice's configuration."""
        deployed = {about["FunctionName"]: about for about in functions_of(self.stage, self.account)}
        names = {self.stage.function(name): name for name in (*EVENT_FUNCTIONS, *API_FUNCTIONS)}
        names[self.stage.prefix] = "api_handler"
        return {names[name]: about for name, about in deployed.items()}

    def environment(self, function: str) -> Mapping[str, str]:
        variables: Mapping[str, str] = self.functions.get(function, {}).get("Environment", {}).get("Variables", {})
        return variables

    def record(self, kind: str, id: str) -> bytes | None:
        """Body of an item of the state table."""
        with absent("ResourceNotFoundException"):
            answer = self.account.client("dynamodb").get_item(
                TableName=self.stage.state_table, Key={"kind": {"S": kind}, "id": {"S": id}}, ConsistentRead=True
            )
            return item_of(answer["Item"]).body if "Item" in answer else None
        return None

    def metric(self, namespace: str, name: str, statistic: str, **dimensions: str) -> float | None:
        """Over the last quarter of an hour; None if nothing was reported."""
        points = self.account.client("cloudwatch").get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=datetime.fromtimestamp(self.now - LOOKED_BACK_S, UTC),
            EndTime=datetime.fromtimestamp(self.now, UTC),
            Period=LOOKED_BACK_S,
            Statistics=[statistic],
        )["Datapoints"]
        values: list[float] = [point[statistic] for point in points]
        if not values:
            return None
        return max(values) if statistic == "Maximum" else sum(values)

    def own_metric(self, name: str, statistic: str) -> float | None:
        return self.metric("Sluice", name, statistic, service=self.stage.prefix)

    def command(self, name: str) -> str:
        return f"sluice {name} --stage {self.stage.name} --region {self.stage.place.region}"

    @property
    def deploy(self) -> str:
        if self.stage.choices.stack:
            return f"deploy the stack {self.stage.choices.stack} again"
        return f"AWS_DEFAULT_REGION={self.stage.place.region} chalice deploy --stage {self.stage.name}"


Check = Callable[[Patient], Iterable[Finding]]


def drift(patient: Patient) -> Iterator[Finding]:
    """What setup would create or change."""
    try:
        steps = to_set_up(survey(patient.resources, patient.account))
    except Refusal as exc:
        yield Finding("drift", str(exc), "as it says; then " + patient.command("setup"))
        return
    for step in steps:
        if step.action is not Step.KEEP:
            what = "is missing" if step.action is Step.CREATE else step.detail
            yield Finding("drift", f"{step.resource.kind} {step.resource.name}: {what}", patient.command("setup"))


def deployed(patient: Patient) -> Iterator[Finding]:
    for name in EVENT_FUNCTIONS:
        if name not in patient.functions:
            yield Finding("functions", f"{name} is not deployed", patient.deploy)


def settings(patient: Patient) -> Iterator[Finding]:
    """Whether the functions run with the settings that setup has written."""
    for resource in patient.resources:
        if isinstance(resource, ChaliceStage):
            written = (resource.project.stage(patient.stage.name) or {}).get("environment_variables", {})
            for name in patient.functions:
                held = patient.environment(name)
                wrong = sorted(key for key in written.keys() | held.keys() if written.get(key) != held.get(key))
                if wrong:
                    yield Finding("settings", f"{name} runs with another {', '.join(wrong)}", patient.deploy)


def permissions(patient: Patient) -> Iterator[Finding]:
    """Whether each function's role allows what its policy names."""
    stage, account = patient.stage, patient.account
    sets = [summary["ARN"] for summary in ip_sets_of(stage, account).values()]
    wanted = policies(arns_of(stage, sets, patient.environment("enforce").get("STATE_STREAM_ARN", "")))
    for name, about in patient.functions.items():
        role = about["Role"].rpartition("/")[2]
        allowed: set[tuple[str, str]] = set()
        with absent("NoSuchEntity"):
            for policy in account.every("iam", "list_role_policies", "PolicyNames", RoleName=role):
                document = account.client("iam").get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
                allowed |= _grants(document)
        missing = sorted({action for action, _ in _grants(wanted[name]) - allowed})
        if missing:
            yield Finding("permissions", f"{name} may not {', '.join(missing)}", patient.deploy)


def _grants(policy: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {
        (action, resource)
        for statement in policy["Statement"]
        for action in _several(statement["Action"])
        for resource in _several(statement["Resource"])
        if not action.startswith(("logs:", "xray:"))
    }


def _several(one: Any) -> list[str]:
    return list(one) if isinstance(one, list) else [one]


def event_sources(patient: Patient) -> Iterator[Finding]:
    for name in ("ingest", "enforce", "publish"):
        if name not in patient.functions:
            continue
        function = patient.functions[name]["FunctionName"]
        mappings = list(
            patient.account.every("lambda", "list_event_source_mappings", "EventSourceMappings", FunctionName=function)
        )
        if not mappings:
            yield Finding("event sources", f"{name} listens to nothing", patient.deploy)
        for mapping in mappings:
            if mapping.get("State", "Enabled") not in ("Enabled", "Enabling", "Creating", "Updating"):
                remedy = f"aws lambda update-event-source-mapping --uuid {mapping['UUID']} --enabled"
                yield Finding("event sources", f"{name} does not listen: its source is {mapping['State']}", remedy)
            result = mapping.get("LastProcessingResult") or "OK"
            if result not in ("OK", "No records processed"):
                remedy = f"look into the log group /aws/lambda/{function}"
                yield Finding("event sources", f"{name}: {result}", remedy)


def records(patient: Patient) -> Iterator[Finding]:
    arrived = patient.metric("AWS/Kinesis", "IncomingRecords", "Sum", StreamName=patient.stage.log_stream)
    if not arrived:
        yield Finding(
            "records",
            f"nothing has arrived in {patient.stage.log_stream} for {LOOKED_BACK_S // 60} minutes",
            "attach the log configuration to what has traffic: "
            f"{patient.command('setup')} --distribution ID, or --web-acl NAME --source waf",
        )
    refused = patient.metric(
        "AWS/Kinesis", "WriteProvisionedThroughputExceeded", "Sum", StreamName=patient.stage.log_stream
    )
    if refused:
        remedy = f"{patient.command('setup')} --shards {2 * patient.stage.choices.shards or 0}"
        yield Finding("records", f"the stream has refused {refused:.0f} lines: they are lost", remedy)


def lag(patient: Patient) -> Iterator[Finding]:
    function = patient.stage.function("ingest")
    age = patient.metric("AWS/Lambda", "IteratorAge", "Maximum", FunctionName=function)
    if age and age > BEHIND_MS:
        yield Finding(
            "lag",
            f"ingest was {age / 1000:.0f} s behind",
            f"look into the log group /aws/lambda/{function}; with errors absent, more shards or more concurrency",
        )


def fields(patient: Patient) -> Iterator[Finding]:
    """The selected fields and the sampling of CloudFront's logs against what the functions believe."""
    if "cloudfront" not in patient.stage.choices.sources:
        return
    with absent("NoSuchRealtimeLogConfig"):
        answer = patient.account.client("cloudfront").get_realtime_log_config(Name=patient.stage.log_config)
        config = answer["RealtimeLogConfig"]
        believed = patient.environment("ingest")
        expected = set(believed.get("CLOUDFRONT_FIELDS", "").split(","))
        if believed and set(config["Fields"]) != expected:
            odd = ", ".join(sorted(set(config["Fields"]) ^ expected))
            yield Finding(
                "fields",
                f"the log configuration and ingest do not agree about {odd}: lines are malformed",
                f"{patient.command('setup')}, then {patient.deploy}",
            )
        rate = str(config["SamplingRate"])
        if believed and rate != believed.get("SAMPLE_RATE"):
            yield Finding(
                "sampling",
                f"CloudFront logs {rate} % of requests, and ingest believes {believed.get('SAMPLE_RATE')} %",
                f"{patient.command('setup')} --sample-rate {rate}, then {patient.deploy}",
            )
        if config["SamplingRate"] < 100:
            what = f"CloudFront logs {rate} % of requests: counts are estimates, and a block may come too early"
            yield Finding("sampling", what, patient.command("setup") + " --sample-rate 100", wrong=False)


def malformed(patient: Patient) -> Iterator[Finding]:
    bad, good = (patient.own_metric(name, "Sum") or 0 for name in ("Malformed", "Requests"))
    if bad > MALFORMED_SHARE * (bad + good):
        share = 100 * bad / (bad + good)
        yield Finding(
            "malformed",
            f"{share:.0f} % of the lines cannot be read",
            f"samples stand in the log group /aws/lambda/{patient.stage.function('ingest')}",
        )


def waf_filters(patient: Patient) -> Iterator[Finding]:
    if "waf" not in patient.stage.choices.sources:
        return
    for arn in patient.stage.choices.web_acls:
        with absent("WAFNonexistentItemException"):
            answer = patient.account.client("wafv2").get_logging_configuration(ResourceArn=arn)
            if answer["LoggingConfiguration"].get("LoggingFilter"):
                yield Finding(
                    "sampling",
                    f"the logs of web ACL {arn.split('/')[-2]} are filtered: what is filtered out is not counted",
                    "take the filter off its logging configuration, or write rules for what is left",
                    wrong=False,
                )


def sweep(patient: Patient) -> Iterator[Finding]:
    body = patient.record(Heartbeat.kind, Heartbeat.id)
    age = patient.now - Heartbeat.read(body).at if body else None
    if age is None or age > STALE_S:
        since = "has never run" if age is None else f"last ran {age} s ago"
        remedy = f"look into the log group /aws/lambda/{patient.stage.function('sweep')} and at its schedule"
        yield Finding("sweep", f"the sweep {since}: expired blocks do not end", remedy)


def control(patient: Patient) -> Iterator[Finding]:
    pause, breaker = (patient.record(record.kind, record.id) for record in (Pause, Breaker))
    if pause is not None and Pause.read(pause).paused:
        yield Finding("paused", "enforcement is paused", "POST /v1/resume at the admin API", wrong=False)
    if breaker is not None and Breaker.read(breaker).open:
        what = "the circuit breaker is open: nothing more is blocked"
        yield Finding("breaker", what, "look at the detections, then POST /v1/breaker/reset at the admin API")


def rules(patient: Patient) -> Iterator[Finding]:
    body = patient.record(StoredRules.kind, ACTIVE)
    if body is None:
        yield Finding("rules", "no rules are stored: nothing is counted", patient.command("setup"))
        return
    try:
        stored = parse_rules(StoredRules.read(body).text).rules
    except RulesError as exc:
        yield Finding("rules", f"the stored rules are not valid: {exc.problems[0]}", "store valid ones")
        return
    if not any(rule.action is Action.BLOCK for rule in stored):
        what = "all rules only count: nobody is blocked"
        yield Finding("rules", what, 'give those you trust action = "block"', wrong=False)


def attached(patient: Patient) -> Iterator[Finding]:
    if not patient.stage.choices.web_acls:
        what = "the rule group was attached to no web ACL by setup: unless you did it, nobody is refused"
        yield Finding("web ACL", what, f"{patient.command('setup')} --web-acl NAME", wrong=False)


CHECKS: tuple[Check, ...] = (
    *(drift, deployed, settings, permissions, event_sources, records, lag, fields, malformed, waf_filters),
    *(sweep, control, rules, attached),
)


def examine(patient: Patient, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """What all checks find; one that AWS refuses to answer is a finding as well. Wrong things come first."""
    found: list[Finding] = []
    for check in checks:
        try:
            found += check(patient)
        except ClientError as exc:
            what = f"could not look: {exc.operation_name}: {code_of(exc)}: {message_of(exc)}"
            found.append(Finding(check.__name__, what, "see docs/permissions.md for what an operator needs"))
    return sorted(found, key=lambda finding: not finding.wrong)
