"""Answers the AWS calls that moto lacks, in botocore's own hooks, so that the product's code stays as it is.

Real-time log configurations, flat-rate plans, tags of a new stream, tags and changes of a budget, the distribution of a
log subscription, the class of a log group, log deliveries of load balancers, the order in which deliveries are removed,
and the import of a Swagger 2 document, which moto rejects.
"""

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import boto3
from botocore import handlers
from moto.budgets.models import budgets_backends
from moto.cloudfront.models import cloudfront_backends
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends
from moto.kinesis.models import kinesis_backends
from moto.logs.models import DeliverySource, LogsBackend, logs_backends
from moto.s3.models import s3_backends
from moto.sqs.models import sqs_backends

from tests.support.deploy.cloud_formation import CloudFormation
from tests.support.deploy.mishaps import Failure, Mishaps, call_id

Answer = tuple[int, dict[str, Any]]


READS = ("Get", "List", "Describe")

EVENTUAL = ("apigateway", "cloudwatch", "events", "iam", "kinesis", "lambda", "logs", "sns", "sqs", "wafv2")
"""Services whose reads may not show the latest writes, by their API references and by experience."""


class Front:
    """The state behind those calls, a record of all calls, and their failures on demand."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.log_configs: dict[str, dict[str, Any]] = {}
        self.distributions: dict[str, str] = {}
        self.classes: dict[str, str] = {}
        """Class of each log group that is not of class STANDARD."""
        self.budget_tags: dict[str, list[dict[str, str]]] = {}
        """Tags of each budget, by its name."""
        self.concurrency = 1000
        self.web_acl_capacity = 700
        self.plans: list[dict[str, Any]] = []
        self.cloud_formation = CloudFormation()
        self.calls: list[str] = []
        """Service and operation of every call, in order."""
        self.mishaps: Mishaps | None = None
        """Decides which calls fail."""
        self.refusals: dict[str, list[Failure]] = {}
        """Refusals of the next calls of an operation, by its service and name."""
        self.stale: dict[str, list[dict[str, Any]]] = {}
        """Answers to the next calls of an operation, which do not show the latest changes."""
        self._late_reads = 0
        self._answers: dict[str, dict[str, tuple[int, Any]]] = {}
        """Last answer to each read, by service and by call."""
        self._late: dict[str, dict[str, int]] = {}
        """Number of times that each of these answers is still given, likewise."""

    @contextmanager
    def installed(self) -> Iterator["Front"]:
        """Hooks into every boto3 session created within the block."""
        hooks: list[tuple[str, Callable[..., Any]]] = [
            ("before-parameter-build", remember_parameters),
            ("before-call", self._count),
            ("after-call", self._remember_answer),
            ("before-call.cloudfront.CreateRealtimeLogConfig", answering(self._create_log_config)),
            ("before-call.cloudfront.GetRealtimeLogConfig", answering(self._get_log_config)),
            ("before-call.cloudfront.UpdateRealtimeLogConfig", answering(self._update_log_config)),
            ("before-call.cloudfront.DeleteRealtimeLogConfig", answering(self._delete_log_config)),
            ("before-call.pricing-plan-manager.ListSubscriptions", answering(self._list_plans)),
            ("after-call.wafv2.GetWebACL", self._add_capacity),
            ("after-call.budgets.CreateBudget", self._keep_budget_tags),
            ("before-call.budgets.ListTagsForResource", answering(self._budget_tags)),
            ("before-call.budgets.UpdateBudget", answering(_update_budget)),
            ("before-call.lambda.GetAccountSettings", answering(self._account_settings)),
            ("before-call.api-gateway.ImportRestApi", answering(import_rest_api)),
            ("before-call.api-gateway.PutRestApi", answering(lambda request: (200, {}))),
            ("after-call.kinesis.CreateStream", _tag_stream),
            ("after-call.s3.GetBucketNotificationConfiguration", _add_event_bridge),
            ("after-call.cloudwatch-logs.PutSubscriptionFilter", self._keep_distribution),
            ("after-call.cloudwatch-logs.DescribeSubscriptionFilters", self._add_distribution),
            ("after-call.cloudwatch-logs.DescribeLogGroups", self._add_class),
            ("before-call.cloudwatch-logs.PutDeliverySource", _put_delivery_source),
            ("before-call.cloudwatch-logs.UpdateDeliveryConfiguration", answering(_update_delivery)),
            ("before-call.cloudwatch-logs.DeleteDeliverySource", _keep_if_delivering),
            ("before-call.cloudwatch-logs.DeleteDeliveryDestination", _keep_if_delivering),
            ("before-call.cloudformation", self._answer_cloud_formation),
        ]
        handlers.BUILTIN_HANDLERS.extend(hooks)
        try:
            yield self
        finally:
            for hook in hooks:
                handlers.BUILTIN_HANDLERS.remove(hook)

    @contextmanager
    def late_reads(self, times: int) -> Iterator[None]:
        """Makes each read in the block show what it showed before a write to its service, so many times."""
        self._late_reads = times
        yield
        self._late_reads = 0
        self._answers.clear()
        self._late.clear()

    def _count(self, model: Any, context: dict[str, Any], **_: Any) -> Any:
        name = f"{model.service_model.service_name}:{model.name}"
        if self.mishaps is not None:
            call = name if model.name.startswith(READS) else call_id(name, context["parameters"])
            failure = self.mishaps.of(name, call)
            if failure is not None:
                return self._refused(failure)
        if self.stale.get(name):
            answer = self.stale[name].pop(0)
            return SimpleNamespace(status_code=200, headers={}), answer
        if self.refusals.get(name):
            return self._refused(self.refusals[name].pop(0))
        self.calls.append(name)
        return self._late_answer(model, context)

    def _late_answer(self, model: Any, context: dict[str, Any]) -> Any:
        """Returns what a read showed before the last write to its service; None if it shows everything."""
        service, call = model.service_model.service_name, _call(model, context)
        left = self._late.get(service, {})
        if left.get(call, 0) <= 0:
            return None
        left[call] -= 1
        status, parsed = self._answers[service][call]
        return SimpleNamespace(status_code=status, headers={}), copy.deepcopy(parsed)

    def _remember_answer(self, http_response: Any, parsed: Any, model: Any, context: dict[str, Any], **_: Any) -> None:
        service = model.service_model.service_name
        if not self._late_reads or service not in EVENTUAL:
            return
        answers = self._answers.setdefault(service, {})
        if model.name.startswith(READS):
            answers[_call(model, context)] = http_response.status_code, _undecoded(parsed)
        else:
            self._late[service] = dict.fromkeys(answers, self._late_reads)

    def _answer_cloud_formation(self, model: Any, context: dict[str, Any], **_: Any) -> Any:
        # The more specific handlers of a call come first, so that this one has to count it.
        refused = self._count(model, context)
        if refused is not None:
            return refused
        answer = self.cloud_formation.answer
        return answering(lambda request: answer(model.name, request))(context)

    @staticmethod
    def _refused(failure: Failure) -> Any:
        status, code, message = failure
        parsed = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
        return SimpleNamespace(status_code=status, headers={}, raw=None), parsed

    def _create_log_config(self, request: dict[str, Any]) -> Answer:
        if request["Name"] in self.log_configs:
            return _error(409, "RealtimeLogConfigAlreadyExists")
        arn = f"arn:aws:cloudfront::{DEFAULT_ACCOUNT_ID}:realtime-log-config/{request['Name']}"
        self.log_configs[request["Name"]] = {**request, "ARN": arn}
        return 201, {"RealtimeLogConfig": self.log_configs[request["Name"]]}

    def _get_log_config(self, request: dict[str, Any]) -> Answer:
        config = self.log_configs.get(request["Name"])
        return (200, {"RealtimeLogConfig": config}) if config else _error(404, "NoSuchRealtimeLogConfig")

    def _update_log_config(self, request: dict[str, Any]) -> Answer:
        if request["Name"] not in self.log_configs:
            return _error(404, "NoSuchRealtimeLogConfig")
        self.log_configs[request["Name"]] |= request
        return 200, {"RealtimeLogConfig": self.log_configs[request["Name"]]}

    def _delete_log_config(self, request: dict[str, Any]) -> Answer:
        name = request["ARN"].rpartition("/")[2]
        if name not in self.log_configs:
            return _error(404, "NoSuchRealtimeLogConfig")
        distributions: Iterable[Any] = cloudfront_backends[DEFAULT_ACCOUNT_ID]["aws"].distributions.values()
        behaviours = (distribution.distribution_config.DefaultCacheBehavior for distribution in distributions)
        if any(behaviour.realtime_log_config_arn == request["ARN"] for behaviour in behaviours):
            return _error(400, "RealtimeLogConfigInUse")
        del self.log_configs[name]
        return 204, {}

    def _account_settings(self, request: dict[str, Any]) -> Answer:
        return 200, {"AccountLimit": {"UnreservedConcurrentExecutions": self.concurrency}}

    def _add_capacity(self, parsed: dict[str, Any], **_: Any) -> None:
        if "WebACL" in parsed:
            parsed["WebACL"]["Capacity"] = self.web_acl_capacity

    def _keep_budget_tags(self, context: dict[str, Any], **_: Any) -> None:
        request = context["parameters"]
        self.budget_tags[request["Budget"]["BudgetName"]] = request.get("ResourceTags", [])

    def _budget_tags(self, request: dict[str, Any]) -> Answer:
        return 200, {"ResourceTags": self.budget_tags[request["ResourceARN"].rpartition("/")[2]]}

    def _keep_distribution(self, context: dict[str, Any], **_: Any) -> None:
        request = context["parameters"]
        self.distributions[request["filterName"]] = request.get("distribution", "ByLogStream")

    def _add_distribution(self, parsed: dict[str, Any], **_: Any) -> None:
        for subscription in parsed.get("subscriptionFilters", ()):
            subscription["distribution"] = self.distributions[subscription["filterName"]]

    def _add_class(self, parsed: dict[str, Any], **_: Any) -> None:
        for group in parsed.get("logGroups", ()):
            group["logGroupClass"] = self.classes.get(group["logGroupName"], "STANDARD")

    def _list_plans(self, request: dict[str, Any]) -> Answer:
        return 200, {"subscriptionSummaries": self.plans}


def answering(answer: Callable[[dict[str, Any]], Answer]) -> Callable[..., Any]:
    """Returns a handler that answers a call instead of AWS."""

    def handle(context: dict[str, Any], **_: Any) -> Any:
        status, parsed = answer(context["parameters"])
        parsed = {**parsed, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0}}
        return SimpleNamespace(status_code=status, headers={}, raw=None), parsed

    return handle


def import_rest_api(request: dict[str, Any]) -> Answer:
    """Creates an API with the integrations of the root of a Swagger 2 document, by calls that moto has."""
    document = json.loads(request["body"])
    assert document["swagger"] == "2.0"
    client = boto3.client("apigateway")
    api = client.create_rest_api(name=document["info"]["title"])
    (root,) = client.get_resources(restApiId=api["id"])["items"]
    for method, about in document["paths"]["/"].items():
        where = {"restApiId": api["id"], "resourceId": root["id"], "httpMethod": method.upper()}
        client.put_method(**where, authorizationType="CUSTOM" if about.get("security") else "NONE")
        uri = about.get("x-amazon-apigateway-integration", {}).get("uri", "")
        client.put_integration(**where, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    return 201, {"id": api["id"], "name": document["info"]["title"]}


def run_no_functions(region: str) -> None:
    """Keeps moto from running the functions that read table streams or queues, which would need Docker."""
    for table in dynamodb_backends[DEFAULT_ACCOUNT_ID][region].tables.values():
        table.lambda_event_source_mappings.clear()
    for queue in sqs_backends[DEFAULT_ACCOUNT_ID][region].queues.values():
        queue.lambda_event_source_mappings.clear()


def _call(model: Any, context: dict[str, Any]) -> str:
    return json.dumps([model.name, context["client_region"], context["parameters"]], sort_keys=True, default=str)


def _undecoded(parsed: Any, name: str = "") -> Any:
    """Returns a copy of an answer with IAM's policies as text, because botocore decodes those of each answer."""
    if name.endswith("PolicyDocument") and isinstance(parsed, dict):
        return json.dumps(parsed)
    if isinstance(parsed, dict):
        return {key: _undecoded(value, key) for key, value in parsed.items()}
    if isinstance(parsed, list):
        return [_undecoded(each) for each in parsed]
    return copy.deepcopy(parsed)


