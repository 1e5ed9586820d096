"""The resource policy of the admin API, by which API Gateway rejects callers from other networks.

A denial comes before the authorizer, so a call from elsewhere invokes no function. The policy also allows every call,
because it has to for the page, which has no authorizer. With ADMIN_AUTH=iam such a statement would admit callers whose
own policies do not, so there is a policy only if there are networks. Source: API Gateway Developer Guide, "API Gateway
resource policy examples" and "How API Gateway resource policies affect authorization workflow".
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sluice.deploy.policies import Policy, as_list, statements_of

INVOKE = {"Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*"}
DENIED = "NotIpAddress"
ADDRESS = "aws:SourceIp"

EVERY_ROUTE = re.compile(r"(arn:[a-z-]+:execute-api:[a-z0-9-]*:\d*:[a-z0-9]+|execute-api:)/\*")
"""Forms of ``INVOKE``'s resource: API Gateway completes it."""


def api_policy(networks: Sequence[str]) -> Policy:
    """Returns the policy that admits callers from ``networks`` alone, or from everywhere if there are none."""
    statements: list[dict[str, Any]] = [{"Effect": "Allow", **INVOKE}]
    if networks:
        statements.append({"Effect": "Deny", **INVOKE, "Condition": {DENIED: {ADDRESS: list(networks)}}})
    return {"Version": "2012-10-17", "Statement": statements}


def policy_of(api: Mapping[str, Any]) -> Policy | None:
    """Returns the policy of an API, as API Gateway describes the API; None if it has none.

    API Gateway escapes the quotes of a policy.

    >>> policy_of({"name": "sluice", "policy": ""})
    """
    text = api.get("policy") or "{}"
    policy: Policy = json.loads(text.replace('\\"', '"') if '{\\"' in text else text)
    return policy or None


def admitted(policy: Policy | None) -> frozenset[str] | None:
    """Returns the networks to which a policy restricts callers; empty if to none, None if it is not Sluice's.

    >>> sorted(admitted(api_policy(["198.51.100.0/24"])))
    ['198.51.100.0/24']
    >>> admitted(None)
    frozenset()
    >>> admitted({"Statement": {"Effect": "Deny", **INVOKE}})
    """
    networks: list[str] = []
    for statement in statements_of(policy or {}):
        if statement.get("Effect") == "Deny":
            for by_key in statement.get("Condition", {}).values():
                for named in by_key.values():
                    networks += as_list(named)
    by_effect = sorted(map(_plain, statements_of(policy or {})), key=lambda each: str(each.get("Effect")))
    ours = not policy or by_effect == [_plain(each) for each in api_policy(networks)["Statement"]]
    return frozenset(networks) if ours else None


def allows_everyone(policy: Policy | None) -> bool:
    """Returns whether a statement of a policy allows calls by anyone, perhaps from some networks alone.

    >>> allows_everyone(api_policy([])), allows_everyone(None)
    (True, False)
    """
    anyone = ("*", ["*"], {"AWS": "*"}, {"AWS": ["*"]})
    return any(
        each.get("Effect") == "Allow" and each.get("Principal") in anyone for each in statements_of(policy or {})
    )


def _plain(statement: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a statement in one of the forms that mean the same."""
    plain = dict(statement)
    for element in ("Action", "Resource"):
        plain[element] = as_list(plain.get(element, []))
    if plain.get("Principal") == {"AWS": "*"}:
        plain["Principal"] = "*"
    if len(plain["Resource"]) == 1 and EVERY_ROUTE.fullmatch(plain["Resource"][0]):
        plain["Resource"] = [INVOKE["Resource"]]
    conditions = plain.pop("Condition", {})
    plain["Condition"] = {
        operator: {key.lower(): as_list(named) for key, named in by_key.items()}
        for operator, by_key in conditions.items()
    }
    return plain
