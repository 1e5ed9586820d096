"""The resource policy of the admin API, by which API Gateway rejects callers from other networks.

A denial comes before the authorizer, so a call from elsewhere invokes no function. Source: API Gateway Developer Guide,
"API Gateway resource policy examples" and "How API Gateway resource policies affect authorization workflow".
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sluice.deploy.policies import Policy

INVOKE = {"Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*"}
DENIED = "NotIpAddress"
ADDRESS = "aws:SourceIp"


def api_policy(networks: Sequence[str]) -> Policy:
    """Returns the policy that admits callers from ``networks`` alone, or from everywhere if there are none."""
    statements: list[dict[str, Any]] = [{"Effect": "Allow", **INVOKE}]
    if networks:
        statements.append({"Effect": "Deny", **INVOKE, "Condition": {DENIED: {ADDRESS: list(networks)}}})
    return {"Version": "2012-10-17", "Statement": statements}


def admitted(api: Mapping[str, Any]) -> frozenset[str]:
    """Returns the networks to which an API restricts its callers, as API Gateway describes it; empty if to none.

    API Gateway escapes the quotes of a policy, and makes one network of a list a string.

    >>> sorted(admitted({"policy": json.dumps(api_policy(["198.51.100.0/24"]))}))
    ['198.51.100.0/24']
    >>> admitted({"name": "sluice"})
    frozenset()
    """
    policy = json.loads(api.get("policy", "{}").replace('\\"', '"'))
    networks: set[str] = set()
    for statement in policy.get("Statement", ()):
        named = statement.get("Condition", {}).get(DENIED, {}).get(ADDRESS, ())
        networks.update([named] if isinstance(named, str) else named)
    return frozenset(networks)