def remember_parameters(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    """Keeps a call's parameters for the hooks that follow."""
    context["parameters"] = params


def _update_budget(request: dict[str, Any]) -> Answer:
    budget = budgets_backends[DEFAULT_ACCOUNT_ID]["aws"].budgets[request["AccountId"]][
        request["NewBudget"]["BudgetName"]
    ]
    budget.budget |= request["NewBudget"]
    return 200, {}


def _tag_stream(context: dict[str, Any], **_: Any) -> None:
    request = context["parameters"]
    backend = kinesis_backends[DEFAULT_ACCOUNT_ID][context["client_region"]]
    backend.add_tags_to_stream(None, request["StreamName"], request.get("Tags", {}))


def _add_event_bridge(parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets.get(context["parameters"]["Bucket"])
    config = bucket and bucket.notification_configuration
    if config and config.event_bridge is not None:
        parsed["EventBridgeConfiguration"] = {}


def _deliveries() -> LogsBackend:
    backend: LogsBackend = logs_backends[DEFAULT_ACCOUNT_ID]["us-east-1"]
    return backend


def _put_delivery_source(context: dict[str, Any], **arguments: Any) -> Any:
    """Refuses a second source of a resource, as AWS does, and accepts load balancers, which moto does not know."""
    request, sources = context["parameters"], _deliveries().delivery_sources
    arn, name, log_type = request["resourceArn"], request["name"], request["logType"]
    if any(arn in each.resource_arns and each.name != name for each in sources.values()):
        return answering(lambda _: _error(400, "ConflictException"))(context, **arguments)
    if ":elasticloadbalancing:" not in arn:
        return None
    if log_type not in ("ALB_ACCESS_LOGS", "ALB_CONNECTION_LOGS", "ALB_HEALTH_CHECK_LOGS"):
        return answering(lambda _: _error(400, "ValidationException"))(context, **arguments)
    sources[name] = DeliverySource(DEFAULT_ACCOUNT_ID, context["client_region"], name, arn, log_type, None)
    return answering(lambda _: (200, {"deliverySource": sources[name].to_dict()}))(context, **arguments)


def _update_delivery(request: dict[str, Any]) -> Answer:
    delivery = _deliveries().deliveries.get(request["id"])
    if delivery is None:
        return _error(400, "ResourceNotFoundException")
    delivery.record_fields = request["recordFields"]
    return 200, {}


def _keep_if_delivering(context: dict[str, Any], **arguments: Any) -> Any:
    """Refuses to delete the source or the destination of a delivery."""
    name = context["parameters"]["name"]
    for delivery in _deliveries().deliveries.values():
        if name in (delivery.delivery_source_name, delivery.delivery_destination_arn.rpartition(":")[2]):
            return answering(lambda _: _error(400, "ConflictException"))(context, **arguments)
    return None


def _error(status: int, code: str) -> Answer:
    return status, {"Error": {"Code": code, "Message": code}}
