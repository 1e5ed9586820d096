"""The rules of the rule group, as AWS WAF takes them: those that block, and one for each other response.

Harder responses stand before softer ones: they apply to a client that is in the IP sets of both for a moment, because
it moves from one to the other. Sources: AWS WAF Developer Guide, "Rule action", "Custom requests and responses",
"Using forwarded IP addresses", "Rate-based rule statements" and "Web ACL capacity units".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from chalicelib.core.ipsets import SetGroup
from chalicelib.core.refusals import REFUSAL_STATUS
from chalicelib.core.responses import SOFTER, Response
from sluice.deploy.stage import Choices, Refusal, Stage

CAPACITY = 50
"""WCU of a rule group unless its rules need more. They can never be changed, so further responses have to fit later."""

FORWARDED_WCU = 5
"""WCU of an IP set that is compared with any forwarded address; one that is compared with the connection's needs 1."""

FORWARDED = {"HeaderName": "X-Forwarded-For", "FallbackBehavior": "NO_MATCH", "Position": "ANY"}
"""AWS WAF compares the last ten addresses in the header. The first one is the client's to choose, and the last one is
the client only behind a single proxy."""

RATE_WCU = 2
"""WCU of a rate-based rule, besides those of the statement that it is scoped down to."""

RATE_WINDOW_S = 60
"""Seconds over which a rate-based rule counts: AWS accepts 60, 120, 300 and 600."""

LARGEST_BODY = 4096
"""Most bytes of a custom response body: an AWS quota."""

BODY_TYPES = {".json": "APPLICATION_JSON", ".html": "TEXT_HTML", ".txt": "TEXT_PLAIN"}
"""AWS's content types, by the ending of a file's name."""

BODY_KEY = "blocked"
"""Name of the body in the rule group."""

IP_SET_DESCRIPTION = "Filled by Sluice: changes made by hand are undone within a minute."
RULE_GROUP_DESCRIPTION = "Refuses the clients in the IP sets of Sluice."

WafRule = dict[str, Any]
"""A rule in the form in which AWS WAF takes and returns it."""


@dataclass(frozen=True, slots=True)
class Body:
    """The content of the answer to a blocked client."""

    content_type: str
    content: str

    def __post_init__(self) -> None:
        if len(self.content.encode()) > LARGEST_BODY:
            raise Refusal(f"body of {len(self.content.encode()):,} bytes: AWS WAF accepts at most {LARGEST_BODY:,}")


