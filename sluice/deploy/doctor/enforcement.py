"""Is anybody blocked who should be, and let go when it is time?"""

from collections.abc import Iterator

from chalicelib.core.rules import Action, RulesError, parse_rules
from chalicelib.core.state import ACTIVE, Breaker, Heartbeat, Pause, StoredRules
from sluice.deploy.doctor.inspection import Finding, Inspection

STALE_S = 180
"""The sweep comes once a minute."""


def sweep(inspection: Inspection) -> Iterator[Finding]:
    heartbeat = inspection.record(Heartbeat, Heartbeat.id)
    age = inspection.now - heartbeat.at if heartbeat else None
    if age is None or age > STALE_S:
        since = "has never run" if age is None else f"last ran {age} s ago"
        remedy = f"look into the log group /aws/lambda/{inspection.stage.function('sweep')} and at its schedule"
        yield Finding("sweep", f"the sweep {since}: expired blocks do not end", remedy)


def control(inspection: Inspection) -> Iterator[Finding]:
    pause, breaker = inspection.record(Pause, Pause.id), inspection.record(Breaker, Breaker.id)
    if pause is not None and pause.paused:
        yield Finding("paused", "enforcement is paused", "POST /v1/resume at the admin API", wrong=False)
    if breaker is not None and breaker.open:
        what = "the circuit breaker is open: nothing more is blocked"
        yield Finding("breaker", what, "look at the detections, then POST /v1/breaker/reset at the admin API")


def rules(inspection: Inspection) -> Iterator[Finding]:
    stored = inspection.record(StoredRules, ACTIVE)
    if stored is None:
        yield Finding("rules", "no rules are stored: nothing is counted", inspection.command("setup"))
        return
    try:
        rules = parse_rules(stored.text).rules
    except RulesError as exc:
        yield Finding("rules", f"the stored rules are not valid: {exc.problems[0]}", "store valid ones")
        return
    if not any(rule.action is Action.BLOCK for rule in rules):
        what = "all rules only count: nobody is blocked"
        yield Finding("rules", what, 'give those you trust action = "block"', wrong=False)


def attached(inspection: Inspection) -> Iterator[Finding]:
    if not inspection.stage.choices.web_acls:
        what = "the rule group was attached to no web ACL by setup: unless you did it, nobody is refused"
        yield Finding("web ACL", what, f"{inspection.command('setup')} --web-acl NAME", wrong=False)
