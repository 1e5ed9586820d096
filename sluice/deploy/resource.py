"""The resources of a stage: one class per kind, which finds, creates, changes and removes its items.

Every write is either harmless to repeat or preceded by a read, so that an interrupted run can be repeated.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sluice.deploy.account import AwsAccount
from sluice.deploy.stage import TAG, Refusal, Stage


@dataclass(frozen=True, slots=True)
class Existing:
    """The item under the name of a resource, or the obstacle to creating it."""

    ours: bool
    """True if setup created it, for this stage."""
    differences: Sequence[str] = ()
    """Phrases for the plan, each of which says what has to change."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The properties that ``change`` and ``remove`` need."""
    obstacle: str = ""
    """Reason why there is no item and none can be created; empty if there is one. Then nothing is removed, either."""


@dataclass(frozen=True, slots=True)
class Resource(ABC):
    """One item that a stage needs."""

    kind: ClassVar[str]
    dependent: ClassVar[bool] = False
    """True if the item disappears together with another resource, so that teardown needs no step for it."""

    stage: Stage
    name: str
    about: str = field(default="", kw_only=True)
    """The plan's description of an item that does not exist yet."""
    elsewhere: bool = field(default=False, kw_only=True)
    """True if another tool makes the item, so that it is only looked for."""

    @abstractmethod
    def find(self, account: AwsAccount) -> Existing | None:
        """Returns None if the item does not exist. Raises Refusal if the account rules out creating it."""

    def remains(self, account: AwsAccount) -> Existing | None:
        """Returns what teardown has to remove; None if there is nothing, as for what the account rules out creating."""
        with suppress(Refusal):
            return self.find(account)
        return None

    def create(self, account: AwsAccount) -> None:  # noqa: B027 - setup does not create what teardown finds left over
        """Creates the item. May leave differences, because ``change`` follows if there are any."""

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        """Removes all differences; by default by creating the item again, if the call that creates it overwrites it."""
        self.create(account)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: B027 - see ``dependent``
        """Removes the item."""

    def keeps(self, existing: Existing) -> str:  # noqa: ARG002
        """Returns kind and name of what AWS does not delete as long as the item exists; empty for nothing."""
        return ""

    def tagged(self, tags: Iterable[Mapping[str, str]]) -> bool:
        """Returns whether tags, in the form that most AWS calls return, name the stage."""
        return {"Key": TAG, "Value": self.stage.name} in tags
