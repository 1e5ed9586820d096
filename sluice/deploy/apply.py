"""Surveys of the account, and the application of plans. Repeating an interrupted run completes it."""

from collections.abc import Callable, Iterator, Sequence

from sluice.deploy.account import AwsAccount, attempting
from sluice.deploy.plan import Step, StepAction
from sluice.deploy.resource import Existing, Resource


def survey(resources: Sequence[Resource], account: AwsAccount) -> Iterator[tuple[Resource, Existing | None]]:
    """Yields each resource with what exists under its name. Raises Refusal for what cannot work, and AwsError."""
    for resource in resources:
        with attempting(f"look for {resource.kind} {resource.name}"):
            existing = resource.find(account)
        yield resource, existing


def apply(steps: Sequence[Step], account: AwsAccount, report: Callable[[Step], None]) -> None:
    """Applies the steps in order, reporting each before it is taken.

    Raises AwsError at the first step that fails; earlier steps are not reverted.
    """
    for step in steps:
        if not step.effective:
            continue
        report(step)
        with attempting(f"{step.action} {step.resource.kind} {step.resource.name}"):
            if step.action is StepAction.REMOVE and step.existing is not None:
                step.resource.remove(account, step.existing)
            else:
                _ensure(step.resource, account)


def _ensure(resource: Resource, account: AwsAccount) -> None:
    existing = resource.find(account)
    if existing is None:
        resource.create(account)
        existing = resource.find(account)
    if existing is not None and existing.differences:
        resource.change(account, existing)
