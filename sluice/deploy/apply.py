"""Carrying out a plan. Interrupted anywhere and planned again, it ends the same."""

from collections.abc import Callable, Iterator, Sequence

from sluice.deploy.account import Account, naming
from sluice.deploy.plan import Action, Step
from sluice.deploy.resource import Found, Resource

Progress = Callable[[Step], None]
"""Told about each step before it is taken."""


def survey(resources: Sequence[Resource], account: Account) -> Iterator[tuple[Resource, Found | None]]:
    """What there is. Raises Refusal for what cannot work, AwsError."""
    for resource in resources:
        with naming(f"look for {resource.kind} {resource.name}"):
            found = resource.find(account)
        yield resource, found


def apply(steps: Sequence[Step], account: Account, progress: Progress) -> None:
    """Raises AwsError at the first step that fails; the earlier ones stand."""
    for step in steps:
        if not step.effective:
            continue
        progress(step)
        with naming(f"{step.action} {step.resource.kind} {step.resource.name}"):
            if step.action is Action.REMOVE and step.found is not None:
                step.resource.remove(account, step.found)
            else:
                _ensure(step.resource, account)


def _ensure(resource: Resource, account: Account) -> None:
    found = resource.find(account)
    if found is None:
        resource.create(account)
        found = resource.find(account)
    if found is not None and resource.differences(found):
        resource.change(account, found)
