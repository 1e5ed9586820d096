"""Carrying out a plan. Interrupted anywhere and planned again, it ends the same."""

from collections.abc import Callable, Iterator, Sequence

from sluice.deploy.account import AwsAccount, attempting
from sluice.deploy.plan import Step, StepAction
from sluice.deploy.resource import Existing, Resource

StepCallback = Callable[[Step], None]
"""Told about each step before it is taken."""


def survey(resources: Sequence[Resource], account: AwsAccount) -> Iterator[tuple[Resource, Existing | None]]:
    """What there is. Raises Refusal for what cannot work, AwsError."""
    for resource in resources:
        with attempting(f"look for {resource.kind} {resource.name}"):
            existing = resource.find(account)
        yield resource, existing


def apply(steps: Sequence[Step], account: AwsAccount, progress: StepCallback) -> None:
    """Raises AwsError at the first step that fails; the earlier ones stand."""
    for step in steps:
        if not step.effective:
            continue
        progress(step)
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
    if existing is not None and resource.differences(existing):
        resource.change(account, existing)
