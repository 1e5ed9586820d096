"""The migration of a stack of "Security Automations for AWS WAF": every parameter, key and list becomes a row."""

from collections.abc import Iterator, Sequence

from sluice.migration.old_stack import OldStack
from sluice.migration.outcomes import LogBucket, ManagedGroup, MigrationOutcome, Outcomes, composed, row
from sluice.migration.plan import Fate, Plan, Row
from sluice.migration.stack_lists import list_outcomes, web_acl_outcomes
from sluice.migration.stack_rules import SCOPES, bad_bot_outcomes, flood_outcomes, scanner_outcomes

NOT_NEEDED = {
    "SqlInjectionProtectionSensitivityLevelParam": "belongs to the SQL injection rule",
    "ApiGatewayBadBotCWRoleParam": "the honeypot is a rule on a path, and needs no API Gateway",
    "KeepDataInOriginalS3Location": "Sluice moves no logs",
    "AppAccessLogBucketLoggingStatusParam": "Sluice leaves the bucket's own access logging as it is",
    "LogGroupRetentionParam": "the functions' logs are kept for 30 days",
    "SendAnonymousUsageData": "Sluice sends no usage data",
    "SendAnonymizedUsageData": "Sluice sends no usage data",
}
"""Parameters that nothing in Sluice depends on, and why."""


def stack_plan(old: OldStack, now: int) -> Plan:
    """Returns the plan for a stack; ``now`` is epoch seconds."""
    outcomes = list(_outcomes(old, now))
    outcomes += _rest(old, {each.setting for each in outcomes if isinstance(each, Row)})
    version = old.outputs.get("SolutionVersion", "")
    title = " ".join(filter(None, (f'stack {old.name} of "Security Automations for AWS WAF"', version)))
    return composed(title, outcomes, _setups(old, outcomes))


def _outcomes(old: OldStack, now: int) -> Outcomes:
    if "EndpointType" in old.parameters:
        yield row("EndpointType", old.parameters["EndpointType"], Fate.SOURCE, f"sluice setup --scope {_scope(old)}")
    yield from flood_outcomes(old)
    yield from scanner_outcomes(old)
    yield from bad_bot_outcomes(old)
    yield from list_outcomes(old, now)
    yield from web_acl_outcomes(old)


def _rest(old: OldStack, settings: set[str]) -> Iterator[Row]:
    """Yields a row for everything in the documents that has none yet."""
    for name, value in old.parameters.items():
        if name in settings or any(setting.startswith(f"{name} ") for setting in settings):
            continue
        if name == "SNSEmailParam" and value:
            detail = "no message is sent when a network's time ends; 'sluice blocks' shows the ends"
            yield row(name, value, Fate.BY_HAND, detail)
        elif name in NOT_NEEDED or not value:
            yield row(name, value, Fate.UNUSED, NOT_NEEDED.get(name, "empty"))
        else:
            yield row(name, value, Fate.BY_HAND, "not a parameter of any known version")
    for title in old.unknown:
        yield row(f"document {title}", "", Fate.BY_HAND, "not recognised as part of a stack")


def _scope(old: OldStack) -> str:
    return SCOPES.get(old.parameters.get("EndpointType", ""), "CLOUDFRONT")


def _setups(old: OldStack, outcomes: Sequence[MigrationOutcome]) -> Iterator[str]:
    """Yields the options for a stage that reads the stack's logs beside it.

    S3 notifies only one function per prefix, which is the stack's, so the stage's queue is notified in another way. The
    last run makes the web ACL that takes over when the stack is deleted.
    """
    scope = f"--scope {_scope(old)}"
    buckets = dict.fromkeys(each for each in outcomes if isinstance(each, LogBucket))
    if not buckets:
        yield scope
    for bucket in buckets:
        prefix = f" --prefix {bucket.prefix}" if bucket.prefix else ""
        yield f"{scope} --bucket {bucket.name}{prefix} --no-notification {bucket.settings}"
    groups = [f"--managed-group {each.name}" for each in outcomes if isinstance(each, ManagedGroup)]
    yield " ".join((scope, "--create-web-acl", *groups))
