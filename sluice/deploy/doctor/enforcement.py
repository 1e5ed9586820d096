"""Checks that offenders are blocked, and that blocks end in time."""

from collections.abc import Iterator

from chalicelib.core.rules import Action
from chalicelib.core.rules_toml import RulesError, parse_rules
from chalicelib.core.sampling import Sampling, sampling_notes
from chalicelib.core.state import ACTIVE, Heartbeat, Pause, StoredRules
from chalicelib.core.wording import plural
from sluice.deploy.doctor.inspection import Finding, Inspection
from sluice.deploy.resources.web_acls import preceding, web_acl_name

STALE_S = 180
"""Age of the last heartbeat, in seconds, above which the sweep is late: it runs once a minute."""


def sweep(inspection: Inspection) -> Iterator[Finding]:
    heartbeat = inspection.record(Heartbeat, Heartbeat.id)
    age = None if heartbeat is None else inspection.now - heartbeat.at
    if age is None or age > STALE_S:
        since = "has never run" if age is None else f"last ran {age} s ago"
        remedy = f"read {inspection.log_group('sweep')}, and check its schedule"
        yield Finding("sweep", f"the sweep {since}: expired blocks do not end", remedy)


def control(inspection: Inspection) -> Iterator[Finding]:
    pause = inspection.record(Pause, Pause.id)
    if pause is not None and pause.paused:
        yield Finding("paused", "enforcement is paused", "sluice resume", wrong=False)
    for breaker in inspection.stopped_rules():
        whom = f"{breaker.would_hit} of {breaker.known} known clients"
        what = f"rule {breaker.rule} is stopped: it would have blocked {whom}"
        yield Finding("breaker", what, f"check its limit or, if it is right, run: sluice breaker reset {breaker.rule}")


def unreadable(inspection: Inspection) -> Iterator[Finding]:
    heartbeat = inspection.record(Heartbeat, Heartbeat.id)
    if heartbeat is not None and heartbeat.unreadable:
        first = heartbeat.unreadable[0]
        what = f"{plural(len(heartbeat.unreadable), 'stored record')} that cannot be read, for example "
        remedy = "sluice records list; then remove them, or store them again"
        yield Finding("records", f"{what}{first.kind} {first.id}: {first.reason}", remedy)


def rules(inspection: Inspection) -> Iterator[Finding]:
    stored = inspection.record(StoredRules, ACTIVE)
    if stored is None:
        yield Finding("rules", "no rules are stored that can be read: nothing is counted", inspection.setup)
        return
    try:
        active = parse_rules(stored.text).rules
    except RulesError as exc:
        remedy = "store valid rules: sluice rules apply FILE"
        yield Finding("rules", f"the stored rules are not valid: {exc.problems[0]}", remedy)
        return
    if "cloudfront" in inspection.stage.choices.sources:
        for note in sampling_notes(active, Sampling(inspection.stage.choices.sample_rate)):
            yield Finding("sampling", note.rstrip("."), "sluice rules plan FILE shows which rules", wrong=False)
    if not any(rule.action is Action.BLOCK for rule in active):
        what = "all rules only count: no client is blocked"
        yield Finding("rules", what, 'set action = "block" in the rules that you trust', wrong=False)


def attached(inspection: Inspection) -> Iterator[Finding]:
    if not (inspection.stage.choices.web_acls or inspection.stage.choices.own_web_acl):
        what = "setup added the rule group to no web ACL: unless you did, no request is blocked"
        yield Finding("web ACL", what, f"{inspection.setup} --web-acl NAME", wrong=False)


def preceded(inspection: Inspection) -> Iterator[Finding]:
    rule_group = inspection.stage.rule_group
    for arn in inspection.stage.choices.web_acls:
        if before := preceding(inspection.account, arn, rule_group):
            rules = ", ".join(f"{rule.name} ({rule.effect})" for rule in before)
            what = f"{plural(len(before), 'rule')} before {rule_group} may end the evaluation of a request: {rules}"
            remedy = f"{inspection.setup} --renumber evaluates {rule_group} first, unless their order is intended"
            yield Finding("web ACL", f"in web ACL {web_acl_name(arn)}, {what}", remedy, wrong=False)
