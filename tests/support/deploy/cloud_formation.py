"""CloudFormation as far as ``sluice stack`` uses it, because moto's cannot deploy serverless functions.

Each look at a stack's events takes its operation some resources further. Of the resources, two exist in moto as well:
the parameter with the stage's choices, and the state table, whose protection stops rollbacks and deletions as in AWS.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import boto3
from botocore.exceptions import ClientError

from tests.support.deploy.stack import Stack as Values

if TYPE_CHECKING:
    from mypy_boto3_ssm.type_defs import TagTypeDef

Answer = tuple[int, dict[str, Any]]
STEPS = 25
"""Resources that are created, changed or deleted between two looks."""

KEPT_PER_PAGE = 40


@dataclass
class FakeStack:
    name: str
    id: str
    status: str = "REVIEW_IN_PROGRESS"
    template: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    tags: list[dict[str, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    desired: dict[str, Any] = field(default_factory=dict)
    """The template's resources, with the values of the parameters."""
    existing: dict[str, str] = field(default_factory=dict)
    """Type of each resource that exists, by name."""
    operation: Iterator[None] = field(default_factory=lambda: iter(()))
    outputs: dict[str, str] = field(default_factory=dict)
    """Outputs besides the URL of the API."""

    @property
    def gone(self) -> bool:
        return self.status == "DELETE_COMPLETE"


