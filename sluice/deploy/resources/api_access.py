"""The networks from which the admin API accepts calls, in its resource policy.

A deployment by Chalice imports the API, which replaces its policy by that of Chalice's configuration, if there is one,
and otherwise removes it (API Gateway REST API reference, "PutRestApi", mode overwrite). A policy that an operator has
made by hand is therefore set again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice.deploy.account import AwsAccount
from sluice.deploy.api_policy import admitted, api_policy, policy_of
from sluice.deploy.deployed import API_STAGE, apis_of
from sluice.deploy.policies import Policy
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.api_throttle import BUSY
from sluice.deploy.stage import Stage


def description_of(api: str, account: AwsAccount) -> Mapping[str, Any]:
    """Returns API Gateway's description of an API."""
    about: Mapping[str, Any] = account.client("apigateway").get_rest_api(restApiId=api)
    return about


def own_policy(stage: Stage, account: AwsAccount) -> Policy | None:
    """Returns the policy that an operator has given the stage's API by hand; None if there is none."""
    for api in apis_of(stage, account)[:1]:
        policy = policy_of(description_of(api, account))
        return policy if admitted(policy) is None else None
    return None


@dataclass(frozen=True, slots=True)
class ApiAccess(Resource):
    kind = "API access"
    dependent = True

    own: Policy | None = None
    """The operator's own policy before the deployment, which no chosen networks replace."""

    def find(self, account: AwsAccount) -> Existing | None:
        apis = apis_of(self.stage, account)
        if not apis:
            return None
        networks, policy = self.stage.choices.api_networks, policy_of(description_of(apis[0], account))
        if networks:
            wrong = admitted(policy) != frozenset(networks)
            change = f"only from {', '.join(networks)}"
        elif self.own is not None:
            wrong, change = policy is None, "by your own policy, as before"
        else:
            wrong, change = policy is not None and admitted(policy) is not None, "from everywhere"
        return Existing(True, [change] if wrong else [], {"api": apis[0]})

    def change(self, account: AwsAccount, existing: Existing) -> None:
        networks, api, client = self.stage.choices.api_networks, existing.facts["api"], account.client("apigateway")
        policy = api_policy(networks) if networks else self.own
        operations = [{"op": "replace", "path": "/policy", "value": json.dumps(policy) if policy else ""}]
        account.retry(client.update_rest_api, BUSY, restApiId=api, patchOperations=operations)
        # A policy applies from the next deployment of the API on.
        account.retry(client.create_deployment, BUSY, restApiId=api, stageName=API_STAGE)
