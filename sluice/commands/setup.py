"""``sluice setup``: creates what the functions need, after showing the plan and its cost."""

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any, NamedTuple, get_args

import click
from rich.console import Console
from rich.text import Text

from chalicelib.core.refusals import STATUSES
from chalicelib.core.responses import SOFTER, Response
from chalicelib.edges.waf_ip_sets import WafScope
from sluice import DEFAULT_RULES
from sluice.commands.shared.costs import items_of, print_bill
from sluice.commands.shared.deployment import (
    carry_out,
    choices_of,
    plan_options,
    refuse_if_any,
    show_plan,
    stage_command,
)
from sluice.commands.shared.options import EXISTING_FILE, NAME_VALUE, Parsed, read_rules
from sluice.commands.shared.output import output, print_json, table
from sluice.deploy.account import AwsAccount, AwsError, attempting
from sluice.deploy.apply import survey, survey_remains
from sluice.deploy.costs import INCLUDED_WCU, PRICES, WCU_STEP, Load, excess_dollars, monthly_costs, total
from sluice.deploy.placement import Placement
from sluice.deploy.plan import Step, to_set_up, to_tear_down
from sluice.deploy.preflight import reservations
from sluice.deploy.quotas import check_plan
from sluice.deploy.resource import Resource
from sluice.deploy.resources import additions, resources_of
from sluice.deploy.resources.chalice_config import Project, check_settings
from sluice.deploy.resources.logs import group_name
from sluice.deploy.resources.monitoring import watched_no_longer
from sluice.deploy.resources.notices import no_longer
from sluice.deploy.resources.objects import notified_otherwise
from sluice.deploy.resources.parameters import memory_of
from sluice.deploy.resources.waf import RuleGroup, ip_sets_without
from sluice.deploy.resources.web_acls import Order, WebAclRule, arn_of, note_places, places
from sluice.deploy.rule_group import Body, read_body
from sluice.deploy.runtime import RECOMMENDED, runtime_of_chalice
from sluice.deploy.sizing import VCPU_MB
from sluice.deploy.snippets import cloudformation_of, delivery_sources
from sluice.deploy.snippets_cdk import cdk_of
from sluice.deploy.snippets_terraform import terraform_site_of
from sluice.deploy.stack import BY_ITS_OWNER, is_published, repackaging
from sluice.deploy.stage import MOST_IP_SETS, MOST_SHARDS, NOTICE, NOTICE_FORMS, Choices, DeliveredLog, Refusal, Stage
from sluice.deploy.terraform import terraform_of
from sluice.deploy.traffic import observed_requests_per_second, placements

NOTIFIERS = {
    "s3": {"notification": True, "event_rules": False},
    "eventbridge": {"notification": False, "event_rules": True},
}
"""Choices by what notifies the queue of new objects."""

NAMES = Parsed("NAMES", lambda text: tuple(text.split(",")) if text else None)

STACK_OWNS: tuple[tuple[str, str, Callable[[Choices], object]], ...] = (
    ("--respond, --no-respond", "RespondCaptcha, RespondChallenge, RespondSlow or RespondWatch", lambda c: c.responses),
    ("--block-status", "BlockStatus", lambda choices: choices.block_status),
    ("--retry-after", "RetryAfter", lambda choices: choices.retry_after_s),
    ("--slow-limit", "SlowLimit", lambda choices: choices.slow_limit),
    ("--shards", "Shards, with StreamMode", lambda choices: choices.shards),
    ("--stream-encryption", "StreamEncryption", lambda choices: choices.stream_encryption),
    ("--fields", "CloudFrontFields", lambda choices: choices.fields),
    ("--source waf", "WafLogsFrom", lambda choices: "waf" in choices.sources),
    ("--sample-rate", "SampleRate", lambda choices: choices.sample_rate),
    ("--set TRUSTED_PROXIES", "TrustedProxies", lambda choices: choices.settings.get("TRUSTED_PROXIES")),
    ("--alarms, --alarm-email", "AlarmEmail", lambda choices: (choices.alarms, choices.alarm_emails)),
    ("--monthly-budget", "MonthlyBudget", lambda choices: choices.monthly_budget),
    ("--set EVENT_BUS", "EventBus", lambda choices: choices.settings.get("EVENT_BUS")),
    ("--set API_NETWORKS", "ApiNetworks", lambda choices: choices.settings.get("API_NETWORKS")),
)
"""Options, the parameters of the stack for the same purpose, and the choices that both determine."""


