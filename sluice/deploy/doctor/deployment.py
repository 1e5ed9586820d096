"""Is everything there, and as it was deployed?"""

from collections.abc import Iterator, Mapping
from typing import Any

from sluice.deploy import plan
from sluice.deploy.account import absent
from sluice.deploy.apply import survey
from sluice.deploy.doctor.inspection import Finding, Patient
from sluice.deploy.policies import FUNCTIONS, arns_of, policies
from sluice.deploy.resources.chalice_config import ChaliceStage
from sluice.deploy.resources.waf import ip_sets_of
from sluice.deploy.stage import Refusal

LEAST_UNRESERVED = 100
"""Concurrent executions of an account that AWS lets nobody reserve."""


def drift(patient: Patient) -> Iterator[Finding]:
    """What setup would create or change."""
    try:
        steps = plan.to_set_up(survey(patient.resources, patient.account))
    except Refusal as exc:
        yield Finding("drift", str(exc), "as it says; then " + patient.command("setup"))
        return
    for step in steps:
        if step.action is not plan.Action.KEEP:
            what = "is missing" if step.action is plan.Action.CREATE else step.detail
            yield Finding("drift", f"{step.resource.kind} {step.resource.name}: {what}", patient.command("setup"))


def deployed(patient: Patient) -> Iterator[Finding]:
    by_iam = patient.stage.choices.settings.get("ADMIN_AUTH") == "iam"
    for name in FUNCTIONS:
        if name not in patient.functions and not (by_iam and name == "authorize"):
            yield Finding("functions", f"{name} is not deployed", patient.deploy)


def concurrency(patient: Patient) -> Iterator[Finding]:
    """Whether the account has room for what the functions reserve; asked as long as they are not all there."""
    if len(patient.functions) >= len(FUNCTIONS):
        return
    limit = patient.account.client("lambda").get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    for resource in patient.resources:
        if isinstance(resource, ChaliceStage):
            functions = resource.project.config().get("lambda_functions", {})
            wanted = sum(
                about.get("reserved_concurrency", 0)
                for name, about in functions.items()
                if name not in patient.functions
            )
            if limit - wanted < LEAST_UNRESERVED:
                yield Finding(
                    "concurrency",
                    f"the functions reserve {wanted} concurrent executions, and AWS wants {LEAST_UNRESERVED} of the "
                    f"account's {limit} to stay unreserved: 'chalice deploy' will fail",
                    "ask AWS for a higher quota of concurrent executions, or take the lines reserved_concurrency out "
                    f"of {resource.project.config_file}",
                )


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
