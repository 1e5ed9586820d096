"""A stage: an operator's choices for one deployment, and the names and ARNs that follow from them."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import msgspec

from chalicelib.config import ConfigError, read_config
from chalicelib.core.ipsets import SetGroup
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, CloudFrontLines
from chalicelib.core.refusals import REFUSAL_STATUS
from chalicelib.core.responses import SOFTER, Response
from chalicelib.edges.waf_ip_sets import WafScope
from sluice.deploy.sizing import LATENESS_S, evaluator_mb, most_requests_per_s

TAG = "sluice:stage"
"""Key of the tag by which setup recognises what it created, where AWS has tags; its value is the stage's name."""

PACKAGED = "dev"
"""Reserved stage name, from which ``chalice package`` builds the CloudFormation template."""

MOST_IP_SETS = 10
"""Most IP sets per family: twice ten stay well below the 50 reference statements of a rule group and a web ACL."""

MOST_REFERENCES = 50
"""Reference statements per rule group and per web ACL: a fixed quota of AWS."""

MOST_SHARDS = 1200
"""Most shards of a stream: one evaluator keeps up with as many (docs/development/scale.md)."""


MONTHLY_BUDGET = 200
"""US dollars, as in the stack's parameter MonthlyBudget."""

STACK_CHOICES = (
    *(
        "scope",
        "sources",
        "shards",
        "fields",
        "sample_rate",
        "responses",
        "block_status",
        "retry_after_s",
        "slow_limit",
    ),
    "stack",
)
"""Choices that the parameters of a stack make; setup makes the others."""

STACK_SETTINGS = ("TRUSTED_PROXIES", "EVENT_BUS", "API_NETWORKS")
"""Settings that the parameters of a stack determine."""

ADDRESS = r"[^@\s]{1,64}@[^@\s]{1,255}"
"""An e-mail address."""

NOTICE = rf"email:{ADDRESS}|sns:arn:[a-z-]+:sns:[a-z0-9-]+:\d{{12}}:[A-Za-z0-9_-]{{1,256}}|slack|chat"
NOTICE_FORMS = "email:ADDRESS, sns:ARN, slack:WEBHOOK with https://, or chat"
"""Where announcements can be sent: a pattern for the stored form, and the forms that an operator can give."""


