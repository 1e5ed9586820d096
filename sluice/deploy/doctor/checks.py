"""All checks, in the order in which they run."""

from collections.abc import Callable, Iterable, Sequence

from botocore.exceptions import ClientError

from sluice.deploy.account import cause_of
from sluice.deploy.doctor.deployment import (
    alarms,
    concurrency,
    deployed,
    drift,
    event_sources,
    permissions,
    runtime,
    settings,
    source_settings,
    throttled,
    tokens,
)
from sluice.deploy.doctor.enforcement import (
    associated,
    attached,
    control,
    feeds,
    preceded,
    publishing,
    rules,
    sweep,
    unreadable,
)
from sluice.deploy.doctor.flow import dropped, fields, lag, malformed, objects, proxies, readers, records, waf_filters
from sluice.deploy.doctor.inspection import Finding, Inspection

StageCheck = Callable[[Inspection], Iterable[Finding]]

CHECKS: tuple[StageCheck, ...] = (
    *(
        drift,
        deployed,
        concurrency,
        throttled,
        runtime,
        settings,
        permissions,
        event_sources,
        source_settings,
        tokens,
        alarms,
    ),
    *(records, readers, lag, dropped, objects, fields, malformed, proxies, waf_filters),
    *(sweep, control, unreadable, rules, feeds, publishing, attached, associated, preceded),
)


def inspect(inspection: Inspection, checks: Sequence[StageCheck] = CHECKS) -> list[Finding]:
    """Returns the findings of all checks, wrong ones first. A check that AWS rejects is a finding as well."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(inspection)
        except ClientError as exc:
            remedy = "see docs/operate/permissions.md for what an operator needs"
            findings.append(Finding(check.__name__, f"could not check: {cause_of(exc)}", remedy))
    return sorted(findings, key=lambda finding: not finding.wrong)
