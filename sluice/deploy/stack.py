"""Creates, updates or deletes a CloudFormation stack, and follows it until no operation is under way.

Every operation begins by waiting for the one before, so that an interrupted run can be repeated: CloudFormation
continues by itself, and a repeated run follows it. A stack whose creation fails is removed, and an update that fails is
rolled back.

Sources: CloudFormation User Guide, "Update stacks using change sets" and "Understand CloudFormation stack creation
events"; API reference, StackEvent and ResourceChange.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sluice.deploy.account import AwsAccount, AwsError, missing_ok
from sluice.deploy.stage import TAG, Refusal, Stage

Report = Callable[[str], None]

POLL_S = 5.0
FOLLOWED_S = 3600.0
"""Seconds for which an operation is followed. CloudFormation continues afterwards."""

CODE_PARAMETER = "CodeBucket"
"""Parameter that only the template of a release has, which is deployed in the console or by another tool."""

BY_ITS_OWNER = "in the CloudFormation console, or with the tool that deploys it"
"""Where a stack with that parameter is updated."""

CAPABILITIES = ("CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")

UNFINISHED = ("CREATE_FAILED", "ROLLBACK_FAILED", "ROLLBACK_COMPLETE")
"""States after a creation that failed: such a stack can only be deleted."""

UNCHANGED = ("didn't contain changes", "No updates are to be performed")
"""Parts of CloudFormation's reason for a change set that fails because there is nothing to change."""

