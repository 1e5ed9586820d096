"""Plans: what is wanted and what was existing become steps. Nothing here asks or changes anything."""

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
    """It is not ours, so it is not removed."""
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Step:
    action: StepAction
    resource: Resource
    existing: Existing | None = None
    detail: str = ""

    @property
    def effective(self) -> bool:
        """Whether anything is done."""
        return self.action in (StepAction.CREATE, StepAction.CHANGE, StepAction.REMOVE)

    def row(self) -> dict[str, str]:
        return {
            "action": str(self.action),
            "kind": self.resource.kind,
            "name": self.resource.name,
            "detail": self.detail,
        }


Survey = Iterable[tuple[Resource, Existing | None]]
"""What is wanted, in order of creation, and what was existing under its name."""


def to_set_up(survey: Survey) -> list[Step]:
    steps = []
    for resource, existing in survey:
        if existing is None:
            steps.append(Step(StepAction.CREATE, resource, detail=resource.about))
        elif not existing.ours:
            steps.append(Step(StepAction.REFUSE, resource, existing, NOT_OURS))
        elif differences := resource.differences(existing):
            steps.append(Step(StepAction.CHANGE, resource, existing, "; ".join(differences)))
        else:
            steps.append(Step(StepAction.KEEP, resource, existing))
    return steps


def to_tear_down(survey: Survey) -> list[Step]:
    """In reverse order of creation. What is gone already needs no step."""
    steps = []
    for resource, existing in reversed(list(survey)):
        if existing is None:
            continue
        if existing.ours and not resource.kept:
            steps.append(Step(StepAction.REMOVE, resource, existing))
        elif not existing.ours:
            steps.append(Step(StepAction.LEAVE, resource, existing, "not made by setup: it lacks the stage's tag"))
    return steps


NOT_OURS = "exists already and was not made by setup for this stage: choose another --stage, or remove it yourself"
