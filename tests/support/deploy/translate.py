"""Run by the lint environment's interpreter: a SAM template on standard input, CloudFormation on standard output."""

import json
import logging
import sys

import boto3
import yaml
from samtranslator.parser.parser import Parser
from samtranslator.translator.managed_policy_translator import ManagedPolicyLoader
from samtranslator.translator.transform import transform


class NoPolicies(ManagedPolicyLoader):
    """Sluice's policies are its own; AWS is not asked for its managed ones."""

    def __init__(self) -> None:
        super().__init__(None)
        self._policy_map = {}


logging.disable(logging.CRITICAL)
Parser._session = boto3.Session(region_name="us-east-1")
template = yaml.safe_load(sys.stdin)
for resource in template["Resources"].values():
    if "CodeUri" in resource.get("Properties", {}):
        resource["Properties"]["CodeUri"] = "s3://bucket/key"  # where 'aws cloudformation package' puts the zip
json.dump(transform(template, {}, NoPolicies()), sys.stdout)
