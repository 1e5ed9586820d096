"""Plans: what is wanted and what was found become steps. Nothing here asks or changes anything."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sluice.deploy.resource import Found, Resource


class Action(StrEnum):
    KEEP = "exists"
    CREATE = "create"
    CHANGE = "change"
    REMOVE = "remove"
    LEAVE = "leave"
    """It is not ours, so it is not removed."""
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Step:
    action: Action
    resource: Resource
    found: Found | None = None
    detail: str = ""

    @property
    def effective(self) -> bool:
        """Whether anything is done."""
        return self.action in (Action.CREATE, Action.CHANGE, Action.REMOVE)

    def row(self) -> dict[str, str]:
        return {
            "action": str(self.action),
            "kind": self.resource.kind,
            "name": self.resource.name,
            "detail": self.detail,
        }


Survey = Iterable[tuple[Resource, Found | None]]
"""What is wanted, in order of creation, and what was found under its name."""


def to_set_up(survey: Survey) -> list[Step]:
    steps = []
    for resource, found in survey:
        if found is None:
            steps.append(Step(Action.CREATE, resource, detail=resource.about))
        elif not found.ours:
            steps.append(Step(Action.REFUSE, resource, found, NOT_OURS))
        elif differences := resource.differences(found):
            steps.append(Step(Action.CHANGE, resource, found, "; ".join(differences)))
        else:
            steps.append(Step(Action.KEEP, resource, found))
    return steps


def to_tear_down(survey: Survey) -> list[Step]:
    """In reverse order of creation. What is gone already needs no step."""
    steps = []
    for resource, found in reversed(list(survey)):
        if found is None:
            continue
        if found.ours and not resource.kept:
            steps.append(Step(Action.REMOVE, resource, found))
        elif not found.ours:
            steps.append(Step(Action.LEAVE, resource, found, "not made by setup: it lacks the stage's tag"))
    return steps


NOT_OURS = "exists already and was not made by setup for this stage: choose another --stage, or remove it yourself"
