"""What is kept in SSM's Parameter Store: the stage's choices, and the hashes of the admin API's tokens."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from chalicelib.core.tokens import SECRET_BYTES, Role, dump_tokens, issue
from sluice.deploy.account import AwsAccount, as_list, as_mapping, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.stage import Choices

FIRST_HOLDER = "first operator"
BUSY = ("TooManyUpdates", "ThrottlingException")


class Parameter(Resource):
    kind = "SSM parameter"

    def find(self, account: AwsAccount) -> Existing | None:
        client = account.client("ssm")
        with missing_ok("ParameterNotFound"):
            value = client.get_parameter(Name=self.name)["Parameter"]["Value"]
            tags = client.list_tags_for_resource(ResourceType="Parameter", ResourceId=self.name)["TagList"]
            return Existing(self.tagged(as_mapping(tags)), {"value": value})
        return None

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("ssm").delete_parameter(Name=self.name)


class RememberedChoices(Parameter):
    """The first thing that is created and the last that is removed: what it says tells what else may exist."""

    about = "the choices of this stage, for later runs"

    @property
    def name(self) -> str:
        return self.stage.choices_parameter

    def differences(self, existing: Existing) -> list[str]:
        before, after = Choices.read(existing.facts["value"]), self.stage.choices
        named = [name for name in Choices.__dataclass_fields__ if getattr(before, name) != getattr(after, name)]
        return [f"{name.replace('_', ' ')} changed" for name in named]

    def create(self, account: AwsAccount) -> None:
        account.client("ssm").put_parameter(
            Name=self.name,
            Type="String",
            Value=self.stage.choices.text(),
            Tags=as_list(self.stage.tags),
            Description="What 'sluice setup' was asked for.",
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.retry(
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
    show_token: Callable[[str], None]

    about = "the admin API's tokens (hashes); the first one is shown once"

    @property
    def name(self) -> str:
        return self.stage.tokens_parameter

    def create(self, account: AwsAccount) -> None:
        text, token = issue(FIRST_HOLDER, Role.OPERATOR, secret=secrets.token_bytes(SECRET_BYTES), now=self.now)
        # Shown before it is stored: one that is shown and does not work does less harm than one that nobody has.
        self.show_token(text)
        account.client("ssm").put_parameter(
            Name=self.name,
            Type="SecureString",
            Value=dump_tokens([token]),
            Tags=as_list(self.stage.tags),
            Description="Hashes of the tokens for Sluice's admin API.",
        )


def remembered(account: AwsAccount, stage: str) -> Choices | None:
    """What an earlier setup of this stage was asked for; None if there was none."""
    with missing_ok("ParameterNotFound"):
        return Choices.read(account.client("ssm").get_parameter(Name=f"/sluice/{stage}/setup")["Parameter"]["Value"])
    return None