IRREPLACEABLE = ("AWS::DynamoDB::Table", "AWS::Kinesis::Stream", "AWS::WAFv2::IPSet", "AWS::WAFv2::RuleGroup")
"""Types of resources that are never replaced, because their content would be lost or because they are in use."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack as it exists. Values of parameters that CloudFormation does not show are '****'."""

    id: str
    status: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    owner: str | None = None
    """The stage that its tag names."""

    @property
    def created(self) -> bool:
        """True if its creation has succeeded, whatever became of later updates."""
        creating = ("REVIEW_IN_PROGRESS", "CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS")
        return self.status not in (*UNFINISHED, *creating) and not self.status.startswith("DELETE_")


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a change set."""

    action: str
    kind: str
    name: str
    replaced: bool = False


def look_up_stack(account: AwsAccount, name: str) -> Stack | None:
    """Returns the stack of this name or id; None if there is none. Raises ClientError.

    A deleted stack is still found by its id.
    """
    # CloudFormation's answer for a stack that does not exist.
    with missing_ok("ValidationError"):
        (about,) = account.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        return Stack(
            id=about["StackId"],
            status=about["StackStatus"],
            parameters={each["ParameterKey"]: each.get("ParameterValue", "") for each in about.get("Parameters", ())},
            outputs={each["OutputKey"]: each["OutputValue"] for each in about.get("Outputs", ())},
            owner={each["Key"]: each["Value"] for each in about.get("Tags", ())}.get(TAG),
        )
    return None


def is_published(account: AwsAccount, name: str) -> bool:
    """Returns whether the stack was created from the files of a release, in the CloudFormation console or by another
    tool, which has to update it: that takes no checkout. Raises ClientError."""
    stack = look_up_stack(account, name)
    return stack is not None and CODE_PARAMETER in stack.parameters


def repackaging(name: str) -> str:
    """Returns how the functions of such a stack get the settings that setup remembers."""
    return (
        "add them to the environment_variables of stage dev in .chalice/config.json of a checkout, run 'sluice stack "
        f"package DIRECTORY', and update stack {name} with both files, {BY_ITS_OWNER}"
    )


@dataclass(frozen=True, slots=True)
class StackOperations:
    """The operations on the stack of a stage. ``report`` receives a line for each event."""

    stage: Stage
    account: AwsAccount
    name: str
    report: Report

    def settled(self) -> Stack | None:
        """Returns the stack once no operation is under way; None if there is none. Raises AwsError, ClientError."""
        stack = look_up_stack(self.account, self.name)
        while stack is not None and stack.status.endswith("_IN_PROGRESS") and stack.status != "REVIEW_IN_PROGRESS":
            self.report(f"stack {self.name} is {stack.status}: waiting")
            self._follow(stack.id, None)
            stack = look_up_stack(self.account, self.name)
        return stack

    def deploy(self, template_url: str, declared: Collection[str], chosen: Mapping[str, str], token: str) -> None:
        """Creates or updates the stack, unless it already matches the template and the parameters.

        ``declared`` has the names of the template's parameters, and ``chosen`` the values of those that are to change.
        ``token`` names the change set and must be new. Raises ClientError, and AwsError or Refusal: once the earlier
        state is restored or, if it cannot be, with a message that says what to do.
        """
        client, stack = self.account.client("cloudformation"), self._recovered()
        update = stack is not None and stack.created
        before = stack.parameters if stack is not None and update else {}
        answer = client.create_change_set(
            StackName=self.name,
            ChangeSetName=token,
            ChangeSetType="UPDATE" if update else "CREATE",
            TemplateURL=template_url,
            Parameters=parameters_for(declared, chosen, before),
            Capabilities=CAPABILITIES,
            Tags=self.stage.tag_list,
        )
        stack_id, change_set = answer["StackId"], answer["Id"]
        try:
            changes = self._changes(change_set)
        except (AwsError, Refusal):
            self._withdraw(change_set, stack_id, update=update)
            raise
        if not changes:
            self._withdraw(change_set, stack_id, update=update)
            return
        last = self._last_event(stack_id)
        client.execute_change_set(ChangeSetName=change_set)
        done, status = ("updated", "UPDATE_COMPLETE") if update else ("created", "CREATE_COMPLETE")
        try:
            self._finish(stack_id, last, done, status)
        except AwsError as exc:
            raise AwsError(f"{exc}\n{self._restored(stack_id)}") from exc

    def delete(self, stack_id: str) -> None:
        """Deletes the stack and waits until it is gone. Raises AwsError with what could not be deleted."""
        last = self._last_event(stack_id)
        self.account.client("cloudformation").delete_stack(StackName=stack_id)
        self._finish(stack_id, last, "deleted", "DELETE_COMPLETE")

    def _recovered(self) -> Stack | None:
        """Returns the stack in a state that can be updated; None if there is none, or it had to be removed."""
        stack = self.settled()
        if stack is not None and stack.status in UNFINISHED:
            self._remove_unfinished(stack)
            return None
        if stack is not None and stack.status == "UPDATE_ROLLBACK_FAILED":
            self.report(f"stack {self.name} is {stack.status}: rolling it back again")
            last = self._last_event(stack.id)
            self.account.client("cloudformation").continue_update_rollback(StackName=self.name)
            self._finish(stack.id, last, "rolled back", "UPDATE_ROLLBACK_COMPLETE")
        return stack

    def _withdraw(self, change_set: str, stack_id: str, *, update: bool) -> None:
        """Deletes a change set and, unless it is an update, the stack that exists only because of it."""
        client = self.account.client("cloudformation")
        client.delete_change_set(ChangeSetName=change_set)
        if not update:
            client.delete_stack(StackName=stack_id)

    def _changes(self, change_set: str) -> list[Change]:
        """Returns the changes of a change set as soon as CloudFormation has computed them."""
        client = self.account.client("cloudformation")
        for _ in range(int(FOLLOWED_S / POLL_S)):
            about = client.describe_change_set(ChangeSetName=change_set)
            if about["Status"] == "CREATE_COMPLETE":
                listed = self.account.list_all(
                    "cloudformation", "describe_change_set", "Changes", ChangeSetName=change_set
                )
                changes = [_change(each["ResourceChange"]) for each in listed if "ResourceChange" in each]
                self._check_kept(changes)
                for change in changes:
                    self.report(f"{change.action} {change.name} ({change.kind})")
                return changes
            if about["Status"] == "FAILED":
                reason = about.get("StatusReason", "no reason given")
                if any(part in reason for part in UNCHANGED):
                    return []
                raise AwsError(f"CloudFormation rejected the changes to stack {self.name}: {reason}")
            self.account.sleep(POLL_S)
        raise AwsError(f"CloudFormation has not computed the changes to stack {self.name} yet. Run this again later")

    def _check_kept(self, changes: Iterable[Change]) -> None:
        """Raises Refusal if a change would replace a resource of an irreplaceable type."""
        lost = [f"{each.name} ({each.kind})" for each in changes if each.replaced and each.kind in IRREPLACEABLE]
        if lost:
            raise Refusal(
                f"stack {self.name}: CloudFormation would replace resources in use, whose content would be lost: "
                f"{', '.join(lost)}. Keep the parameters that set their names or sizes, or deploy another --stage. "
                "Nothing was changed"
            )

    def _restored(self, stack_id: str) -> str:
        """Removes a stack whose creation has failed, and returns what a failed operation has left."""
        stack = look_up_stack(self.account, stack_id)
        if stack is not None and stack.status in UNFINISHED:
            try:
                self._remove_unfinished(stack)
            except AwsError as exc:
                return f"It could not be removed: {exc}. Run the same command again"
            stack = None
        if stack is None or stack.status == "DELETE_COMPLETE":
            return "Nothing is left of it"
        if stack.status == "UPDATE_ROLLBACK_COMPLETE":
            return "It is as it was before"
        return f"It is {stack.status}. Run the same command again to continue from here"

    def _remove_unfinished(self, stack: Stack) -> None:
        """Removes what is left of a creation that has failed: rolling it back stops at the protected table."""
        self.report(f"stack {self.name} is {stack.status}: removing what was created")
        dynamodb = self.account.client("dynamodb")
        listed = self.account.list_all(
            "cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=stack.id
        )
        for each in list(listed):
            created = each["ResourceStatus"] not in ("CREATE_FAILED", "DELETE_COMPLETE")
            if each["ResourceType"] == "AWS::DynamoDB::Table" and created:
                with missing_ok("ResourceNotFoundException"):
                    dynamodb.update_table(TableName=each["PhysicalResourceId"], DeletionProtectionEnabled=False)
                    dynamodb.get_waiter("table_exists").wait(TableName=each["PhysicalResourceId"])
        self.delete(stack.id)

    def _finish(self, stack_id: str, last: str | None, done: str, status: str) -> None:
        """Follows an operation. Raises AwsError, with the reasons, if it ends with another status."""
        ended, reasons = self._follow(stack_id, last)
        if ended != status:
            because = "; ".join(reasons) or ended
            raise AwsError(f"stack {self.name} could not be {done}: {because}")

    def _follow(self, stack_id: str, last: str | None) -> tuple[str, list[str]]:
        """Reports the events after ``last``, or of the latest operation, until the stack itself is at rest.

        Returns its status, and the reason of each failure.
        """
        reasons: list[str] = []
        for _ in range(int(FOLLOWED_S / POLL_S)):
            stack = look_up_stack(self.account, stack_id)
            for event in self._events(stack_id, last):
                last, status, reason = event["EventId"], event["ResourceStatus"], event.get("ResourceStatusReason", "")
                of_stack = event.get("PhysicalResourceId") == stack_id
                if status.endswith("_FAILED") and not of_stack and "cancelled" not in reason:
                    reasons.append(f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason or status}")
                self.report(" ".join(filter(None, (status, event["LogicalResourceId"], reason))))
                if of_stack and not status.endswith("_IN_PROGRESS"):
                    return status, reasons
            # A stack that was never created has no final event.
            if stack is None or stack.status == "DELETE_COMPLETE":
                return "DELETE_COMPLETE", reasons
            self.account.sleep(POLL_S)
        raise AwsError(f"CloudFormation is still changing stack {self.name}. Run the same command again to follow it")

    def _events(self, stack_id: str, last: str | None) -> list[dict[str, Any]]:
        """Returns the events after ``last``, oldest first; without ``last``, those since the operation began."""
        events: list[dict[str, Any]] = []
        for event in self._newest(stack_id):
            if event["EventId"] == last:
                break
            events.append(event)
            begins = event["ResourceStatus"] in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
            if last is None and begins and event.get("PhysicalResourceId") == stack_id:
                break
        return events[::-1]

    def _last_event(self, stack_id: str) -> str | None:
        return next((event["EventId"] for event in self._newest(stack_id)), None)

    def _newest(self, stack_id: str) -> Iterator[dict[str, Any]]:
        """Yields the events of a stack, even of a deleted one, newest first."""
        return self.account.list_all("cloudformation", "describe_stack_events", "StackEvents", StackName=stack_id)


def _change(about: Mapping[str, Any]) -> Change:
    replaced = about.get("Replacement") == "True"
    return Change(about["Action"].lower(), about["ResourceType"], about["LogicalResourceId"], replaced)


def parameters_for(
    declared: Collection[str], chosen: Mapping[str, str], before: Mapping[str, str]
) -> list[dict[str, str | bool]]:
    """Returns the parameters of a change set: those that are chosen, and the present values of the others.

    A parameter that the stack does not have yet gets the template's default.

    >>> parameters_for(["Stage", "Shards", "Tracing"], {"Stage": "prod"}, {"Stage": "prod", "Shards": "2"})
    [{'ParameterKey': 'Stage', 'ParameterValue': 'prod'}, {'ParameterKey': 'Shards', 'UsePreviousValue': True}]
    """
    return [
        {"ParameterKey": name, "ParameterValue": chosen[name]}
        if name in chosen
        else {"ParameterKey": name, "UsePreviousValue": True}
        for name in declared
        if name in chosen or name in before
    ]
