"""The networks from which the admin API accepts calls, in its resource policy.

Chalice sets the policy of its configuration, but leaves that of an API whose configuration no longer has one.
"""

import json
from collections.abc import Mapping
from typing import Any

from sluice.deploy.account import AwsAccount
from sluice.deploy.api_policy import admitted, api_policy
from sluice.deploy.deployed import API_STAGE, apis_of
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.api_throttle import BUSY


def description_of(api: str, account: AwsAccount) -> Mapping[str, Any]:
    """Returns API Gateway's description of an API."""
    about: Mapping[str, Any] = account.client("apigateway").get_rest_api(restApiId=api)
    return about


class ApiAccess(Resource):
    kind = "API access"
    dependent = True

    def find(self, account: AwsAccount) -> Existing | None:
        apis = apis_of(self.stage, account)
        if not apis:
            return None
        networks = self.stage.choices.api_networks
        differs = admitted(description_of(apis[0], account)) != frozenset(networks)
        change = f"only from {', '.join(networks)}" if networks else "from everywhere"
        return Existing(True, [change] if differs else [], {"api": apis[0]})

    def change(self, account: AwsAccount, existing: Existing) -> None:
        policy, api = json.dumps(api_policy(self.stage.choices.api_networks)), existing.facts["api"]
        client = account.client("apigateway")
        operations = [{"op": "replace", "path": "/policy", "value": policy}]
        account.retry(client.update_rest_api, BUSY, restApiId=api, patchOperations=operations)
        # A policy applies from the next deployment of the API on.
        account.retry(client.create_deployment, BUSY, restApiId=api, stageName=API_STAGE)
