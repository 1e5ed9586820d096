"""IAM roles that services of AWS assume, each with one inline policy."""

import json
from abc import abstractmethod
from typing import Any, ClassVar

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource


class ServiceRole(Resource):
    """A role with a trust policy and one inline policy."""

    kind = "IAM role"
    policy_name: ClassVar[str]
    description: ClassVar[str]

    @abstractmethod
    def trust(self) -> dict[str, Any]:
        """Returns the trust policy: who may assume the role."""

    @abstractmethod
    def permissions(self) -> dict[str, Any]:
        """Returns the inline policy: what the role may do."""

    @missing_ok("NoSuchEntity")
    def find(self, account: AwsAccount) -> Existing | None:
        client = account.client("iam")
        role = client.get_role(RoleName=self.name)["Role"]
        tags = list(account.list_all("iam", "list_role_tags", "Tags", RoleName=self.name))
        permissions = None
        with missing_ok("NoSuchEntity"):
            answer = client.get_role_policy(RoleName=self.name, PolicyName=self.policy_name)
            permissions = answer["PolicyDocument"]
        wrong = [] if role["AssumeRolePolicyDocument"] == self.trust() else ["trust policy"]
        wrong += [] if permissions == self.permissions() else ["permissions"]
        return Existing(self.tagged(tags), wrong, {"has_policy": permissions is not None})

    def create(self, account: AwsAccount) -> None:
        account.client("iam").create_role(
            RoleName=self.name,
            AssumeRolePolicyDocument=json.dumps(self.trust()),
            Description=self.description,
            Tags=self.stage.tag_list,
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("iam")
        if "trust policy" in existing.differences:
            client.update_assume_role_policy(RoleName=self.name, PolicyDocument=json.dumps(self.trust()))
        document = json.dumps(self.permissions())
        client.put_role_policy(RoleName=self.name, PolicyName=self.policy_name, PolicyDocument=document)

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("iam")
        if existing.facts["has_policy"]:
            client.delete_role_policy(RoleName=self.name, PolicyName=self.policy_name)
        client.delete_role(RoleName=self.name)
