"""Checks that offenders are blocked, and that blocks end in time."""

from collections.abc import Iterator

from chalicelib.core.rules import Action
from chalicelib.core.rules_toml import RulesError, parse_rules
from chalicelib.core.sampling import Sampling, sampling_notes
from chalicelib.core.state.feeds import Feed
from chalicelib.core.state.operators import Pause
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.core.state.trends import TRENDS_LATE_S, TrendMark
from chalicelib.core.wording import plural, roughly
from sluice.deploy.account import missing_ok
from sluice.deploy.doctor.inspection import Finding, Inspection
from sluice.deploy.resources.web_acls import rules_in, web_acl_name
from sluice.deploy.rule_group import Answers, rules_of

STALE_S = 180
"""Age of the last heartbeat, in seconds, above which the sweep is late: it runs once a minute."""


def sweep(inspection: Inspection) -> Iterator[Finding]:
    heartbeat = inspection.record(Heartbeat, Heartbeat.id)
    age = None if heartbeat is None else inspection.now - heartbeat.at
    if age is None or age > STALE_S:
        since = "has never run" if age is None else f"last ran {age} s ago"
        remedy = f"read {inspection.log_group('sweep')}, and check its schedule"
        yield Finding("sweep", f"the sweep {since}: expired blocks do not end", remedy)


def trends(inspection: Inspection) -> Iterator[Finding]:
    """Checks that the sweep adds up traffic, which it does apart from its other work."""
    mark = inspection.record(TrendMark, TrendMark.id)
    if mark is not None and mark.at and inspection.now - mark.at > TRENDS_LATE_S:
        what = f"traffic was last added up for trends {roughly(inspection.now - mark.at)} ago"
        remedy = f"read {inspection.log_group('sweep')}; once the reason is gone, the next sweep makes up for it"
        yield Finding("trends", what, remedy)


def control(inspection: Inspection) -> Iterator[Finding]:
    pause = inspection.record(Pause, Pause.id)
    if pause is not None and pause.as_of(inspection.now).paused:
        yield Finding("paused", "enforcement is paused", "sluice resume", wrong=False)
    for breaker in inspection.stopped_rules():
        whom = f"{breaker.would_hit} of {breaker.known} known clients"
        what = f"rule {breaker.rule} is stopped: it would have blocked {whom}"
        yield Finding("breaker", what, f"check its limit or, if it is right, run: sluice breaker reset {breaker.rule}")


def unreadable(inspection: Inspection) -> Iterator[Finding]:
    heartbeat = inspection.record(Heartbeat, Heartbeat.id)
    if heartbeat is not None and heartbeat.unreadable:
        first = heartbeat.unreadable[0]
        what = f"{plural(len(heartbeat.unreadable), 'stored record')} cannot be read, for example "
        remedy = "sluice records list; then remove them, or store them again"
        yield Finding("records", f"{what}{first.kind} {first.id}: {first.reason}", remedy)


def rules(inspection: Inspection) -> Iterator[Finding]:
    stored = inspection.record(StoredRules, ACTIVE)
    if stored is None:
        yield Finding("rules", "no rules that can be read are stored: nothing is counted", inspection.setup)
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


def feeds(inspection: Inspection) -> Iterator[Finding]:
    stored = inspection.record(StoredRules, ACTIVE)
    try:
        listed = parse_rules(stored.text).feeds if stored is not None else ()
    except RulesError:
        return
    for feed in listed:
        checked = inspection.record(Feed, feed.name)
        if checked is not None and checked.problem:
            what = f"feed {feed.name} could not be used: {checked.problem}; its last list stays in use"
            yield Finding("feeds", what, f"sluice feeds check {feed.url} shows what is published")


def attached(inspection: Inspection) -> Iterator[Finding]:
    if not (inspection.stage.choices.web_acls or inspection.stage.choices.own_web_acl):
        what = "setup added the rule group to no web ACL: unless you did, no request is blocked"
        yield Finding("web ACL", what, f"{inspection.setup} --web-acl NAME", wrong=False)


