"""The stack of a stage, with the bucket from which CloudFormation reads its template and the code of its functions.

CloudFormation accepts templates of up to 51,200 bytes in a call, and up to 1 MB from S3 ("Understand CloudFormation
quotas", CloudFormation User Guide). To roll an update back, it reads the former code again, so packages are kept until
the stack is deleted.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from botocore.exceptions import ClientError

from sluice.deploy.account import AwsAccount, code_of, missing_ok
from sluice.deploy.packaging import Package, Template, located
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.stack import Report, Stack, StackOperations, look_up_stack
from sluice.deploy.stage import TAG

PRIVATE = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


@dataclass(frozen=True, slots=True)
class PackageBucket(Resource):
    """The stage's own bucket, recognised by its name, which contains the account's id."""

    kind = "S3 bucket"

    def find(self, account: AwsAccount) -> Existing | None:
        client, owner = account.client("s3"), self.stage.location.account
        tags: list[dict[str, str]] = []
        try:
            with missing_ok("NoSuchTagSet"):
                tags = client.get_bucket_tagging(Bucket=self.name, ExpectedBucketOwner=owner)["TagSet"]
        except ClientError as exc:
            if code_of(exc) == "NoSuchBucket":
                return None
            if code_of(exc) == "AccessDenied":
                return Existing(ours=False, obstacle="is another account's, or may not be read: name one with --bucket")
            raise
        return Existing(ours=True, differences=[] if self.tagged(tags) else ["is not complete"])

    def create(self, account: AwsAccount) -> None:
        region = self.stage.location.region
        # S3 rejects a LocationConstraint of this one region.
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        account.client("s3").create_bucket(Bucket=self.name, **where)

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        client = account.client("s3")
        client.put_public_access_block(Bucket=self.name, PublicAccessBlockConfiguration=PRIVATE)
        # Last, because the tag marks the bucket as complete.
        client.put_bucket_tagging(Bucket=self.name, Tagging={"TagSet": [{"Key": TAG, "Value": self.stage.name}]})

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        client = account.client("s3")
        with missing_ok("NoSuchBucket"):
            for each in list(account.list_all("s3", "list_objects_v2", "Contents", Bucket=self.name)):
                client.delete_object(Bucket=self.name, Key=each["Key"])
            client.delete_bucket(Bucket=self.name)


@dataclass(frozen=True, slots=True)
class CloudFormationStack(Resource):
    """The stack with a package and the chosen parameters; the other parameters keep their values."""

    kind = "CloudFormation stack"

    report: Report
    """Receives a line for each event of the stack."""
    bucket: str = ""
    package: Package | None = None
    """None if the stack is only to be removed."""
    chosen: Mapping[str, str] = field(default_factory=dict)

    def find(self, account: AwsAccount) -> Existing | None:
        stack = look_up_stack(account, self.name)
        if stack is None:
            return None
        # A stack in review has only a change set, and no resources yet.
        if stack.status == "REVIEW_IN_PROGRESS":
            return Existing(ours=True) if self.package is None else None
        if stack.status == "DELETE_FAILED" and self.package is not None:
            return Existing(False, obstacle=f"is half deleted. First run: {self.stage.command('stack delete')}")
        ours = self.stage.name in (stack.owner, stack.parameters.get("Stage"))
        return Existing(ours, list(self._differences(account, stack)) if ours else [])

    def create(self, account: AwsAccount) -> None:
        if self.package is None:
            return
        prefix, template = self.stage.prefix, json.dumps(self._template(self.package), sort_keys=True).encode()
        key = f"{prefix}/{hashlib.sha256(template).hexdigest()}.template"
        _upload(account, self.bucket, self._code_key(self.package), self.package.code)
        _upload(account, self.bucket, key, template)
        domain = "amazonaws.com.cn" if account.partition == "aws-cn" else "amazonaws.com"
        self._operations(account).deploy(
            f"https://{self.bucket}.s3.{account.region}.{domain}/{key}",
            self.package.template["Parameters"],
            self.chosen,
            f"{prefix}-{time.time_ns()}",
        )

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        operations = self._operations(account)
        stack = operations.settled()
        if stack is not None:
            operations.delete(stack.id)

    def _operations(self, account: AwsAccount) -> StackOperations:
        return StackOperations(self.stage, account, self.name, self.report)

    def _code_key(self, package: Package) -> str:
        return f"{self.stage.prefix}/{package.code_version}.zip"

    def _template(self, package: Package) -> Template:
        return located(package.template, f"s3://{self.bucket}/{self._code_key(package)}")

    def _differences(self, account: AwsAccount, stack: Stack) -> Iterator[str]:
        if self.package is None:
            return
        if not stack.created or not stack.status.endswith("_COMPLETE"):
            yield f"is {stack.status}"
            return
        for name, value in self.chosen.items():
            if stack.parameters.get(name) != value:
                yield f"{name}: {value or 'none'} instead of {stack.parameters.get(name) or 'none'}"
        answer = account.client("cloudformation").get_template(StackName=stack.id, TemplateStage="Original")
        present, desired = answer["TemplateBody"], self._template(self.package)
        # A YAML template, as 'aws cloudformation package' uploads it, arrives as text.
        if not isinstance(present, dict) or located(present, "") != located(desired, ""):
            yield "functions and resources"
        elif present != desired:
            yield "functions"


def _upload(account: AwsAccount, bucket: str, key: str, body: bytes) -> None:
    """Uploads an object whose key determines its content, unless it exists."""
    client, owner = account.client("s3"), account.location.account
    try:
        client.head_object(Bucket=bucket, Key=key, ExpectedBucketOwner=owner)
    except ClientError as exc:
        # Without permission to list the bucket, S3 answers 403 for an object that does not exist.
        if code_of(exc) not in ("404", "403"):
            raise
        client.put_object(Bucket=bucket, Key=key, Body=body, ExpectedBucketOwner=owner)