def read_body(file: Path) -> Body:
    """Returns the content of a file as a body; raises Refusal if it cannot be one."""
    content_type = BODY_TYPES.get(file.suffix)
    if content_type is None:
        raise Refusal(f"body {file.name}: its name does not end in {', '.join(BODY_TYPES)}, which name its type")
    try:
        return Body(content_type, file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as exc:
        raise Refusal(f"body {file.name}: it is not UTF-8 ({exc.reason} at byte {exc.start})") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers to the clients in the IP sets, as far as they can be chosen."""

    status: int = REFUSAL_STATUS
    """Status of refused requests."""
    retry_after_s: int = 60
    """Retry-After of refused requests: the sweep ends blocks once a minute."""
    has_body: bool = False
    """True if the rule group has a body under ``BODY_KEY``."""
    slow_limit: int = 10
    """Requests within ``RATE_WINDOW_S`` that a client is slowed down to."""

    @classmethod
    def of(cls, choices: Choices, *, has_body: bool = False) -> Self:
        """Returns the answers that a stage has chosen."""
        return cls(
            status=choices.block_status,
            retry_after_s=choices.retry_after_s,
            has_body=has_body,
            slow_limit=choices.slow_limit,
        )

    def block(self) -> dict[str, Any]:
        """Returns the action that refuses a request."""
        headers = [{"Name": "Retry-After", "Value": str(self.retry_after_s)}]
        answer: dict[str, Any] = {"ResponseCode": self.status, "ResponseHeaders": headers}
        return {"Block": {"CustomResponse": answer | ({"CustomResponseBodyKey": BODY_KEY} if self.has_body else {})}}


def visibility(name: str) -> dict[str, Any]:
    return {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": name}


def rules_of(
    name: str, arns: Mapping[SetGroup, Sequence[str]], answers: Answers, *, behind_proxies: bool = False
) -> list[WafRule]:
    """Returns the rules of the rule group called ``name``; ``arns`` are those of the IP sets that exist, by group.

    Clients to block have one rule per family. Every other response has one rule, if it has IP sets. With
    ``behind_proxies``, a client is in an IP set if the connection's address is, or one that was forwarded.
    """
    rules: list[WafRule] = []
    for priority, family in enumerate((4, 6)):
        of_family = list(arns.get(SetGroup(Response.BLOCK, family), ()))
        rules.append(_rule(f"{name}-ipv{family}", priority, _in_any(of_family, behind_proxies), answers.block()))
    for priority, response in enumerate(SOFTER, len(rules)):
        sets = [arn for family in (4, 6) for arn in arns.get(SetGroup(response, family), ())]
        if sets:
            clients = _in_any(sets, behind_proxies)
            rules.append(_softer(response, f"{name}-{response}", priority, clients, answers))
    return rules


def wcu(rules: Sequence[WafRule]) -> int:
    """Returns the capacity that ``rules`` use, as CheckCapacity computes it."""
    rated = sum("RateBasedStatement" in rule["Statement"] for rule in rules)
    references = [reference for rule in rules for reference in references_in(rule["Statement"])]
    return RATE_WCU * rated + sum(FORWARDED_WCU if compares_forwarded(each) else 1 for each in references)


def capacity_of(stage: Stage) -> int:
    """Returns the WCU with which the stage's rule group is created."""
    return max(CAPACITY, needed_wcu(stage))


def needed_wcu(stage: Stage) -> int:
    """Returns the WCU that the rules of the stage use once all its IP sets exist."""
    choices = stage.choices
    return wcu(rules_of(stage.rule_group, stage.ip_sets, Answers(), behind_proxies=choices.behind_proxies))


def references_in(part: Any) -> list[Mapping[str, Any]]:
    """Returns the references to IP sets in a statement, at any depth."""
    if isinstance(part, Mapping):
        own = [part["IPSetReferenceStatement"]] if "IPSetReferenceStatement" in part else []
        return own + [reference for inner in part.values() for reference in references_in(inner)]
    return [reference for inner in part for reference in references_in(inner)] if isinstance(part, list) else []


def arns_in(part: Any) -> list[str]:
    """Returns the ARNs of the IP sets that a statement refers to, each once."""
    return list(dict.fromkeys(reference["ARN"] for reference in references_in(part)))


def compares_forwarded(reference: Mapping[str, Any]) -> bool:
    """Returns whether a reference to an IP set compares forwarded addresses, rather than the connection's."""
    return "IPSetForwardedIPConfig" in reference


def _softer(response: Response, name: str, priority: int, clients: dict[str, Any], answers: Answers) -> WafRule:
    label = {"RuleLabels": [{"Name": f"sluice:{response}"}]}
    match response:
        case Response.CAPTCHA:
            return _rule(name, priority, clients, {"Captcha": {}}) | label
        case Response.CHALLENGE:
            return _rule(name, priority, clients, {"Challenge": {}}) | label
        case Response.SLOW:
            rate = {
                "Limit": answers.slow_limit,
                "EvaluationWindowSec": RATE_WINDOW_S,
                # By forwarded address, AWS WAF would count the first one, which a client chooses for each request.
                "AggregateKeyType": "IP",
                "ScopeDownStatement": clients,
            }
            return _rule(name, priority, {"RateBasedStatement": rate}, answers.block()) | label
        case _:
            # AWS WAF adds x-amzn-waf- to the name.
            header = {"InsertHeaders": [{"Name": "sluice", "Value": str(response)}]}
            return _rule(name, priority, clients, {"Count": {"CustomRequestHandling": header}}) | label


def _rule(name: str, priority: int, statement: dict[str, Any], action: dict[str, Any]) -> WafRule:
    return {
        "Name": name,
        "Priority": priority,
        "Statement": statement,
        "Action": action,
        "VisibilityConfig": visibility(name),
    }


def _in_any(arns: Sequence[str], behind_proxies: bool) -> dict[str, Any]:
    """Returns the statement that matches the clients in any of the IP sets."""
    references: list[dict[str, Any]] = [{"IPSetReferenceStatement": {"ARN": arn}} for arn in arns]
    if behind_proxies:
        # A request without the header matches none of these, so the others stay.
        references += [{"IPSetReferenceStatement": {"ARN": arn, "IPSetForwardedIPConfig": FORWARDED}} for arn in arns]
    return references[0] if len(references) == 1 else {"OrStatement": {"Statements": references}}
