"""The additions of a stage to resources of other owners, which can be taken back and forgotten one by one."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from sluice.deploy.resource import Resource
from sluice.deploy.resources import additions
from sluice.deploy.resources.parameters import RememberedChoices, memory_of
from sluice.deploy.resources.web_acls import web_acl_name
from sluice.deploy.stage import Choices, Refusal, Stage, split_bucket

OPTIONS = {
    "web_acls": "--web-acl",
    "distributions": "--distribution",
    "log_groups": "--log-group",
    "load_balancers": "--load-balancer",
    "buckets": "--bucket",
}


@dataclass(frozen=True, slots=True)
class Detached:
    """Choices of a stage that are taken back."""

    web_acls: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    log_groups: tuple[str, ...] = ()
    load_balancers: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))

    @classmethod
    def of(cls, choices: Choices, **named: Sequence[str]) -> Self:
        """Returns the named choices: web ACLs by name or ARN, buckets with or without their prefix.

        Raises Refusal if the stage is not attached to one of them.
        """
        selected: dict[str, tuple[str, ...]] = {}
        for field, texts in named.items():
            attached: tuple[str, ...] = getattr(choices, field)
            for text in texts:
                matches = [each for each in attached if text in _names(field, each)]
                if not matches:
                    names = ", ".join(_names(field, each)[-1] for each in attached)
                    raise Refusal(f"{OPTIONS[field]} {text} is not attached to the stage; attached: {names or 'none'}")
                selected[field] = (*selected.get(field, ()), *matches)
        return cls(**{field: tuple(dict.fromkeys(each)) for field, each in selected.items()})

    def undo(self, stage: Stage) -> str:
        """Returns the command that attaches everything again."""
        options = [
            f"{OPTIONS[each.name]} {shlex.quote(_names(each.name, value)[-1])}"
            for each in fields(self)
            if each.name != "buckets"
            for value in getattr(self, each.name)
        ]
        prefixes = [split_bucket(entry) for entry in self.buckets]
        options += [f"--bucket {bucket} --prefix {shlex.quote(prefix)}" for bucket, prefix in prefixes]
        return " ".join((stage.command("setup"), *options))


def _names(field: str, value: str) -> tuple[str, ...]:
    """Returns the texts by which an operator may name a choice, the usual one last."""
    if field == "web_acls":
        return (value, web_acl_name(value))
    if field == "buckets":
        return (value, split_bucket(value)[0])
    return (value,)


def additions_of(stage: Stage, detached: Detached) -> list[Resource]:
    """Returns the stage's additions to what is detached, in order of creation."""
    only: dict[str, Any] = {each.name: getattr(detached, each.name) for each in fields(detached)}
    return additions(
        replace(stage, choices=replace(stage.choices, own_web_acl=False, managed_groups=(), notices=(), **only))
    )


def without(stage: Stage, detached: Detached) -> RememberedChoices:
    """Returns the stage's remembered choices without what is detached."""
    kept: dict[str, Any] = {
        each.name: tuple(
            value for value in getattr(stage.choices, each.name) if value not in getattr(detached, each.name)
        )
        for each in fields(detached)
    }
    former = {arn: numbers for arn, numbers in stage.choices.renumbered.items() if arn in kept["web_acls"]}
    choices = replace(stage.choices, **kept, renumbered=former)
    return memory_of(replace(stage, choices=choices))
