"""SSM parameters: the stage's choices, and the hashes of the admin API's tokens."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from chalicelib.core.tokens import SECRET_BYTES, Role, dump_tokens, issue
from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.stage import Choices, Stage

FIRST_HOLDER = "first operator"
FIRST_TOKEN_S = 90 * 86400
"""Seconds until the first token expires, as others do by default."""

BUSY = ("TooManyUpdates", "ThrottlingException")


class Parameter(Resource):
    kind = "SSM parameter"

    @missing_ok("ParameterNotFound")
    def find(self, account: AwsAccount) -> Existing | None:
        client = account.client("ssm")
        value = client.get_parameter(Name=self.name)["Parameter"]["Value"]
        tags = client.list_tags_for_resource(ResourceType="Parameter", ResourceId=self.name)["TagList"]
        return Existing(self.tagged(tags), self.differences(value))

    def differences(self, value: str) -> list[str]:  # noqa: ARG002
        """Returns what has to change in the parameter's value, as phrases for the plan."""
        return []

    def put(self, account: AwsAccount, type_: str, value: str, description: str) -> None:
        account.client("ssm").put_parameter(
            Name=self.name, Type=type_, Value=value, Tags=self.stage.tag_list, Description=description
        )

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("ssm").delete_parameter(Name=self.name)


class RememberedChoices(Parameter):
    """The stage's choices. Created first and removed last, because they determine what else may exist."""

    def differences(self, value: str) -> list[str]:
        return _changed(Choices.from_json(value), self.stage.choices)

    def create(self, account: AwsAccount) -> None:
        self.put(account, "String", self.stage.choices.to_json(), "Choices of 'sluice setup' for this stage.")

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        text, put = self.stage.choices.to_json(), account.client("ssm").put_parameter
        account.retry(put, BUSY, Name=self.name, Type="String", Value=text, Overwrite=True)


class AddedChoices(RememberedChoices):
    """The choices that a stage's stack leaves to setup. An update of the stack does not change them."""

    def find(self, account: AwsAccount) -> Existing | None:
        existing, before = super().find(account), remembered(account, self.stage.name)
        if existing is None or before is None:
            return existing
        return replace(existing, differences=_changed(before, self.stage.choices))


def memory_of(stage: Stage) -> RememberedChoices:
    """Returns the parameter with the choices that setup has to remember."""
    about = "the choices of this stage, for later runs"
    if stage.choices.stack:
        return AddedChoices(stage, stage.added_choices_parameter, about=about)
    return RememberedChoices(stage, stage.choices_parameter, about=about)


def _changed(before: Choices, after: Choices) -> list[str]:
    changed = [name for name in Choices.__dataclass_fields__ if getattr(before, name) != getattr(after, name)]
    return [f"{name.replace('_', ' ')} changed" for name in changed]


@dataclass(frozen=True, slots=True)
class FirstToken(Parameter):
    """The admin API's tokens, at first a single one. Setup never changes them again: they are the operator's."""

    now: int
    """Epoch seconds."""
    show_token: Callable[[str], None]

    def create(self, account: AwsAccount) -> None:
        secret, expires_at = secrets.token_bytes(SECRET_BYTES), self.now + FIRST_TOKEN_S
        text, token = issue(FIRST_HOLDER, Role.OPERATOR, secret=secret, now=self.now, expires_at=expires_at)
        # Shown before it is stored: a shown token that does not work does less harm than a working one that is lost.
        self.show_token(text)
        self.put(account, "SecureString", dump_tokens([token]), "Hashes of the tokens for Sluice's admin API.")


def remembered(account: AwsAccount, stage: str) -> Choices | None:
    """Returns the choices made by earlier setups of the stage and by its stack; None if there are none."""
    text = _value(account, f"/sluice/{stage}/setup")
    if text is None:
        return None
    choices = Choices.from_json(text)
    added = _value(account, f"/sluice/{stage}/attached") if choices.stack else None
    return choices if added is None else Choices.of_stack(text, added)


@missing_ok("ParameterNotFound")
def _value(account: AwsAccount, name: str) -> str | None:
    value: str = account.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    return value