def overridden(inspection: Inspection) -> Iterator[Finding]:
    """Checks that no web ACL has the rule group count instead of answering.

    AWS ignores overrides of rules that the rule group no longer has, and the response watch only counts anyway.
    """
    stage = inspection.stage
    present = rules_of(stage.rule_group, stage.ip_sets, Answers(), behind_proxies=stage.choices.behind_proxies)
    counting = {rule["Name"]: "Count" in rule["Action"] for rule in present}
    for arn in stage.choices.web_acls:
        for rule in rules_in(inspection.account, arn) or ():
            group = rule["Statement"].get("RuleGroupReferenceStatement")
            if rule["Name"] != stage.rule_group or group is None:
                continue
            replaced = {each["Name"]: next(iter(each["ActionToUse"])) for each in group.get("RuleActionOverrides", ())}
            replaced |= {each["Name"]: "Count" for each in group.get("ExcludedRules", ())}
            replaced = {
                each: action
                for each, action in replaced.items()
                if each in counting and not (counting[each] and action == "Count")
            }
            all_count = "Count" in rule["OverrideAction"]
            if not (all_count or replaced):
                continue
            name = web_acl_name(arn)
            others = ", ".join(f"{each} ({action})" for each, action in sorted(replaced.items()))
            effect = "is overridden to Count: no request is blocked" if all_count else f"has overrides: {others}"
            remedy = "remove the override in the template of the web ACL"
            if not stage.choices.elsewhere:
                remedy = f"{stage.command('detach')} --web-acl {name}, then {inspection.setup} --web-acl {name}"
            counts = all_count or "Count" in replaced.values()
            what = f"in web ACL {name}, {stage.rule_group} {effect}"
            yield Finding("web ACL", what, f"unless this is a trial: {remedy}", wrong=counts)


def preceded(inspection: Inspection) -> Iterator[Finding]:
    rule_group = inspection.stage.rule_group
    for each in inspection.web_acls:
        if each.before:
            rules = ", ".join(f"{rule.name} ({rule.effect})" for rule in each.before)
            number = plural(len(each.before), "rule")
            what = f"{number} before {rule_group} may end the evaluation of a request: {rules}"
            remedy = f"{inspection.setup} --renumber evaluates {rule_group} first"
            if inspection.stage.choices.elsewhere:
                remedy = f"give {rule_group} the lowest priority in the template of the web ACL"
            remedy += ", unless their order is intended"
            yield Finding("web ACL", f"in web ACL {each.web_acl}, {what}", remedy, wrong=False)


def associated(inspection: Inspection) -> Iterator[Finding]:
    """Checks that what is counted is behind a web ACL that blocks."""
    stage, account = inspection.stage, inspection.account
    names = {web_acl_name(arn) for arn in stage.choices.web_acls}
    names |= {stage.web_acl} if stage.choices.own_web_acl else set()
    if not names:
        return
    used: dict[str, str] = {}
    for id_ in stage.choices.distributions:
        with missing_ok("NoSuchDistribution"):
            config = account.client("cloudfront").get_distribution_config(Id=id_)["DistributionConfig"]
            used[f"distribution {id_}"] = config.get("WebACLId", "")
    for arn in stage.choices.load_balancers:
        with missing_ok("WAFNonexistentItemException"):
            answer = account.client("wafv2").get_web_acl_for_resource(ResourceArn=arn)
            used[f"load balancer {arn.split('/')[-2]}"] = answer.get("WebACL", {}).get("ARN", "")
    for resource, arn in used.items():
        name = web_acl_name(arn) if "/" in arn else arn
        if name not in names:
            lacks = f"web ACL {name}, to which setup has not added {stage.rule_group}" if name else "no web ACL"
            what = f"{resource} has {lacks}: its requests are counted, and none is blocked"
            remedy = f"associate it with web ACL {min(names)}"
            remedy += f", or {inspection.setup} --web-acl {name}" if name else ""
            yield Finding("web ACL", what, remedy)


def publishing(inspection: Inspection) -> Iterator[Finding]:
    """Checks that what is decided reaches AWS WAF."""
    stage, service = inspection.stage, inspection.stage.prefix
    failures = inspection.metric("Sluice", "PublishFailures", "Sum", service=service)
    if failures:
        what = f"{plural(int(failures), 'update')} of IP sets failed: they stay as they were"
        read = f"read {inspection.log_group('publish')}"
        repair = "" if stage.choices.stack else f"; {inspection.setup} repairs IP sets"
        yield Finding("publishing", what, read + repair)
    overflow = inspection.metric("Sluice", "Overflow", "Maximum", service=service)
    if overflow:
        what = f"the IP sets are full: {plural(int(overflow), 'network')} over a limit cannot be blocked"
        remedy = "block wider networks (aggregate, [networks])"
        if not stage.choices.stack:
            remedy += f", or {inspection.setup} --ip-sets {stage.choices.ip_sets + 1}, then {inspection.deploy}"
        yield Finding("publishing", what, remedy)
    waiting = inspection.metric(
        "AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", QueueName=stage.dead_letters
    )
    if waiting:
        what = f"{stage.dead_letters} holds {plural(int(waiting), 'message')} about changes that could not be handled"
        logs = f"{inspection.log_group('enforce')}, and of publish"
        remedy = f"read {logs}; once the cause is removed: aws sqs purge-queue --queue-url {_url(inspection)}"
        yield Finding("publishing", what, remedy)


def _url(inspection: Inspection) -> str:
    location = inspection.stage.location
    return f"https://sqs.{location.region}.amazonaws.com/{location.account}/{inspection.stage.dead_letters}"
