"""What is kept in SSM's Parameter Store: the stage's choices, and the hashes of the admin API's tokens."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from chalicelib.core.tokens import SECRET_BYTES, Role, dump_tokens, issue
from sluice.deploy.account import Account, absent, as_list, as_mapping
from sluice.deploy.resource import Found, Resource
from sluice.deploy.stage import Choices

FIRST_HOLDER = "first operator"
BUSY = ("TooManyUpdates", "ThrottlingException")


class Parameter(Resource):
    kind = "SSM parameter"

    def find(self, account: Account) -> Found | None:
        client = account.client("ssm")
        with absent("ParameterNotFound"):
            value = client.get_parameter(Name=self.name)["Parameter"]["Value"]
            tags = client.list_tags_for_resource(ResourceType="Parameter", ResourceId=self.name)["TagList"]
            return Found(self.tagged(as_mapping(tags)), {"value": value})
        return None

    def remove(self, account: Account, found: Found) -> None:  # noqa: ARG002
        account.client("ssm").delete_parameter(Name=self.name)


class RememberedChoices(Parameter):
    """The first thing that is created and the last that is removed: what it says tells what else may exist."""

    about = "the choices of this stage, for later runs"

    @property
    def name(self) -> str:
        return self.stage.choices_parameter

    def differences(self, found: Found) -> list[str]:
        before, after = Choices.read(found.facts["value"]), self.stage.choices
        named = [name for name in Choices.__dataclass_fields__ if getattr(before, name) != getattr(after, name)]
        return [f"{name.replace('_', ' ')} changed" for name in named]

    def create(self, account: Account) -> None:
        account.client("ssm").put_parameter(
            Name=self.name,
            Type="String",
            Value=self.stage.choices.text(),
            Tags=as_list(self.stage.tags),
            Description="What 'sluice setup' was asked for.",
        )

    def change(self, account: Account, found: Found) -> None:  # noqa: ARG002
        account.patiently(
            lambda: account.client("ssm").put_parameter(
                Name=self.name, Type="String", Value=self.stage.choices.text(), Overwrite=True
            ),
            BUSY,
        )


@dataclass(frozen=True, slots=True)
class FirstToken(Parameter):
    """The admin API's tokens, to begin with one. Later ones are the operator's: nothing is changed here."""

    now: int
    """Epoch seconds."""
    hand_over: Callable[[str], None]

    about = "the admin API's tokens (hashes); the first one is shown once"

    @property
    def name(self) -> str:
        return self.stage.tokens_parameter

    def create(self, account: Account) -> None:
        text, token = issue(FIRST_HOLDER, Role.OPERATOR, secret=secrets.token_bytes(SECRET_BYTES), now=self.now)
        # Shown before it is stored: one that is shown and does not work does less harm than one that nobody has.
        self.hand_over(text)
        account.client("ssm").put_parameter(
            Name=self.name,
            Type="SecureString",
            Value=dump_tokens([token]),
            Tags=as_list(self.stage.tags),
            Description="Hashes of the tokens for Sluice's admin API.",
        )


def remembered(account: Account, stage: str) -> Choices | None:
    """What an earlier setup of this stage was asked for; None if there was none."""
    with absent("ParameterNotFound"):
        return Choices.read(account.client("ssm").get_parameter(Name=f"/sluice/{stage}/setup")["Parameter"]["Value"])
    return None
