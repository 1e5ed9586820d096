"""Calls that policies allow, as far as policies of functions need it: no policies of organizations, no boundaries.

Source: AWS Identity and Access Management User Guide, "IAM JSON policy elements reference" and "Policy evaluation
logic". Of conditions, only those on the partition key are examined; any other is taken to hold.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice.deploy.policies import Policy, as_list, statements_of

Statement = Mapping[str, Any]

LEADING_KEYS = "dynamodb:LeadingKeys"


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """A call that a policy names: an action on a resource and, if it is restricted to some, on a partition key."""

    action: str
    resource: str
    key: str = ""


def calls_of(policy: Policy) -> Iterator[Grant]:
    """Yields the calls that a policy allows, each pattern as one."""
    for statement in statements_of(policy):
        for action in as_list(statement.get("Action", ())):
            for resource in as_list(statement.get("Resource", ())):
                for key in _leading_keys(statement) or ("",):
                    yield Grant(action, resource, key)


def allowed(call: Grant, policies: Sequence[Policy]) -> bool:
    """Returns whether the policies together allow a call: one of their statements does, and none denies it."""
    covering = [each for policy in policies for each in statements_of(policy) if _covers(each, call)]
    denied = any(each["Effect"] == "Deny" and "Condition" not in each for each in covering)
    return not denied and any(each["Effect"] == "Allow" for each in covering)


def allowed_somewhere(action: str, policies: Sequence[Policy]) -> bool:
    """Returns whether a statement allows an action on any resource."""
    statements = (each for policy in policies for each in statements_of(policy))
    return any(each["Effect"] == "Allow" and _names(each, "Action", action) for each in statements)


def in_words(calls: Sequence[Grant]) -> str:
    """Returns the actions of calls, each with the keys to which it is restricted.

    >>> in_words([Grant("d:PutItem", "t", "trend#*"), Grant("d:PutItem", "t", "trend"), Grant("a:B", "*")])
    'a:B, d:PutItem (trend)'
    """
    keys: dict[str, set[str]] = {}
    for call in calls:
        keys.setdefault(call.action, set()).update({call.key.removesuffix("#*")} - {""})
    return ", ".join(f"{action} ({', '.join(sorted(of))})" if of else action for action, of in sorted(keys.items()))


def _covers(statement: Statement, call: Grant) -> bool:
    of_resource = ("Resource" in statement or "NotResource" in statement) and _names(
        statement, "Resource", call.resource
    )
    keys = _leading_keys(statement)
    of_key = keys is None or bool(call.key and _any_matches(keys, call.key))
    return of_resource and of_key and _names(statement, "Action", call.action)


def _names(statement: Statement, element: str, name: str) -> bool:
    """Returns whether a statement's element, or its negation, comprises a name."""
    if f"Not{element}" in statement:
        return not _any_matches(as_list(statement[f"Not{element}"]), name)
    return _any_matches(as_list(statement.get(element, ())), name)


def _any_matches(patterns: Sequence[str], name: str) -> bool:
    return any(_matches(pattern, name) for pattern in patterns)


def _matches(pattern: str, name: str) -> bool:
    """Returns whether a pattern of IAM comprises a name, which may be a pattern itself.

    >>> _matches("dynamodb:*Item", "dynamodb:PutItem"), _matches("s3:Get", "s3:GetObject")
    (True, False)
    """
    regular = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(regular, name, re.IGNORECASE | re.DOTALL) is not None


def _leading_keys(statement: Statement) -> list[str] | None:
    """Returns the partition keys to which a statement is restricted; None if it is not."""
    for operator, condition in statement.get("Condition", {}).items():
        if operator in ("ForAllValues:StringLike", "ForAllValues:StringEquals") and LEADING_KEYS in condition:
            return as_list(condition[LEADING_KEYS])
    return None
