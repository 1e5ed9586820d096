"""Is everything there, and as it was deployed?"""

from collections.abc import Iterator, Mapping
from typing import Any

from sluice.deploy import plan
from sluice.deploy.account import missing_ok
from sluice.deploy.apply import survey
from sluice.deploy.doctor.inspection import Finding, Inspection
from sluice.deploy.policies import FUNCTIONS, arns_of, policies
from sluice.deploy.resources.chalice_config import ChaliceStage
from sluice.deploy.resources.waf import ip_sets_of
from sluice.deploy.stage import Refusal

LEAST_UNRESERVED = 100
"""Concurrent executions of an account that AWS lets nobody reserve."""


def drift(inspection: Inspection) -> Iterator[Finding]:
    """What setup would create or change."""
    try:
        steps = plan.to_set_up(survey(inspection.resources, inspection.account))
    except Refusal as exc:
        yield Finding("drift", str(exc), "as it says; then " + inspection.command("setup"))
        return
    for step in steps:
        if step.action is not plan.StepAction.KEEP:
            what = "is missing" if step.action is plan.StepAction.CREATE else step.detail
            yield Finding("drift", f"{step.resource.kind} {step.resource.name}: {what}", inspection.command("setup"))


def deployed(inspection: Inspection) -> Iterator[Finding]:
    by_iam = inspection.stage.choices.settings.get("ADMIN_AUTH") == "iam"
    for name in FUNCTIONS:
        if name not in inspection.functions and not (by_iam and name == "authorize"):
            yield Finding("functions", f"{name} is not deployed", inspection.deploy)


def concurrency(inspection: Inspection) -> Iterator[Finding]:
    """Whether the account has room for what the functions reserve; asked as long as they are not all there."""
    if len(inspection.functions) >= len(FUNCTIONS):
        return
    limit = inspection.account.client("lambda").get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    for resource in inspection.resources:
        if isinstance(resource, ChaliceStage):
            functions = resource.project.config().get("lambda_functions", {})
            wanted = sum(
                about.get("reserved_concurrency", 0)
                for name, about in functions.items()
                if name not in inspection.functions
            )
            if limit - wanted < LEAST_UNRESERVED:
                yield Finding(
                    "concurrency",
                    f"the functions reserve {wanted} concurrent executions, and AWS wants {LEAST_UNRESERVED} of the "
                    f"account's {limit} to stay unreserved: 'chalice deploy' will fail",
                    "ask AWS for a higher quota of concurrent executions, or take the lines reserved_concurrency out "
                    f"of {resource.project.config_file}",
                )


def settings(inspection: Inspection) -> Iterator[Finding]:
    """Whether the functions run with the settings that setup has written."""
    for resource in inspection.resources:
        if isinstance(resource, ChaliceStage):
            written = (resource.project.stage(inspection.stage.name) or {}).get("environment_variables", {})
            for name in inspection.functions:
                held = inspection.environment(name)
                wrong = sorted(key for key in written.keys() | held.keys() if written.get(key) != held.get(key))
                if wrong:
                    yield Finding("settings", f"{name} runs with another {', '.join(wrong)}", inspection.deploy)


def permissions(inspection: Inspection) -> Iterator[Finding]:
    """Whether each function's role allows what its policy names."""
    stage, account = inspection.stage, inspection.account
    sets = [summary["ARN"] for summary in ip_sets_of(stage, account).values()]
    wanted = policies(arns_of(stage, sets, inspection.environment("enforce").get("STATE_STREAM_ARN", "")))
    for name, about in inspection.functions.items():
        role = about["Role"].rpartition("/")[2]
        allowed: set[tuple[str, str]] = set()
        with missing_ok("NoSuchEntity"):
            for policy in account.list_all("iam", "list_role_policies", "PolicyNames", RoleName=role):
                document = account.client("iam").get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
                allowed |= _grants(document)
        missing = sorted({action for action, _ in _grants(wanted[name]) - allowed})
        if missing:
            yield Finding("permissions", f"{name} may not {', '.join(missing)}", inspection.deploy)


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


def event_sources(inspection: Inspection) -> Iterator[Finding]:
    for name in ("ingest", "enforce", "publish"):
        if name not in inspection.functions:
            continue
        function = inspection.functions[name]["FunctionName"]
        arguments = ("lambda", "list_event_source_mappings", "EventSourceMappings")
        mappings = list(inspection.account.list_all(*arguments, FunctionName=function))
        if not mappings:
            yield Finding("event sources", f"{name} listens to nothing", inspection.deploy)
        for mapping in mappings:
            if mapping.get("State", "Enabled") not in ("Enabled", "Enabling", "Creating", "Updating"):
                remedy = f"aws lambda update-event-source-mapping --uuid {mapping['UUID']} --enabled"
                yield Finding("event sources", f"{name} does not listen: its source is {mapping['State']}", remedy)
            result = mapping.get("LastProcessingResult") or "OK"
            if result not in ("OK", "No records processed"):
                remedy = f"look into the log group /aws/lambda/{function}"
                yield Finding("event sources", f"{name}: {result}", remedy)
