"""SSM parameters: the stage's choices, and the hashes of the admin API's tokens."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from chalicelib.core.tokens import SECRET_BYTES, Role, dump_tokens, issue
from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.stage import Choices

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
        before, after = Choices.from_json(value), self.stage.choices
        changed = [name for name in Choices.__dataclass_fields__ if getattr(before, name) != getattr(after, name)]
        return [f"{name.replace('_', ' ')} changed" for name in changed]

    def create(self, account: AwsAccount) -> None:
        self.put(account, "String", self.stage.choices.to_json(), "Choices of 'sluice setup' for this stage.")

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        text, put = self.stage.choices.to_json(), account.client("ssm").put_parameter
        account.retry(put, BUSY, Name=self.name, Type="String", Value=text, Overwrite=True)


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


@missing_ok("ParameterNotFound")
def remembered(account: AwsAccount, stage: str) -> Choices | None:
    """Returns the choices of earlier setups of the stage; None if there were none."""
    parameter = account.client("ssm").get_parameter(Name=f"/sluice/{stage}/setup")["Parameter"]
    return Choices.from_json(parameter["Value"])