class Refusal(Exception):
    """A choice or an account that cannot work. The message says why, and what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """The account and region of a stage."""

    account: str
    region: str
    partition: str = "aws"
    profile: str = ""
    """Profile of the AWS credentials; empty for those that boto3 finds by itself."""

    def __str__(self) -> str:
        return f"account {self.account}, {self.region}"

    def arn(self, service: str, resource: str, *, region: bool = True, account: bool = True) -> str:
        """Returns the ARN of a resource; some services leave out region or account.

        >>> Location(account="1", region="us-east-1").arn("iam", "role/x", region=False)
        'arn:aws:iam::1:role/x'
        """
        region_and_account = f"{self.region if region else ''}:{self.account if account else ''}"
        return f"arn:{self.partition}:{service}:{region_and_account}:{resource}"


DeliveredLog = Literal["cloudfront", "waf", "cloudfront-standard"]
"""Sources whose delivery setup can create, besides load balancers'. Others are read from log groups that exist, and
from buckets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """An operator's choices. Setup stores them in the account, so that later runs need not repeat them."""

    scope: WafScope = "CLOUDFRONT"
    sources: tuple[DeliveredLog, ...] = ("cloudfront",)
    shards: int = 0
    """Provisioned Kinesis shards; 0 means an on-demand stream."""
    stream_encryption: bool = True
    """True if the stream is encrypted with the account's own key for Kinesis."""
    ip_sets: int = 1
    """WAF IP sets per family, each of which holds 10,000 networks, for the clients to block."""
    responses: tuple[Response, ...] = ()
    """Responses other than block, each with one IP set per family."""
    block_status: int = REFUSAL_STATUS
    """Status of refused requests."""
    retry_after_s: int = 60
    """Retry-After of refused requests, seconds."""
    slow_limit: int = 10
    """Requests per minute that a client may make under the response slow."""
    fields: tuple[str, ...] = DEFAULT_FIELDS
    """CloudFront real-time fields, in delivery order."""
    sample_rate: int = 100
    """Percentage of requests that CloudFront's real-time log holds."""
    requests_per_second: float | None = None
    """Rate that the evaluator has memory for; None for its least memory."""
    web_acls: tuple[str, ...] = ()
    """ARNs of the web ACLs that the rule group is attached to."""
    priority: int | None = None
    """Priority of the rule group's rule in these web ACLs; None: one before all others, if it is free."""
    renumbered: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Former priorities, by a web ACL's ARN, of the rules that made room for the rule group's, in their order."""
    own_web_acl: bool = False
    """True if setup creates a web ACL, which refers to the rule group and to ``managed_groups``."""
    managed_groups: tuple[str, ...] = ()
    """Names of AWS's managed rule groups in that web ACL, in the order in which they are evaluated."""
    distributions: tuple[str, ...] = ()
    """Ids of the distributions that log to the stream."""
    buckets: tuple[str, ...] = ()
    """Buckets with logs, each followed by a slash and the prefix of the logs' keys, which may be empty."""
    notification: bool = True
    """True if the buckets notify the queue themselves, False if an SNS topic or EventBridge does."""
    event_rules: bool = False
    """True if EventBridge notifies the queue, by rules that setup creates; then ``notification`` is False."""
    kms_keys: tuple[str, ...] = ()
    """ARNs of the KMS keys with which objects in the buckets are encrypted."""
    log_groups: tuple[str, ...] = ()
    """Names of log groups of other owners, to which the stream is subscribed."""
    load_balancers: tuple[str, ...] = ()
    """ARNs of the Application Load Balancers whose access logs are delivered to the stage's log group."""
    elsewhere: bool = False
    """True if another tool makes the additions to what others own, so that setup only looks for them."""
    notices: tuple[str, ...] = ()
    """Where announcements are sent: 'email:' and an address, 'sns:' and the ARN of a topic, 'slack' or 'chat'."""
    alarms: bool = False
    """True if setup creates alarms, their topic and a dashboard. A stack has its own."""
    alarm_emails: tuple[str, ...] = ()
    """Addresses that alarms and the budget notify."""
    monthly_budget: int = MONTHLY_BUDGET
    """US dollars of the budget that comes with the alarms; 0 for none."""
    stack: str = ""
    """CloudFormation stack that created the resources; empty if setup did."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Additional environment variables of the functions (``chalicelib.config``)."""

    def __post_init__(self) -> None:
        """Raises Refusal if a choice is out of range."""
        for name, number, low, high in (
            ("IP sets per family", self.ip_sets, 1, MOST_IP_SETS),
            ("shards", self.shards, 0, MOST_SHARDS),
            ("sample rate", self.sample_rate, 1, 100),
            ("Retry-After", self.retry_after_s, 1, 86_400),
            ("requests per minute of slowed clients", self.slow_limit, 10, 1_000_000),
            ("monthly budget", self.monthly_budget, 0, 1_000_000),
        ):
            if not low <= number <= high:
                raise Refusal(f"{name}: {number} is not a whole number from {low} to {high}")
        if self.sample_rate < 100 and "cloudfront" not in self.sources:
            raise Refusal(
                f"sample rate: {self.sample_rate} % without CloudFront logs. Only CloudFront's real-time log can be "
                "sampled; AWS WAF logs every request"
            )
        most = most_requests_per_s(self.lateness_s)
        if not 0 <= self.logged_per_second <= most:
            raise Refusal(
                f"requests per second: {self.requests_per_second:,} is not between 0.001 and "
                f"{most * 100 // self.percent_logged:,}, the most that Lambda has memory for with "
                f"{self.percent_logged} % of requests logged and a lateness of {self.lateness_s} s"
            )
        if self.managed_groups and not self.own_web_acl:
            raise Refusal("managed groups belong to a web ACL that setup creates: add --create-web-acl")
        self._check_names()
        self._check_responses()
        try:
            CloudFrontLines(self.fields)
        except ValueError as exc:
            raise Refusal(f"fields: {exc}") from exc

    def _check_names(self) -> None:
        """Raises Refusal for a name in a form that AWS does not accept."""
        key = r"arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+"
        for what, names, form, remedy in (
            (
                "bucket",
                self.buckets,
                r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.{0,900}",
                "the name of a bucket, and --prefix for the start of the keys",
            ),
            ("KMS key", self.kms_keys, key, "its ARN, such as arn:aws:kms:us-east-1:111122223333:key/1234abcd"),
            (
                "managed group",
                self.managed_groups,
                r"AWSManagedRules[A-Za-z0-9]{1,100}",
                "AWS's name, such as AWSManagedRulesCommonRuleSet",
            ),
            (
                "load balancer",
                self.load_balancers,
                r"arn:[a-z-]+:elasticloadbalancing:[a-z0-9-]+:\d{12}:loadbalancer/app/[A-Za-z0-9-]{1,32}/[0-9a-f]+",
                "the ARN of an Application Load Balancer, which ends like loadbalancer/app/site/50dc6c495c0c9188",
            ),
            ("--notify", self.notices, NOTICE, NOTICE_FORMS),
            ("--alarm-email", self.alarm_emails, ADDRESS, "an address, such as ops@example.com"),
            ("log group", self.log_groups, r"[A-Za-z0-9_/.#-]{1,512}", "its name, such as /site/access, or its ARN"),
        ):
            for name in names:
                if re.fullmatch(form, name) is None:
                    raise Refusal(f"{what} {name!r}: use {remedy}")

    def _check_responses(self) -> None:
        pairs = self.ip_sets + len(self.responses)
        if self.behind_proxies and 4 * pairs > MOST_REFERENCES:
            raise Refusal(
                f"{pairs} IP sets per family with TRUSTED_PROXIES: the rule group refers to each of them twice, and "
                f"AWS accepts {MOST_REFERENCES} references. Use at most {MOST_REFERENCES // 4} per family, of which "
                "each response other than block takes one"
            )

    @property
    def behind_proxies(self) -> bool:
        """True if clients are counted by the address that a trusted proxy forwards."""
        return bool(self.settings.get("TRUSTED_PROXIES", "").strip(" ,"))

    @property
    def api_networks(self) -> tuple[str, ...]:
        """Networks from which the admin API accepts calls; none if from everywhere."""
        return read_config({"API_NETWORKS": self.settings.get("API_NETWORKS", "")}).api_networks

    @property
    def packaged_settings(self) -> dict[str, str]:
        """Settings that the functions of a stack are packaged with: those that its parameters do not determine."""
        return {name: value for name, value in self.settings.items() if name not in STACK_SETTINGS}

    @property
    def live(self) -> bool:
        """True if any log comes through the stream."""
        return bool(self.sources or self.log_groups or self.load_balancers)

    @property
    def delivered(self) -> bool:
        """True if access logs are delivered to a log group of the stage."""
        return bool("cloudfront-standard" in self.sources or self.load_balancers)

    @property
    def subscribed(self) -> bool:
        """True if any log comes to the stream by way of a log group."""
        return bool("waf" in self.sources or self.delivered or self.log_groups)

    @property
    def logged_per_second(self) -> float:
        """Log lines per second that the stage is sized for; 0 if no rate was chosen."""
        return (self.requests_per_second or 0) * self.percent_logged / 100

    @property
    def percent_logged(self) -> int:
        """Percentage of requests in the fullest log."""
        return 100 if self.subscribed else self.sample_rate

    @property
    def lateness_s(self) -> int:
        """The setting LATENESS_S. Raises Refusal if it is not valid."""
        try:
            return read_config({"LATENESS_S": self.settings.get("LATENESS_S", str(LATENESS_S))}).lateness_s
        except ConfigError as exc:
            raise Refusal(f"setting {exc}") from exc

    @property
    def evaluator_mb(self) -> int:
        """Memory of the function evaluate, in MB."""
        return evaluator_mb(self.logged_per_second, self.lateness_s)

    @classmethod
    def of_stack(cls, stacked: str, added: str) -> Self:
        """Returns the choices that a stack records, with those that setup has added; both are JSON."""
        of_stack, of_setup = (msgspec.json.decode(text, type=dict[str, Any]) for text in (stacked, added))
        choices = {**of_setup, **{name: of_stack[name] for name in STACK_CHOICES if name in of_stack}}
        # Earlier versions of setup accepted more, without effect.
        choices["ip_sets"] = 1
        choices["sources"] += [each for each in of_setup.get("sources", ()) if each == "cloudfront-standard"]
        settings = {name: of_stack.get("settings", {}).get(name, "") for name in STACK_SETTINGS}
        choices["settings"] = {**of_setup.get("settings", {}), **settings}
        return cls.from_json(msgspec.json.encode(choices).decode())

    @classmethod
    def from_json(cls, text: str) -> Self:
        choices = msgspec.json.decode(text, type=dict[str, Any])
        # Earlier versions accepted a rate for other logs, which are complete.
        if "cloudfront" not in choices.get("sources", ("cloudfront",)):
            choices["sample_rate"] = 100
        # A stack names every response and setting, and leaves those empty that were not chosen.
        choices["responses"] = [response for response in choices.get("responses", ()) if response]
        choices["settings"] = {name: value for name, value in choices.get("settings", {}).items() if value}
        return msgspec.convert(choices, cls)

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()

    def with_changes(self, **choices: Any) -> Self:
        """Returns these choices, updated with those of ``choices`` that are not None.

        Sources, responses, web ACLs, managed groups, distributions, buckets, keys, log groups, load balancers,
        notices, addresses and settings accumulate. An empty value removes a setting; what ``without_responses``,
        ``without_notices`` and ``without_alarm_emails`` name is removed.
        """
        changes = {name: value for name, value in choices.items() if value is not None}
        for name in (
            "sources",
            "responses",
            "web_acls",
            "managed_groups",
            "distributions",
            "buckets",
            "kms_keys",
            "log_groups",
            "load_balancers",
            "notices",
            "alarm_emails",
        ):
            if name in changes:
                changes[name] = tuple(dict.fromkeys((*getattr(self, name), *changes[name])))
        settings = {**self.settings, **changes.get("settings", {})}
        changes["settings"] = {name: value for name, value in settings.items() if value}
        for name in ("responses", "notices", "alarm_emails"):
            without = changes.pop(f"without_{name}", ())
            changes[name] = tuple(each for each in changes.get(name, getattr(self, name)) if each not in without)
        return replace(self, **changes)


