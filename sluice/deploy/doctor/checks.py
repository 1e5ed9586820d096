"""All checks, one after the other."""

from collections.abc import Callable, Iterable, Sequence

from botocore.exceptions import ClientError

from sluice.deploy.account import code_of, message_of
from sluice.deploy.doctor.deployment import concurrency, deployed, drift, event_sources, permissions, settings
from sluice.deploy.doctor.enforcement import attached, control, rules, sweep
from sluice.deploy.doctor.flow import fields, lag, malformed, records, waf_filters
from sluice.deploy.doctor.inspection import Finding, Inspection

Check = Callable[[Inspection], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    *(drift, deployed, concurrency, settings, permissions, event_sources, records, lag, fields, malformed, waf_filters),
    *(sweep, control, rules, attached),
)


def examine(inspection: Inspection, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """What all checks find; one that AWS refuses to answer is a finding as well. Wrong things come first."""
    found: list[Finding] = []
    for check in checks:
        try:
            found += check(inspection)
        except ClientError as exc:
            what = f"could not look: {exc.operation_name}: {code_of(exc)}: {message_of(exc)}"
            found.append(Finding(check.__name__, what, "see docs/operate/permissions.md for what an operator needs"))
    return sorted(found, key=lambda finding: not finding.wrong)
