"""Surveys of the account, and the application of plans. Repeating an interrupted run completes it."""

from collections.abc import Callable, Iterator, Sequence

from sluice.deploy.account import RETRY_PAUSE_S, AwsAccount, AwsError, attempting
from sluice.deploy.plan import Step, StepAction, to_tear_down
from sluice.deploy.resource import Existing, Resource

VISIBLE_ATTEMPTS = 20
"""Attempts to see what was just created or removed: a minute at most. IAM, WAF and Lambda are eventually consistent."""


def survey(resources: Sequence[Resource], account: AwsAccount) -> Iterator[tuple[Resource, Existing | None]]:
    """Yields each resource with what exists under its name. Raises Refusal for what cannot work, and AwsError."""
    for resource in resources:
        with attempting(f"look for {resource.kind} {resource.name}"):
            existing = resource.find(account)
        yield resource, existing


def survey_remains(resources: Sequence[Resource], account: AwsAccount) -> Iterator[tuple[Resource, Existing | None]]:
    """Yields each resource with what is left of it. Raises AwsError."""
    for resource in resources:
        with attempting(f"look for {resource.kind} {resource.name}"):
            existing = resource.remains(account)
        yield resource, existing


def left_over(resources: Sequence[Resource], account: AwsAccount) -> list[Step]:
    """Returns the steps that a teardown still has to take, once AWS has had time to show that all else is gone.

    Raises AwsError.
    """
    for _ in range(VISIBLE_ATTEMPTS):
        steps = [step for step in to_tear_down(survey_remains(resources, account)) if step.effective]
        if not steps:
            break
        account.sleep(RETRY_PAUSE_S)
    return steps


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


def _created(resource: Resource, account: AwsAccount) -> Existing:
    """Returns what was just created as soon as AWS shows it. Raises AwsError if that takes too long."""
    for _ in range(VISIBLE_ATTEMPTS):
        existing = resource.find(account)
        if existing is not None:
            return existing
        account.sleep(RETRY_PAUSE_S)
    raise AwsError(f"{resource.kind} {resource.name} was created, but AWS does not show it yet")


def _ensure(resource: Resource, account: AwsAccount) -> None:
    existing = resource.find(account)
    if existing is None:
        resource.create(account)
        existing = _created(resource, account)
    if existing.differences:
        resource.change(account, existing)