LOGS = "/aws/lambda/"
API = "api_handler"


class _Name:
    """An attribute of a stage: a name with ``{}`` in place of the stage's own."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def __get__(self, stage: "Stage", owner: type) -> str:
        return self._pattern.format(stage.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One deployment: its name, account, region and choices, from which all other names follow."""

    name: str
    location: Location
    choices: Choices

    def __post_init__(self) -> None:
        """Raises Refusal for an unusable name or scope, and for a log group of the stage itself."""
        if re.fullmatch(r"[a-z][a-z0-9-]{0,19}", self.name) is None:
            raise Refusal(f"stage {self.name!r}: use 1 to 20 lower-case letters, digits and '-', such as 'prod'")
        if self.name == PACKAGED:
            raise Refusal(
                f"stage {PACKAGED!r} is reserved: 'chalice package' builds the CloudFormation template from it; "
                "choose another name, such as 'prod'"
            )
        if self.choices.scope == "CLOUDFRONT" and self.location.region != "us-east-1":
            raise Refusal(
                f"scope CLOUDFRONT in {self.location.region}: AWS keeps web ACLs for CloudFront, their IP sets and "
                "their logs in us-east-1 alone. Use --region us-east-1, or --scope REGIONAL for load balancers and "
                f"APIs in {self.location.region}"
            )
        if self.choices.scope == "REGIONAL" and {"cloudfront", "cloudfront-standard"}.intersection(
            self.choices.sources
        ):
            raise Refusal(
                "scope REGIONAL with CloudFront logs: a regional web ACL sees CloudFront's addresses, not the "
                "clients'. Use --source waf, or --scope CLOUDFRONT"
            )
        self._check_load_balancers()
        self._check_notices()
        for group in self.choices.log_groups:
            if group in (self.waf_log_group, self.access_log_group) or f"{group}-".startswith(f"{LOGS}{self.prefix}-"):
                raise Refusal(
                    f"log group {group} belongs to stage {self.name} itself: its lines are not an application's "
                    "requests. Name a log group that holds access logs"
                )

    def _check_notices(self) -> None:
        """Raises Refusal for notices that no rule of EventBridge can send."""
        bus = self.choices.settings.get("EVENT_BUS", "")
        if self.choices.notices and (not bus or bus.startswith("arn:")):
            raise Refusal(
                f"--notify with EVENT_BUS={bus!r}: setup adds rules to a bus of this account, by name, such as default"
            )
        for notice in self.choices.notices:
            kind, _, arn = notice.partition(":")
            if kind == "sns" and not arn.startswith(self.location.arn("sns", "")):
                raise Refusal(
                    f"--notify {notice} is not in {self.location}, where EventBridge's rules send it messages"
                )

    def _check_load_balancers(self) -> None:
        """Raises Refusal for a load balancer whose log cannot be counted here."""
        for arn in self.choices.load_balancers:
            if self.choices.scope == "CLOUDFRONT":
                raise Refusal(
                    f"scope CLOUDFRONT with load balancer {arn}: its log has CloudFront's addresses, not the clients'. "
                    "Use --source cloudfront-standard, or --scope REGIONAL"
                )
            resource = arn.rpartition(":")[2]
            if arn != self.location.arn("elasticloadbalancing", resource):
                raise Refusal(
                    f"load balancer {arn} is not in {self.location}, where its log is delivered. Set up a stage where "
                    "the load balancer is"
                )

    prefix = rule_group = log_config = _Name("sluice-{}")
    log_stream = _Name("sluice-{}-logs")
    tally_table = _Name("sluice-{}-tally")
    state_table = _Name("sluice-{}-state")
    delivery_role = _Name("sluice-{}-log-delivery")
    web_acl = _Name("sluice-{}")
    alarms_topic = _Name("sluice-{}-alarms")
    mail_topic = _Name("sluice-{}-mail")
    chat_topic = _Name("sluice-{}-chat")
    webhook = _Name("sluice-{}-webhook")
    waf_log_group = _Name("aws-waf-logs-sluice-{}")
    access_log_group = _Name("sluice-{}-access-logs")
    dead_letters = _Name("sluice-{}-dead-letters")
    objects_queue = _Name("sluice-{}-objects")
    objects_dead_letters = _Name("sluice-{}-objects-failed")
    tokens_parameter = _Name("/sluice/{}/tokens")
    choices_parameter = _Name("/sluice/{}/setup")
    added_choices_parameter = _Name("/sluice/{}/attached")

    @property
    def tags(self) -> dict[str, str]:
        return {TAG: self.name}

    @property
    def tag_list(self) -> list[dict[str, str]]:
        """The tags, in the form that most AWS calls take."""
        return [{"Key": key, "Value": value} for key, value in self.tags.items()]

    @property
    def ip_sets(self) -> dict[SetGroup, list[str]]:
        """Names of the IP sets by group; those of a group are numbered from 1.

        >>> choices = Choices(responses=(Response.SLOW,))
        >>> stage = Stage(name="prod", location=Location(account="1", region="us-east-1"), choices=choices)
        >>> [name for names in stage.ip_sets.values() for name in names]
        ['sluice-prod-v4-1', 'sluice-prod-v6-1', 'sluice-prod-slow-v4-1', 'sluice-prod-slow-v6-1']
        """
        numbers = range(1, self.choices.ip_sets + 1)
        names = {
            SetGroup(Response.BLOCK, family): [f"{self.prefix}-v{family}-{number}" for number in numbers]
            for family in (4, 6)
        }
        return names | {
            SetGroup(response, family): [f"{self.prefix}-{response}-v{family}-1"]
            for response in SOFTER
            if response in self.choices.responses
            for family in (4, 6)
        }

    def command(self, name: str) -> str:
        """Returns the command line of a ``sluice`` command for this stage."""
        profile = f" --profile {shlex.quote(self.location.profile)}" if self.location.profile else ""
        return f"sluice {name} --stage {self.name} --region {self.location.region}{profile}"

    def function(self, name: str) -> str:
        """Returns Lambda's name for a function, as Chalice forms it."""
        return f"{self.prefix}-{name}"

    def log_group(self, function: str) -> str:
        """Returns the log group that Lambda writes to. Chalice gives the API's function the name of the whole stage."""
        return f"{LOGS}{self.prefix if function == API else self.function(function)}"

    @property
    def event_bus_arn(self) -> str | None:
        """ARN of the bus that announcements are sent to; None without one."""
        bus = self.choices.settings.get("EVENT_BUS")
        return bus if not bus or bus.startswith("arn:") else self.location.arn("events", f"event-bus/{bus}")

    @property
    def webhook_role_arn(self) -> str:
        return self.location.arn("iam", f"role/{self.webhook}", region=False)

    @property
    def log_stream_arn(self) -> str:
        return self.location.arn("kinesis", f"stream/{self.log_stream}")

    @property
    def delivery_role_arn(self) -> str:
        return self.location.arn("iam", f"role/{self.delivery_role}", region=False)

    def distribution_arn(self, id: str) -> str:
        return self.location.arn("cloudfront", f"distribution/{id}", region=False)

    @property
    def package_bucket(self) -> str:
        """Name of the bucket for the packages of the stack; bucket names are unique among all accounts."""
        return f"{self.prefix}-{self.location.account}-{self.location.region}"

    def bucket_arn(self, entry: str) -> str:
        """Returns the ARN of the bucket of an entry of ``Choices.buckets``."""
        return self.location.arn("s3", split_bucket(entry)[0], region=False, account=False)

    def queue_arn(self, queue: str) -> str:
        return self.location.arn("sqs", queue)

    def table_arn(self, table: str) -> str:
        return self.location.arn("dynamodb", f"table/{table}")


def split_bucket(entry: str) -> tuple[str, str]:
    """Returns the bucket and the prefix of an entry of ``Choices.buckets``.

    >>> split_bucket("logs-of-site/AWSLogs/1/"), split_bucket("logs-of-site/")
    (('logs-of-site', 'AWSLogs/1/'), ('logs-of-site', ''))
    """
    bucket, _, prefix = entry.partition("/")
    return bucket, prefix