class CloudFormation:
    def __init__(self) -> None:
        self.stacks: list[FakeStack] = []
        self.change_sets: dict[str, dict[str, Any]] = {}
        self.reasons: dict[str, str] = {}
        """Reasons for which resources fail the next time that they are created, changed or deleted."""
        self.executed = 0
        self._numbers = count(1)

    def answer(self, operation: str, request: dict[str, Any]) -> Answer:
        handle = {
            "DescribeStacks": self._describe,
            "DescribeStackEvents": self._events,
            "ListStackResources": self._resources,
            "GetTemplate": self._template,
            "CreateChangeSet": self._create_change_set,
            "DescribeChangeSet": self._describe_change_set,
            "ExecuteChangeSet": self._execute,
            "DeleteChangeSet": self._delete_change_set,
            "DeleteStack": self._delete,
            "ContinueUpdateRollback": self._continue,
        }[operation]
        return handle(request)

    def stack(self, name: str) -> FakeStack | None:
        """Returns the stack of this id, or the one of this name that is not deleted."""
        return next((each for each in self.stacks if each.id == name or (each.name == name and not each.gone)), None)

    def _describe(self, request: dict[str, Any]) -> Answer:
        stack = self.stack(request["StackName"])
        if stack is None:
            return _invalid(f"Stack with id {request['StackName']} does not exist")
        parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in stack.parameters.items()]
        values = {"EndpointURL": "https://api.example/api/"} if stack.existing else {}
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in (values | stack.outputs).items()]
        about = {"StackName": stack.name, "StackId": stack.id, "StackStatus": stack.status, "Tags": stack.tags}
        return 200, {"Stacks": [{**about, "Parameters": parameters, "Outputs": outputs}]}

    def _events(self, request: dict[str, Any]) -> Answer:
        stack = self.stack(request["StackName"])
        if stack is None:
            return _invalid(f"Stack [{request['StackName']}] does not exist")
        if "NextToken" not in request:
            for _ in range(STEPS):
                next(stack.operation, None)
        first = int(request.get("NextToken", 0))
        newest = stack.events[::-1][first : first + KEPT_PER_PAGE]
        more = {"NextToken": str(first + KEPT_PER_PAGE)} if first + KEPT_PER_PAGE < len(stack.events) else {}
        return 200, {"StackEvents": newest, **more}

    def _resources(self, request: dict[str, Any]) -> Answer:
        stack = self.stack(request["StackName"])
        assert stack is not None
        return 200, {
            "StackResourceSummaries": [
                {
                    "LogicalResourceId": name,
                    "PhysicalResourceId": self._physical(stack, name),
                    "ResourceType": kind,
                    "ResourceStatus": "CREATE_COMPLETE",
                }
                for name, kind in stack.existing.items()
            ]
        }

    def _template(self, request: dict[str, Any]) -> Answer:
        stack = self.stack(request["StackName"])
        assert stack is not None
        return 200, {"TemplateBody": stack.template}

    def _create_change_set(self, request: dict[str, Any]) -> Answer:
        stack, update = self.stack(request["StackName"]), request["ChangeSetType"] == "UPDATE"
        existing = stack is not None and stack.status != "REVIEW_IN_PROGRESS"
        if update != existing:
            return _invalid(f"Stack [{request['StackName']}] cannot be changed by {request['ChangeSetType']}")
        if stack is not None and not stack.status.endswith("COMPLETE") and existing:
            return _invalid(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")
        assert {"CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"} == set(request["Capabilities"])
        template = _read(request["TemplateURL"])
        before = stack.parameters if stack is not None and existing else {}
        values = {name: str(about.get("Default", "")) for name, about in template["Parameters"].items()}
        for each in request["Parameters"]:
            name = each["ParameterKey"]
            if name not in values or (each.get("UsePreviousValue") and name not in before):
                return _invalid(f"Parameter {name} does not exist")
            values[name] = before[name] if each.get("UsePreviousValue") else each["ParameterValue"]
        if stack is None:
            stack = FakeStack(request["StackName"], f"arn:aws:cloudformation:::stack/{next(self._numbers)}")
            self.stacks.append(stack)
        id_ = f"arn:aws:cloudformation:::changeSet/{request['ChangeSetName']}"
        assert id_ not in self.change_sets
        self.change_sets[id_] = {
            "stack": stack,
            "template": template,
            "parameters": values,
            "tags": request["Tags"],
            "desired": (desired := _evaluated(template, values, stack.name)),
            "changes": list(_changes(stack.desired if existing else {}, desired)),
        }
        return 200, {"Id": id_, "StackId": stack.id}

    def _describe_change_set(self, request: dict[str, Any]) -> Answer:
        changes = self.change_sets[request["ChangeSetName"]]["changes"]
        if not changes:
            reason = "The submitted information didn't contain changes. Submit different information."
            return 200, {"Status": "FAILED", "StatusReason": reason, "Changes": []}
        if "ValidationError" in self.reasons:
            return 200, {"Status": "FAILED", "StatusReason": self.reasons["ValidationError"], "Changes": []}
        return 200, {
            "Status": "CREATE_COMPLETE",
            "Changes": [{"Type": "Resource", "ResourceChange": c} for c in changes],
        }

    def _execute(self, request: dict[str, Any]) -> Answer:
        change_set = self.change_sets.pop(request["ChangeSetName"])
        stack: FakeStack = change_set["stack"]
        # CloudFormation then deletes the others, which no longer fit (User Guide, "Execute a change set").
        self.change_sets = {id_: each for id_, each in self.change_sets.items() if each["stack"] is not stack}
        self.executed += 1
        create = stack.status == "REVIEW_IN_PROGRESS"
        stack.status = "CREATE_IN_PROGRESS" if create else "UPDATE_IN_PROGRESS"
        if create:
            self._take(stack, change_set)
        self._event(stack, stack.status, stack.name)
        stack.operation = self._create(stack) if create else self._update(stack, change_set)
        return 200, {}

    def _delete_change_set(self, request: dict[str, Any]) -> Answer:
        self.change_sets.pop(request["ChangeSetName"], None)
        return 200, {}

    def _delete(self, request: dict[str, Any]) -> Answer:
        stack = self.stack(request["StackName"])
        if stack is None:
            return 200, {}
        if stack.status == "REVIEW_IN_PROGRESS":
            stack.status = "DELETE_COMPLETE"
            return 200, {}
        stack.status = "DELETE_IN_PROGRESS"
        self._event(stack, stack.status, stack.name)
        stack.operation = self._remove(stack, "DELETE_COMPLETE", "DELETE_FAILED")
        return 200, {}

    def _continue(self, request: dict[str, Any]) -> Answer:
        stack = self.stack(request["StackName"])
        assert stack is not None
        stack.status = "UPDATE_ROLLBACK_IN_PROGRESS"
        self._event(stack, stack.status, stack.name)
        stack.operation = self._finish(stack, "UPDATE_ROLLBACK_COMPLETE")
        return 200, {}

    def _create(self, stack: FakeStack) -> Iterator[None]:
        for name, about in stack.desired.items():
            if name in self.reasons:
                self._event(stack, "CREATE_FAILED", name, self.reasons.pop(name))
                self._event(stack, "CREATE_FAILED", "Dashboard", "Resource creation cancelled")
                stack.status = "ROLLBACK_IN_PROGRESS"
                self._event(stack, stack.status, stack.name)
                yield from self._remove(stack, "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
                return
            self._make(stack, name)
            stack.existing[name] = about["Type"]
            self._event(stack, "CREATE_COMPLETE", name)
            yield
        yield from self._finish(stack, "CREATE_COMPLETE")

    def _update(self, stack: FakeStack, change_set: dict[str, Any]) -> Iterator[None]:
        for each in change_set["changes"]:
            name = each["LogicalResourceId"]
            if name in self.reasons:
                self._event(stack, "UPDATE_FAILED", name, self.reasons.pop(name))
                stack.status = "UPDATE_ROLLBACK_IN_PROGRESS"
                self._event(stack, stack.status, stack.name)
                yield
                failed = "UPDATE_ROLLBACK_FAILED" if self.reasons.pop("rollback", "") else "UPDATE_ROLLBACK_COMPLETE"
                yield from self._finish(stack, failed)
                return
            self._event(stack, "UPDATE_COMPLETE", name)
            yield
        before = stack.desired["Choices"]
        self._take(stack, change_set)
        stack.existing = {name: about["Type"] for name, about in stack.desired.items()}
        if before != stack.desired["Choices"]:
            self._make(stack, "Choices")
        stack.status = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
        self._event(stack, stack.status, stack.name)
        yield
        yield from self._finish(stack, "UPDATE_COMPLETE")

    @staticmethod
    def _take(stack: FakeStack, change_set: dict[str, Any]) -> None:
        for name in ("template", "parameters", "tags", "desired"):
            setattr(stack, name, change_set[name])

    def _remove(self, stack: FakeStack, done: str, failed: str) -> Iterator[None]:
        status = done
        for name, kind in reversed(list(stack.existing.items())):
            reason = self.reasons.pop(name, "")
            if not reason and kind == "AWS::DynamoDB::Table" and name == "StateTable":
                reason = self._unmake_table(self._physical(stack, name))
            if reason:
                self._event(stack, "DELETE_FAILED", name, reason)
                status = failed
            else:
                if name == "Choices":
                    boto3.client("ssm").delete_parameter(Name=self._physical(stack, name))
                del stack.existing[name]
                self._event(stack, "DELETE_COMPLETE", name)
            yield
        yield from self._finish(stack, status)

    def _finish(self, stack: FakeStack, status: str) -> Iterator[None]:
        stack.status = status
        self._event(stack, status, stack.name)
        yield

    def _make(self, stack: FakeStack, name: str) -> None:
        """Creates or changes a resource that moto has to know."""
        properties = stack.desired[name]["Properties"]
        if name == "Choices":
            client, where = boto3.client("ssm"), properties["Name"]
            client.put_parameter(Name=where, Type="String", Value=properties["Value"], Overwrite=True)
            ((key, value),) = properties["Tags"].items()
            tag: TagTypeDef = {"Key": key, "Value": value}
            client.add_tags_to_resource(ResourceType="Parameter", ResourceId=where, Tags=[tag])
        if name == "StateTable":
            keys = ("TableName", "BillingMode", "AttributeDefinitions", "KeySchema", "DeletionProtectionEnabled")
            boto3.client("dynamodb").create_table(**{key: properties[key] for key in keys})

    @staticmethod
    def _unmake_table(table: str) -> str:
        try:
            boto3.client("dynamodb").delete_table(TableName=table)
        except ClientError as exc:
            return exc.response["Error"]["Message"]
        return ""

    def _physical(self, stack: FakeStack, name: str) -> str:
        properties = stack.desired[name].get("Properties", {})
        return str(properties.get("TableName") or properties.get("Name") or name)

    def _event(self, stack: FakeStack, status: str, name: str, reason: str = "") -> None:
        own = name == stack.name
        stack.events.append(
            {
                "EventId": str(next(self._numbers)),
                "StackId": stack.id,
                "StackName": stack.name,
                "LogicalResourceId": name,
                "PhysicalResourceId": stack.id if own else name,
                "ResourceType": "AWS::CloudFormation::Stack" if own else stack.template["Resources"][name]["Type"],
                "ResourceStatus": status,
                **({"ResourceStatusReason": reason} if reason else {}),
            }
        )


def _read(url: str) -> dict[str, Any]:
    where = urlparse(url)
    bucket, key = where.netloc.partition(".")[0], where.path.lstrip("/")
    template: dict[str, Any] = json.loads(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    for function in template["Resources"].values():
        if function["Type"] == "AWS::Serverless::Function":
            code = urlparse(function["Properties"]["CodeUri"])
            assert code.scheme == "s3"
            boto3.client("s3").head_object(Bucket=code.netloc, Key=code.path.lstrip("/"))
    return template


def _evaluated(template: dict[str, Any], parameters: dict[str, str], name: str) -> dict[str, Any]:
    """Returns the resources whose conditions hold, with the values of the parameters."""
    values = Values(template, parameters, name)
    return {
        key: values.value({"Type": each["Type"], "Properties": each.get("Properties", {})})
        for key, each in template["Resources"].items()
        if "Condition" not in each or values.holds(each["Condition"])
    }


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in (*after, *(before.keys() - after.keys())):
        if before.get(name) == after.get(name):
            continue
        action = "Remove" if name not in after else "Modify" if name in before else "Add"
        about = {"Action": action, "LogicalResourceId": name, "ResourceType": (after | before)[name]["Type"]}
        if action == "Modify":
            capacities = {str(each[name]["Properties"].get("Capacity")) for each in (before, after)}
            about["Replacement"] = "True" if len(capacities) > 1 else "False"
        yield about


def _invalid(message: str) -> Answer:
    return 400, {"Error": {"Code": "ValidationError", "Message": message}}
