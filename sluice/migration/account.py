"""Reads the documents of a stack of "Security Automations for AWS WAF" from its account. Changes nothing."""

import json
from collections.abc import Iterator
from typing import Any

from sluice.deploy.account import AwsAccount, AwsError, attempting, missing_ok
from sluice.migration.old_stack import Document
from sluice.migration.stack_lists import set_kind
from sluice.migration.stack_rules import SCOPES

CONFIGURATIONS = (("WafLogBucket", "waf_log_conf"), ("AppAccessLogBucket", "app_log_conf"))
"""Pairs of an output that names a bucket, and the configuration file in that bucket."""

TABLE = "IPRetentionDDBTable"
"""Logical id of the table with the ends of allowed and denied addresses."""


def documents_of(account: AwsAccount, stack: str) -> dict[str, Document]:
    """Returns the documents of a stack by name: AWS's answers as the AWS CLI prints them, and stored configuration.

    Raises AwsError if there is no such stack, or if one of its parts cannot be read.
    """
    with attempting(f"read stack {stack}"):
        answer = account.client("cloudformation").describe_stacks(StackName=stack)
    described = answer["Stacks"][0]
    documents: dict[str, Document] = {f"stack {stack}": {"Stacks": [described]}}
    parameters = {each["ParameterKey"]: each.get("ParameterValue") for each in described.get("Parameters", ())}
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", ())}
    for output, file in CONFIGURATIONS:
        bucket = outputs.get(output) or parameters.get(output)
        if bucket:
            name = f"{stack}-{file}.json"
            with attempting(f"read {name} in bucket {bucket}"):
                text = _object(account, bucket, name)
            if text is not None:
                documents[name] = _decoded(name, text)
    scope = SCOPES.get(str(parameters.get("EndpointType")), "CLOUDFRONT")
    documents |= _ip_sets(account, stack, scope) | _web_acl(account, stack, scope)
    for table in _tables(account, stack):
        with attempting(f"read table {table}"):
            documents[f"table {table}"] = {
                "Items": list(account.list_all("dynamodb", "scan", "Items", TableName=table))
            }
    return documents


@missing_ok("NoSuchKey", "NoSuchBucket")
def _object(account: AwsAccount, bucket: str, key: str) -> bytes:
    content: bytes = account.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def _decoded(name: str, text: bytes) -> Document:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise AwsError(f"{name} is not valid JSON: {exc}") from exc


def _ip_sets(account: AwsAccount, stack: str, scope: str) -> dict[str, Document]:
    documents: dict[str, Document] = {}
    with attempting("read the IP sets"):
        for each in account.list_all("wafv2", "list_ip_sets", "IPSets", Scope=scope):
            name = each["Name"]
            kind = set_kind(name)
            if kind and name.removesuffix("V4").removesuffix("V6") == f"{stack}{kind}SetIP":
                identity = {"Name": name, "Scope": scope, "Id": each["Id"]}
                documents[f"IP set {name}"] = {"IPSet": account.client("wafv2").get_ip_set(**identity)["IPSet"]}
    return documents


def _web_acl(account: AwsAccount, stack: str, scope: str) -> dict[str, Document]:
    documents: dict[str, Document] = {}
    with attempting("read the web ACL"):
        for each in account.list_all("wafv2", "list_web_acls", "WebACLs", Scope=scope):
            if each["Name"] == stack:
                acl = account.client("wafv2").get_web_acl(Name=stack, Scope=scope, Id=each["Id"])["WebACL"]
                documents[f"web ACL {stack}"] = {"WebACL": acl}
    return documents


def _tables(account: AwsAccount, stack: str) -> Iterator[str]:
    with attempting(f"list the resources of stack {stack}"):
        resources: list[dict[str, Any]] = list(
            account.list_all("cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=stack)
        )
    for resource in resources:
        if resource["LogicalResourceId"] == TABLE:
            yield resource["PhysicalResourceId"]
