"""The throttle of the admin API, which Chalice cannot set. Later deployments, also by Chalice, leave it as it is."""

from sluice.deploy.account import AwsAccount
from sluice.deploy.deployed import API_STAGE, apis_of
from sluice.deploy.resource import Existing, Resource

REQUESTS_PER_S, BURST = 20, 40
"""Those of the stack by default, its parameters ApiRequestsPerSecond and ApiBurst."""

EVERY_METHOD = "*/*"
"""API Gateway's key of the settings for all methods."""

BUSY = ("TooManyRequestsException", "ConflictException")


def is_throttled(api: str, account: AwsAccount) -> bool:
    """Returns whether an API has settings for all methods, of which the throttle is one."""
    served = account.client("apigateway").get_stage(restApiId=api, stageName=API_STAGE)
    return EVERY_METHOD in served.get("methodSettings", {})


class ApiThrottle(Resource):
    """A limit to the requests of all callers together, before they invoke a function. A limit of operators is kept."""

    kind = "API throttle"
    dependent = True

    def find(self, account: AwsAccount) -> Existing | None:
        apis = apis_of(self.stage, account)
        if not apis:
            return None
        limit = f"at most {REQUESTS_PER_S} requests per second, {BURST} at once"
        return Existing(True, [] if is_throttled(apis[0], account) else [limit], {"api": apis[0]})

    def change(self, account: AwsAccount, existing: Existing) -> None:
        settings = {"rateLimit": REQUESTS_PER_S, "burstLimit": BURST}
        operations = [
            {"op": "replace", "path": f"/{EVERY_METHOD}/throttling/{name}", "value": str(value)}
            for name, value in settings.items()
        ]
        update, api = account.client("apigateway").update_stage, existing.facts["api"]
        account.retry(update, BUSY, restApiId=api, stageName=API_STAGE, patchOperations=operations)
