"""Plans: the steps from the existing resources to the desired ones. Pure: no calls, no changes."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sluice.deploy.resource import Existing, Resource


class StepAction(StrEnum):
    KEEP = "exists"
    CREATE = "create"
    CHANGE = "change"
    REMOVE = "remove"
    LEAVE = "leave"
    """Neither created nor removed, because it is another tool's or another owner's."""
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Step:
    action: StepAction
    resource: Resource
    existing: Existing | None = None
    detail: str = ""

    @property
    def effective(self) -> bool:
        """True if the step writes anything."""
        return self.action in (StepAction.CREATE, StepAction.CHANGE, StepAction.REMOVE)

    def row(self) -> dict[str, str]:
        resource = self.resource
        return {"action": str(self.action), "kind": resource.kind, "name": resource.name, "detail": self.detail}


Survey = Iterable[tuple[Resource, Existing | None]]
"""Resources to create or remove, in order of creation, each with what exists under its name."""

ELSEWHERE = "is missing, and another tool makes it: --print cloudformation, cdk or terraform-site shows what to add"
"""Detail of a step for an item that is made elsewhere but does not exist."""

NOT_OURS = "already exists, but setup did not create it for this stage: choose another --stage, or remove it yourself"


def to_set_up(survey: Survey) -> list[Step]:
    """Returns one step per resource, in order of creation."""
    steps = []
    for resource, existing in survey:
        if resource.elsewhere:
            differences = existing.differences if existing is not None and existing.ours else [ELSEWHERE]
            action = StepAction.LEAVE if differences else StepAction.KEEP
            steps.append(Step(action, resource, existing, "; ".join(differences)))
        elif existing is None:
            steps.append(Step(StepAction.CREATE, resource, detail=resource.about))
        elif not existing.ours:
            steps.append(Step(StepAction.REFUSE, resource, existing, existing.obstacle or NOT_OURS))
        elif existing.differences:
            steps.append(Step(StepAction.CHANGE, resource, existing, "; ".join(existing.differences)))
        else:
            steps.append(Step(StepAction.KEEP, resource, existing))
    return steps


def to_tear_down(survey: Survey) -> list[Step]:
    """Returns the steps in reverse order of creation. Resources that do not exist need none."""
    steps = []
    for resource, existing in reversed(list(survey)):
        if existing is None or existing.obstacle:
            continue
        if resource.elsewhere:
            steps.append(Step(StepAction.LEAVE, resource, existing, "made by another tool: remove it there"))
        elif not existing.ours:
            steps.append(Step(StepAction.LEAVE, resource, existing, "not created by setup for this stage"))
        elif not resource.dependent:
            steps.append(Step(StepAction.REMOVE, resource, existing))
    return steps
