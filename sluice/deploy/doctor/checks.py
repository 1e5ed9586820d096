"""All checks, in the order in which they run."""

from collections.abc import Callable, Iterable, Sequence

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.ports import Unavailable
from sluice.deploy.account import AwsError, cause_of
from sluice.deploy.doctor.deployment import (
    api,
    concurrency,
    deployed,
    drift,
    event_sources,
    of_stack,
    permissions,
    runtime,
    settings,
    source_settings,
    throttled,
    tokens,
    tokens_key,
)
from sluice.deploy.doctor.enforcement import (
    associated,
    attached,
    control,
    feeds,
    overridden,
    preceded,
    publishing,
    rules,
    sweep,
    trends,
    unreadable,
)
from sluice.deploy.doctor.flow import (
    dropped,
    fields,
    lag,
    late,
    malformed,
    objects,
    proxies,
    quotas,
    readers,
    records,
    waf_filters,
)
from sluice.deploy.doctor.inspection import Finding, Inspection
from sluice.deploy.doctor.messages import alarms, notices

StageCheck = Callable[[Inspection], Iterable[Finding]]

CHECKS: tuple[StageCheck, ...] = (
    *(
        drift,
        of_stack,
        deployed,
        api,
        concurrency,
        throttled,
        runtime,
        settings,
        permissions,
        event_sources,
        source_settings,
        tokens,
        tokens_key,
        alarms,
        notices,
    ),
    *(records, readers, lag, dropped, quotas, objects, fields, malformed, late, proxies, waf_filters),
    *(sweep, trends, control, unreadable, rules, feeds, publishing, attached, associated, overridden, preceded),
)


def inspect(inspection: Inspection, checks: Sequence[StageCheck] = CHECKS) -> list[Finding]:
    """Returns the findings of all checks, wrong ones first. A check that fails is a finding and stops no other."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(inspection)
        except (ClientError, BotoCoreError, AwsError, Unavailable) as exc:
            cause = cause_of(exc) if isinstance(exc, ClientError) else str(exc)
            remedy = "see docs/operate/permissions.md for what an operator needs"
            findings.append(Finding(check.__name__, f"could not check: {cause}", remedy))
    return sorted(findings, key=lambda finding: not finding.wrong)
