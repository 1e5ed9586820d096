"""Translates the SAM template on standard input to CloudFormation. Run by the lint environment's interpreter."""

import json
import logging
import sys

import boto3
import yaml
from samtranslator.parser.parser import Parser
from samtranslator.translator.managed_policy_translator import ManagedPolicyLoader
from samtranslator.translator.transform import transform


class NoPolicies(ManagedPolicyLoader):
    """Loads no managed policies from AWS, because Sluice uses only its own."""

    def __init__(self) -> None:
        super().__init__(None)
        self._policy_map = {}


logging.disable(logging.CRITICAL)
Parser._session = boto3.Session(region_name="us-east-1")
template = yaml.safe_load(sys.stdin)
for resource in template["Resources"].values():
    if "CodeUri" in resource.get("Properties", {}):
        resource["Properties"]["CodeUri"] = "s3://bucket/key"  # as 'aws cloudformation package' would
json.dump(transform(template, {}, NoPolicies()), sys.stdout)
