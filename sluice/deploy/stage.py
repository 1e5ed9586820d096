"""A stage: everything an operator chooses about one deployment, and the names and ARNs that follow from it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import msgspec

from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, CloudFrontLines
from chalicelib.edges.waf_ip_sets import WafScope

TAG = "sluice:stage"
"""Everything that setup creates carries this tag, with the stage's name; nothing without it is ever changed."""

PACKAGED = "dev"
"""The stage that ``chalice package`` builds the CloudFormation template from."""

MOST_IP_SETS = 10
"""A family. Two families of ten fit a rule group's and a web ACL's 50 reference statements with room to spare."""

MOST_SHARDS = 100
"""Readers of tallies grow with the square of the shards."""


StageSource = Literal["cloudfront", "waf"]


class Refusal(Exception):
    """What cannot work, why, and what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a stage lives."""

    account: str
    region: str
    partition: str = "aws"

    def __str__(self) -> str:
        return f"account {self.account}, {self.region}"

    def arn(self, service: str, resource: str, *, region: bool = True, account: bool = True) -> str:
        """The ARN of a resource here; some services leave out region or account.

        >>> Location(account="1", region="us-east-1").arn("iam", "role/x", region=False)
        'arn:aws:iam::1:role/x'
        """
        return ":".join(
            ("arn", self.partition, service, self.region if region else "", self.account if account else "", resource)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What an operator chooses. ``setup`` remembers it in the account, so that a later run need not repeat it."""

    scope: WafScope = "CLOUDFRONT"
    sources: tuple[StageSource, ...] = ("cloudfront",)
    shards: int = 0
    """Provisioned Kinesis shards; 0 is an on-demand stream."""
    ip_sets: int = 1
    """WAF IP sets a family; 10,000 networks fit each."""
    fields: tuple[str, ...] = DEFAULT_FIELDS
    """CloudFront real-time fields, in delivery order."""
    sample_rate: int = 100
    """Percentage of requests that the logs hold."""
    web_acls: tuple[str, ...] = ()
    """ARNs of the web ACLs that the rule group is attached to."""
    distributions: tuple[str, ...] = ()
    """Ids of the distributions whose requests are logged."""
    stack: str = ""
    """CloudFormation stack that created everything else; empty if setup did."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables of the functions (``chalicelib.config``)."""

    def __post_init__(self) -> None:
        """Raises Refusal for a choice out of range."""
        _within("IP sets a family", self.ip_sets, 1, MOST_IP_SETS)
        _within("shards", self.shards, 0, MOST_SHARDS)
        _within("sample rate", self.sample_rate, 1, 100)
        try:
            CloudFrontLines(self.fields)
        except ValueError as exc:
            raise Refusal(f"fields: {exc}") from exc

    @classmethod
    def read(cls, text: str) -> Self:
        return msgspec.json.decode(text, type=cls)

    def text(self) -> str:
        return msgspec.json.encode(self).decode()

    def with_changes(self, **given: Any) -> Self:
        """These choices with the ``given`` ones that are not None.

        Sources, web ACLs, distributions and settings add up; a setting that is given empty is taken back.
        """
        changes = {name: value for name, value in given.items() if value is not None}
        for name in ("sources", "web_acls", "distributions"):
            if name in changes:
                changes[name] = tuple(dict.fromkeys((*getattr(self, name), *changes[name])))
        settings = {**self.settings, **changes.get("settings", {})}
        changes["settings"] = {name: value for name, value in settings.items() if value}
        return replace(self, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One deployment."""

    name: str
    location: Location
    choices: Choices

    def __post_init__(self) -> None:
        """Raises Refusal for a name that cannot be used, and for a scope that the region does not have."""
        if re.fullmatch(r"[a-z][a-z0-9-]{0,19}", self.name) is None:
            raise Refusal(
                f"stage {self.name!r}: a name of 1 to 20 lower-case letters, digits and '-' is needed, such as 'prod'"
            )
        if self.name == PACKAGED:
            raise Refusal(
                f"stage {PACKAGED!r} is what 'chalice package' builds the CloudFormation template from; "
                "choose another name, such as 'prod'"
            )
        if self.choices.scope == "CLOUDFRONT" and self.location.region != "us-east-1":
            raise Refusal(
                f"scope CLOUDFRONT in {self.location.region}: AWS keeps web ACLs for CloudFront, their IP sets and "
                "their logs in us-east-1 alone. Use --region us-east-1, or --scope REGIONAL for load balancers and "
                f"APIs in {self.location.region}"
            )
        if self.choices.scope == "REGIONAL" and "cloudfront" in self.choices.sources:
            raise Refusal(
                "scope REGIONAL with CloudFront's logs: a regional web ACL sees CloudFront's addresses, not the "
                "clients'. Use --source waf, or --scope CLOUDFRONT"
            )

    @property
    def prefix(self) -> str:
        return f"sluice-{self.name}"

    @property
    def tags(self) -> dict[str, str]:
        return {TAG: self.name}

    @property
    def log_stream(self) -> str:
        return f"{self.prefix}-logs"

    @property
    def tally_table(self) -> str:
        return f"{self.prefix}-tally"

    @property
    def state_table(self) -> str:
        return f"{self.prefix}-state"

    @property
    def rule_group(self) -> str:
        return self.prefix

    @property
    def delivery_role(self) -> str:
        return f"{self.prefix}-log-delivery"

    @property
    def log_config(self) -> str:
        return self.prefix

    @property
    def waf_log_group(self) -> str:
        return f"aws-waf-logs-{self.prefix}"

    @property
    def tokens_parameter(self) -> str:
        return f"/sluice/{self.name}/tokens"

    @property
    def choices_parameter(self) -> str:
        return f"/sluice/{self.name}/setup"

    def ip_set(self, family: int, number: int) -> str:
        """The name of a family's set, counted from 1.

        >>> Stage(name="prod", location=Location(account="1", region="us-east-1"), choices=Choices()).ip_set(4, 1)
        'sluice-prod-v4-1'
        """
        return f"{self.prefix}-v{family}-{number}"

    def command(self, name: str) -> str:
        """Returns the command line of a ``sluice`` command for this stage."""
        return f"sluice {name} --stage {self.name} --region {self.location.region}"

    def function(self, name: str) -> str:
        """How Chalice calls a function of ``app.py``."""
        return f"{self.prefix}-{name}"

    @property
    def log_stream_arn(self) -> str:
        return self.location.arn("kinesis", f"stream/{self.log_stream}")

    @property
    def delivery_role_arn(self) -> str:
        return self.location.arn("iam", f"role/{self.delivery_role}", region=False)

    def table_arn(self, table: str) -> str:
        return self.location.arn("dynamodb", f"table/{table}")


def _within(what: str, number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        raise Refusal(f"{what}: {number} is not a whole number from {low} to {high}")
