"""What a stage consists of: one class a kind of thing, which can find, create, change and remove it.

Each write is one call whose repetition does no harm, or is preceded by a look: whoever is interrupted runs again.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sluice.deploy.account import AwsAccount
from sluice.deploy.stage import TAG, Stage


@dataclass(frozen=True, slots=True)
class Existing:
    """Something that exists under a wanted name."""

    ours: bool
    """Whether setup made it, for this stage."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What AWS says about it, as far as it matters."""


@dataclass(frozen=True, slots=True)
class Resource(ABC):
    """A thing that a stage wants to exist."""

    kind: ClassVar[str]
    kept: ClassVar[bool] = False
    """Whether it is left alone when it goes: what holds it is removed."""

    stage: Stage

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    def about(self) -> str:
        """What the plan says of it before it exists."""
        return ""

    @abstractmethod
    def find(self, account: AwsAccount) -> Existing | None:
        """None if there is no such thing. Raises Refusal if what there is makes the wanted thing impossible."""

    def differences(self, existing: Existing) -> list[str]:  # noqa: ARG002
        """What has to change, in words; empty if nothing."""
        return []

    @abstractmethod
    def create(self, account: AwsAccount) -> None:
        """May leave some things to ``change``: it follows if there are differences then."""

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: B027
        """Mends all differences."""

    @abstractmethod
    def remove(self, account: AwsAccount, existing: Existing) -> None: ...

    def tagged(self, tags: Mapping[str, str]) -> bool:
        return tags.get(TAG) == self.stage.name