class Notice(NamedTuple):
    """A place that announcements are sent to."""

    place: str
    """The place in the form in which setup remembers it."""
    webhook: str = ""
    """Address of a webhook, which is not remembered."""


def read_notice(text: str) -> Notice:
    """Returns the place that ``text`` names.

    Raises ValueError, whose message never contains the address of a webhook, because it is a secret.
    """
    kind, _, address = text.partition(":")
    if kind == "slack":
        if re.fullmatch(r"https://[^\s/]+/\S+", address) is None:
            raise ValueError(f"slack:... is not of the form {NOTICE_FORMS}")
        return Notice("slack", address)
    if re.fullmatch(NOTICE, text) is not None:
        return Notice(text)
    if "/" in text:
        raise ValueError(f"the address of a webhook needs 'slack:' before it; use {NOTICE_FORMS}")
    raise ValueError(f"{text!r} is not of the form {NOTICE_FORMS}")


def read_place(text: str) -> str:
    """Returns the form in which setup remembers the place that ``text`` names; raises like ``read_notice``."""
    return text if text == "slack" else read_notice(text).place


@click.command()
@stage_command
@click.option("--scope", type=click.Choice(get_args(WafScope)), help="Scope of the web ACL: CloudFront, or a region.")
@click.option(
    "--source",
    "sources",
    type=click.Choice(get_args(DeliveredLog)),
    multiple=True,
    help="Logs to count: CloudFront real-time logs (default for CLOUDFRONT), WAF logs (for REGIONAL), CloudFront "
    "standard logs, or several. None by default if a new stage has a --log-group, --load-balancer or --bucket, and no "
    "--distribution.",
)
@click.option("--web-acl", "web_acls", metavar="NAME|ARN", multiple=True, help="Web ACL that gets the blocking rule.")
@click.option(
    "--priority",
    type=click.IntRange(0, 1_000_000),
    help="Priority of the blocking rule in each --web-acl, and in a web ACL that setup creates; by default, before all "
    "others if such a number is free.",
)
@click.option(
    "--renumber/--no-renumber",
    default=None,
    help="Evaluate the blocking rule first, or at --priority, and move other rules up if necessary; --no-renumber "
    "gives them back the priorities that they had.",
)
@click.option(
    "--create-web-acl",
    "own_web_acl",
    is_flag=True,
    default=None,
    help="Create a web ACL, sluice-STAGE, with the blocking rule and each --managed-group. You associate it.",
)
@click.option(
    "--managed-group",
    "managed_groups",
    metavar="NAME",
    multiple=True,
    help="AWS's managed rule group in the web ACL that setup creates, such as AWSManagedRulesCommonRuleSet.",
)
@click.option(
    "--distribution",
    "distributions",
    metavar="ID",
    multiple=True,
    help="CloudFront distribution whose requests are counted.",
)
@click.option(
    "--bucket",
    "buckets",
    metavar="NAME",
    multiple=True,
    help="S3 bucket with logs: the requests in its new objects are counted.",
)
@click.option(
    "--log-group",
    "log_groups",
    metavar="NAME|ARN",
    multiple=True,
    help="Existing CloudWatch log group whose requests are counted, through an additional subscription filter.",
)
@click.option(
    "--load-balancer",
    "load_balancers",
    metavar="ARN",
    multiple=True,
    help="Application Load Balancer whose access log is delivered to a log group of the stage, and counted.",
)
@click.option("--prefix", default="", metavar="PREFIX", help="Start of the keys of the logs in each --bucket.")
@click.option(
    "--notification/--no-notification",
    default=None,
    help="Whether setup makes each --bucket notify the queue; if not, let an SNS topic or EventBridge do so.",
)
@click.option(
    "--events",
    type=click.Choice(NOTIFIERS),
    help="What notifies the queue: each --bucket itself (s3, the default), or a rule that setup adds to EventBridge, "
    "to which the bucket sends its events.",
)
@click.option("--kms-key", "kms_keys", metavar="ARN", multiple=True, help="Key that encrypts these objects.")
@click.option("--shards", type=click.IntRange(0, MOST_SHARDS), help="Kinesis shards; 0, the default, is on-demand.")
@click.option(
    "--stream-encryption/--no-stream-encryption",
    default=None,
    help="Whether the stream is encrypted with the account's own key for Kinesis; it is by default.",
)
@click.option("--ip-sets", type=click.IntRange(1, MOST_IP_SETS), help="IP sets per family, of 10,000 networks each.")
@click.option(
    "--respond",
    "responses",
    type=click.Choice(list(map(str, SOFTER))),
    multiple=True,
    callback=lambda ctx, param, names: tuple(map(Response, names)),  # noqa: ARG005
    help="Response, besides block, that rules may use: it gets IP sets and a rule in the rule group.",
)
@click.option(
    "--no-respond",
    "without_responses",
    type=click.Choice(list(map(str, SOFTER))),
    multiple=True,
    callback=lambda ctx, param, names: tuple(map(Response, names)),  # noqa: ARG005
    help="Response that rules no longer use: its IP sets and its rule are removed.",
)
@click.option(
    "--block-status",
    type=click.Choice(STATUSES),
    callback=lambda ctx, param, status: status and int(status),  # noqa: ARG005
    help="Status of refused requests; 429 by default.",
)
@click.option(
    "--block-body",
    "body",
    type=EXISTING_FILE,
    callback=lambda ctx, param, path: path and read_body(path),  # noqa: ARG005
    help="File with the body of refused requests: .json, .html or .txt, of at most 4,096 bytes. An empty one removes "
    "the present body.",
)
@click.option(
    "--retry-after",
    "retry_after_s",
    type=click.IntRange(1, 86_400),
    help="Retry-After of refused requests, in seconds; 60 by default.",
)
@click.option(
    "--slow-limit",
    type=click.IntRange(10, 1_000_000),
    help="Requests per minute to which AWS WAF slows down a client whose response is slow; 10 by default.",
)
@click.option(
    "--notify",
    "notices",
    type=Parsed("PLACE", read_notice),
    multiple=True,
    help="Where to send announcements of blocks, stopped rules, changes and warnings: email:ADDRESS, slack:WEBHOOK, "
    "sns:ARN of a topic, or chat for Amazon Q Developer in chat applications. Turns on EVENT_BUS.",
)
@click.option(
    "--no-notify",
    "without_notices",
    type=Parsed("PLACE", read_place),
    multiple=True,
    help="Place to which announcements are no longer sent: email:ADDRESS, sns:ARN, slack or chat.",
)
@click.option(
    "--alarms/--no-alarms",
    default=None,
    help="Whether alarms watch Sluice itself, with a topic, a dashboard and a monthly budget, as a stack has them. By "
    "default, none do.",
)
@click.option(
    "--alarm-email",
    "alarm_emails",
    metavar="ADDRESS",
    multiple=True,
    help="Address that the alarms and the budget notify. Turns on --alarms.",
)
@click.option(
    "--no-alarm-email",
    "without_alarm_emails",
    metavar="ADDRESS",
    multiple=True,
    help="Address that they notify no longer.",
)
@click.option(
    "--monthly-budget",
    type=click.IntRange(0, 1_000_000),
    metavar="USD",
    help="US dollars of the budget for Kinesis, DynamoDB and Lambda that comes with the alarms, 200 by default; 0 for "
    "none.",
)
@click.option("--fields", type=NAMES, help="CloudFront real-time fields, separated by commas.")
@click.option(
    "--sample-rate", type=click.IntRange(1, 100), help="Percentage of requests that CloudFront's real-time log holds."
)
@click.option(
    "--set",
    "settings",
    type=NAME_VALUE,
    multiple=True,
    callback=lambda ctx, param, pairs: dict(pairs),  # noqa: ARG005
    help="Additional environment variable; NAME= removes it.",
)
@click.option(
    "--rules",
    "text",
    type=EXISTING_FILE,
    default=DEFAULT_RULES,
    callback=lambda ctx, param, path: read_rules(path)[0],  # noqa: ARG005
    help="First rule set; by default chalicelib/rules.toml, which only counts.",
)
@click.option(
    "--requests-per-second",
    type=click.FloatRange(0.001),
    help="Expected traffic, for the evaluator's memory (1,769 MB by default) and the estimated cost (by default for "
    "the last week's average in CloudWatch, or else for 100).",
)
@click.option(
    "--print",
    "printed",
    type=click.Choice(["terraform", "terraform-site", "cloudformation", "cdk"]),
    help="Do nothing but print: terraform, the IP sets and the rule group as the content of a .tf.json file; "
    "cloudformation, cdk or terraform-site, what the template of the site adds to web ACL, distribution, logs "
    "and buckets.",
)
@click.option(
    "--managed-elsewhere/--managed-here",
    "elsewhere",
    default=None,
    help="Whether another tool makes the additions to web ACLs, distributions, load balancers, log groups and buckets: "
    "then setup only looks for them, and 'sluice doctor' reports those that are missing.",
)
@plan_options
def setup(
    stage: str,
    account: AwsAccount,
    web_acls: tuple[str, ...],
    buckets: tuple[str, ...],
    prefix: str,
    renumber: bool | None,
    notification: bool | None,
    events: str | None,
    text: str,
    body: Body | None,
    printed: str | None,
    notices: tuple[Notice, ...],
    project: Project,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Create the resources that the functions need, after showing the plan and its cost.

    These are the stream, tables, IP sets, rule group, delivery of the logs with its IAM role, first rules and first
    token, and the settings of the functions. Resources that are already as desired are kept, so the command can be
    run again at any time, with the same options or others; the choices of earlier runs need not be repeated. Only what
    setup created is changed, except for one rule in each --web-acl, its logging configuration with --source waf, the
    log setting of each --distribution, one log delivery of each --load-balancer, one subscription filter of each
    --log-group, and one notification of each --bucket.

    \b
    sluice setup --dry-run --requests-per-second 1000
    sluice setup --web-acl edge --distribution E2EXAMPLE
    sluice setup --bucket logs-of-site --prefix AWSLogs/
    sluice setup --bucket logs-of-site --events eventbridge
    sluice setup --respond challenge --block-body sorry.html
    sluice setup --notify email:ops@example.com --notify chat
    sluice setup --alarm-email ops@example.com --monthly-budget 500
    sluice setup --respond challenge --print terraform > sluice.tf.json
    sluice setup --web-acl edge --managed-elsewhere --print cloudformation
    sluice setup --source cloudfront-standard --distribution E2EXAMPLE
    sluice setup --scope REGIONAL --region eu-west-1 --log-group /site/access --web-acl api
    sluice deploy --stage prod
    """
    console = output(sys.stderr if as_json else None)
    tokens: list[str] = []
    if prefix and not buckets:
        raise click.UsageError("--prefix belongs to a --bucket.")
    entries, notifier = tuple(f"{bucket}/{prefix}" for bucket in buckets), _notifier(events, notification)
    options["notices"] = tuple(dict.fromkeys(notice.place for notice in notices))
    webhook = next((notice.webhook for notice in reversed(notices) if notice.webhook), "")
    desired = _stage(stage, account, web_acls, {**options, **notifier, "buckets": entries})
    order: Order = "kept" if renumber is None else "changed" if renumber else "restored"
    if renumber:
        desired = _remembering_order(desired, account)
    if body is not None:
        _check_owner(desired.choices, "--block-body", "BlockBody and BlockBodyType")
    if printed:
        _print_for(printed, desired, account, body)
        return
    resources = resources_of(
        desired,
        rules=text,
        body=body,
        now=int(time.time()),
        project=project,
        order=order,
        webhook=webhook,
        show_token=tokens.append,
    )
    surplus = _surplus(desired, options, notified_anew=bool(notifier))
    steps = [*to_set_up(survey(resources, account)), *to_tear_down(survey_remains(surplus, account))]
    if order == "restored":
        # Forgotten last, so that an interrupted run can be repeated.
        forgotten = replace(desired, choices=replace(desired.choices, priority=None, renumbered={}))
        steps += to_set_up(survey([memory_of(forgotten)], account))
    with attempting("look at the web ACLs"):
        placed = placements(account, steps)
    if body is not None and any(placement.plan for placement in placed):
        raise Refusal(
            "--block-body: not possible on a flat-rate plan, where Sluice's rules stand in the web ACL itself; leave "
            "it out"
        )
    choices, now = desired.choices, int(time.time())
    observed = None if choices.requests_per_second else observed_requests_per_second(account, choices, now)
    load = _load(desired, placed, choices.requests_per_second or observed or 100)
    if as_json and dry_run:
        _print_json(desired, steps, load, placed, applied=False)
    if not as_json:
        origin = ", the average of the last seven days" if observed else ""
        _describe(console, desired, steps, load, placed, origin)
        _note_reservations(console, desired, account, project)
    refuse_if_any(steps)
    check_plan(steps, account)
    if dry_run:
        return
    with showing_last(tokens, console):
        if any(step.effective for step in steps):
            carry_out(steps, account, console, "Make these changes?", yes=yes)
        with attempting("look at the web ACLs"):
            note_places(account, desired, places(account, desired), now)
        if as_json:
            _print_json(desired, steps, load, placed, applied=True, token=tokens[-1] if tokens else None)
        set_anew = bool(options["settings"] or options["requests_per_second"])
        with attempting("look for the stack"):
            published = set_anew and bool(choices.stack) and is_published(account, choices.stack)
        _next_steps(console, desired, project, set_anew=set_anew, published=published)


@contextmanager
def showing_last(tokens: Sequence[str], console: Console) -> Iterator[None]:
    """Shows the first token after everything else, where it is not overlooked.

    Shows it also if a step after its creation fails, because it cannot be shown again.
    """
    try:
        yield
    finally:
        for token in tokens:
            message = "Token for the admin API, valid for 90 days and shown only this once; store it safely:"
            console.print(Text.assemble(f"\n{message}\n", (token, "bold"), "\n"), soft_wrap=True)


def _surplus(desired: Stage, options: Mapping[str, Any], *, notified_anew: bool) -> list[Resource]:
    """Returns the resources that the options give up."""
    # These go last: the rule group refers to the IP sets of a response until its own step has been taken.
    return [
        *ip_sets_without(desired, options["without_responses"]),
        *(notified_otherwise(desired) if notified_anew else ()),
        *no_longer(desired, options["without_notices"]),
        *(watched_no_longer(desired, options["without_alarm_emails"]) if _unwatched(options) else ()),
    ]


def _load(desired: Stage, placed: Iterable[Placement], requests_per_second: float) -> Load:
    """Returns the load that the plan's costs are estimated for."""
    choices = desired.choices
    return Load(
        requests_per_second=requests_per_second,
        source=_estimated_log(choices),
        shards=choices.shards,
        sample_rate=choices.sample_rate if choices.sources[:1] == ("cloudfront",) else 100,
        objects=bool(choices.buckets),
        web_acl_wcu=max((placement.wcu_after for placement in placed if not placement.plan), default=0),
        event_bus=bool(desired.event_bus_arn),
        alarms=choices.alarms,
        stack=bool(choices.stack),
    )


def _unwatched(options: Mapping[str, Any]) -> bool:
    """Returns whether the options remove something that watches the stage."""
    return options["alarms"] is False or options["monthly_budget"] == 0 or bool(options["without_alarm_emails"])


def _print_for(tool: str, stage: Stage, account: AwsAccount, body: Body | None) -> None:
    """Prints what another tool needs of the stage, or makes for it. Raises Refusal, AwsError."""
    if tool == "terraform":
        print_json(terraform_of(stage, body))
        return
    with attempting("look for the rule group"):
        existing = RuleGroup(stage, stage.rule_group).find(account)
    arn = existing.facts["ARN"] if existing is not None else ""
    with attempting("look for the sources of log deliveries"):
        sources = delivery_sources(stage, account)
    if tool == "cdk":
        click.echo(cdk_of(stage, arn, sources))
    else:
        print_json((terraform_site_of if tool == "terraform-site" else cloudformation_of)(stage, arn, sources))


def _notifier(events: str | None, notification: bool | None) -> dict[str, bool]:
    """Returns the choices that the options make about what notifies the queue; none if they make none."""
    if events and notification is not None:
        raise click.UsageError("--events and --notification both choose what notifies the queue: give one of them.")
    if notification is not None:
        return {"notification": notification, "event_rules": False}
    return NOTIFIERS[events] if events else {}


def _stage(name: str, account: AwsAccount, web_acls: tuple[str, ...], options: dict[str, Any]) -> Stage:
    """Returns the desired stage: the choices of earlier setups, updated with ``options``. Raises Refusal, AwsError."""
    location, earlier = account.location, choices_of(name, account)
    options = {**options, "log_groups": [group_name(group, location) for group in options["log_groups"]]}
    before = earlier or Choices(scope=options["scope"] or "CLOUDFRONT", sources=())
    if options["alarm_emails"]:
        if options["alarms"] is False:
            raise click.UsageError("--alarm-email and --no-alarms contradict each other.")
        options["alarms"] = True
    if options["notices"]:
        bus = before.settings.get("EVENT_BUS") or "default"
        options["settings"] = {"EVENT_BUS": bus, **options["settings"]}
    choices = before.with_changes(**{**options, "sources": options["sources"] or _default_sources(before, options)})
    if options["distributions"] and not {"cloudfront", "cloudfront-standard"}.intersection(choices.sources):
        raise Refusal(
            "--distribution: no log of CloudFront is counted. Add --source cloudfront, or cloudfront-standard"
        )
    if options["monthly_budget"] and not (choices.alarms or choices.stack):
        raise Refusal("--monthly-budget: the budget notifies the topic of the alarms. Add --alarms")
    if earlier is not None:
        if choices.scope != earlier.scope:
            raise Refusal(
                f"stage {name} was set up for scope {earlier.scope}: IP sets cannot move. Choose another --stage for "
                f"{choices.scope}"
            )
        if choices.ip_sets < earlier.ip_sets:
            raise Refusal(
                f"stage {name} has {earlier.ip_sets} IP sets per family; fewer would unblock the clients in the "
                "others. Run teardown first, or keep them: they cost nothing"
            )
    if before.notices and choices.notices and choices.settings.get("EVENT_BUS") != before.settings.get("EVENT_BUS"):
        without = " ".join(f"--no-notify {notice}" for notice in before.notices)
        raise Refusal(f"--set EVENT_BUS: rules of the present bus send notices. Remove them first: {without}")
    if before.stack and choices.ip_sets != before.ip_sets:
        raise Refusal(
            f"--ip-sets: stack {before.stack} has one IP set per family and response, of 10,000 networks; only a stage "
            "without a stack can have more"
        )
    for option, parameter, chosen in STACK_OWNS:
        if chosen(choices) != chosen(before):
            _check_owner(before, option, parameter)
    # Checks name and region before AWS is asked for web ACLs that the region does not have.
    stage = Stage(name=name, location=location, choices=choices)
    check_settings(stage)
    with attempting("look for the web ACL"):
        arns = [arn_of(account, choices.scope, web_acl) for web_acl in web_acls]
    return replace(stage, choices=choices.with_changes(web_acls=arns))


def _check_owner(choices: Choices, option: str, parameter: str) -> None:
    """Raises Refusal if an option would change what a parameter of the stage's stack determines."""
    if choices.stack:
        raise Refusal(
            f"{option}: stack {choices.stack} owns this. Update the stack with its parameter {parameter} (sluice stack "
            "deploy --parameter NAME=VALUE; or in the CloudFormation console, or with the tool that deploys it)"
        )


def _default_sources(before: Choices, options: dict[str, Any]) -> tuple[DeliveredLog, ...]:
    """Returns the logs whose delivery setup adds to those of earlier setups: none if the stage has logs already."""
    names = ("log_groups", "load_balancers", "buckets")
    others = any(getattr(before, name) or options[name] for name in names)
    if before.sources or (others and not options["distributions"]):
        return ()
    return ("cloudfront",) if before.scope == "CLOUDFRONT" else ("waf",)


def _estimated_log(choices: Choices) -> str | None:
    """Returns the log to estimate for, which for log groups of other owners is their scope's usual one."""
    if choices.sources:
        return choices.sources[0]
    if choices.load_balancers:
        return "load-balancer"
    usual = "cloudfront-standard" if choices.scope == "CLOUDFRONT" else "load-balancer"
    return usual if choices.log_groups else None


def _describe(
    console: Console, stage: Stage, steps: list[Step], load: Load, placed: list[Placement], origin: str
) -> None:
    show_plan(stage, steps, console)
    for placement in placed:
        console.print()
        _print_placement(console, stage, placement, load)
    console.print()
    print_bill(console, load, origin=origin)
    choices = stage.choices
    if not (choices.web_acls or choices.own_web_acl):
        console.print("\nWithout --web-acl no request is blocked until a web ACL refers to the rule group.")
    if {"cloudfront", "cloudfront-standard"}.intersection(choices.sources) and not choices.distributions:
        console.print("\nWithout --distribution no request is counted until a distribution logs to the stream.")
    console.print()


def _print_placement(console: Console, stage: Stage, placement: Placement, load: Load) -> None:
    """Prints where Sluice's rule stands in a web ACL, what precedes it, and what its capacity costs."""
    rule, setup = stage.rule_group, stage.command("setup")
    on_plan = f", without a rule group, for the flat-rate plan {placement.plan}" if placement.plan else ""
    console.print(
        f"In web ACL {placement.web_acl}, {rule} is rule {placement.place} of {placement.rules}, at priority "
        f"{placement.priority}{on_plan}. "
        f"The web ACL uses {placement.wcu_before:,} WCU now, and will use {placement.wcu_after:,}.",
        soft_wrap=True,
    )
    if placement.before:
        console.print("These rules before it may end the evaluation of a request:")
        console.print(table(("priority", "rule", ""), [(str(p.priority), p.name, p.effect) for p in placement.before]))
        console.print(f"To evaluate it first:  {setup} --renumber", soft_wrap=True)
    if placement.renumbered:
        moved = ", ".join(f"{name} from {former} to {later}" for name, former, later in placement.renumbered)
        console.print(f"Other rules get another priority, in the same order: {moved}", soft_wrap=True)
        console.print(f"Undo:  {setup} --no-renumber", soft_wrap=True)
    before, after = (
        excess_dollars(replace(load, web_acl_wcu=wcu)) for wcu in (placement.wcu_before, placement.wcu_after)
    )
    if after and not placement.plan:
        console.print(
            f"Every {WCU_STEP} WCU or part of them above {INCLUDED_WCU:,} costs "
            f"{PRICES['waf.excess_500_wcu'] * 1e6:.2f} USD per million requests: "
            f"{after:,.2f} USD a month here, of which {after - before:,.2f} for Sluice.",
            soft_wrap=True,
        )


def _remembering_order(stage: Stage, account: AwsAccount) -> Stage:
    """Returns the stage with the priorities that the other rules of its web ACLs had. Raises Refusal, AwsError."""
    with attempting("look at the web ACLs"):
        former = {
            each.web_acl: each.former_priorities(account)
            for each in additions(stage, "changed")
            if isinstance(each, WebAclRule)
        }
    kept = {arn: numbers for arn, numbers in former.items() if numbers}
    return replace(stage, choices=replace(stage.choices, renumbered=kept))


def _note_reservations(console: Console, stage: Stage, account: AwsAccount, project: Project) -> None:
    """Prints a note if the account has too few concurrent executions, unless setup lacks the permission to look."""
    with suppress(AwsError):
        if not stage.choices.stack and (note := reservations(stage, account, project).note):
            console.print(f"Note: {note}.\n", soft_wrap=True)


def _print_json(
    stage: Stage, steps: list[Step], load: Load, placed: list[Placement], *, applied: bool, token: str | None = None
) -> None:
    costs = monthly_costs(load)
    document = {
        "stage": stage.name,
        "account": stage.location.account,
        "region": stage.location.region,
        "applied": applied,
        "steps": [step.row() for step in steps],
        "web_acls": [_placement_json(placement) for placement in placed],
        "cost": {"items": items_of(costs), "usd_a_month": round(total(costs), 2)},
        "undo": stage.command("teardown"),
        **({"token": token} if token else {}),
    }
    print_json(document)


def _placement_json(placement: Placement) -> dict[str, Any]:
    moved = [{"name": name, "from": former, "to": later} for name, former, later in placement.renumbered]
    return {**asdict(placement), "renumbered": moved}


def _next_steps(console: Console, stage: Stage, project: Project, *, set_anew: bool, published: bool) -> None:
    if stage.choices.stack:
        memory, stack = stage.choices.evaluator_mb, stage.choices.stack
        if published:
            if stage.choices.packaged_settings:
                console.print(f"\nNext:  to give the functions their settings, {repackaging(stack)}", soft_wrap=True)
            if memory > VCPU_MB:
                sized = f"update stack {stack} with EvaluateMemory={memory}, {BY_ITS_OWNER}"
                console.print(f"\nNext:  {sized}", soft_wrap=True)
        elif set_anew:
            sized = f" --parameter EvaluateMemory={memory}" if memory > VCPU_MB else ""
            gets = "settings and memory" if sized else "settings"
            console.print(f"\nNext:  {stage.command('stack deploy')}{sized}", soft_wrap=True)
            console.print(f"       which gives the functions their {gets}")
        console.print(f"\nThen:  {stage.command('doctor')}")
        return
    if stage.choices.api_networks:
        console.print(
            f"\nThe admin API and the page will accept calls from {', '.join(stage.choices.api_networks)} alone,\n"
            f"which has to include your own public address. Undo:  {stage.command('setup')} --set API_NETWORKS=\n"
            f"                                      {stage.command('deploy')}",
            soft_wrap=True,
        )
    runtime = runtime_of_chalice()
    advice = "" if runtime == RECOMMENDED else f" (run it with {RECOMMENDED} instead, if you can)"
    console.print(
        f"\nNext:  {stage.command('deploy')}\n"
        f"       which deploys for {runtime}, the Python it runs on, and {project.architecture}{advice}\n"
        f"Then:  {stage.command('doctor')}\n"
        f"Undo:  {stage.command('teardown')}"
    )
