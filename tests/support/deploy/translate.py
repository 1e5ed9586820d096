"""Translates the SAM template on standard input to CloudFormation. Run by the lint environment's interpreter.

An argument is the time of the translation, in epoch seconds.
"""

import json
import logging
import sys
import time

import boto3
import yaml  # type: ignore[import-untyped]
from samtranslator.parser.parser import Parser  # type: ignore[import-not-found]
from samtranslator.translator.managed_policy_translator import ManagedPolicyLoader  # type: ignore[import-not-found]
from samtranslator.translator.transform import transform  # type: ignore[import-not-found]


class NoPolicies(ManagedPolicyLoader):  # type: ignore[misc]
    """Loads no managed policies from AWS, because Sluice uses only its own."""

    def __init__(self) -> None:
        super().__init__(None)
        self._policy_map: dict[str, str] = {}


logging.disable(logging.CRITICAL)
Parser._session = boto3.Session(region_name="us-east-1")
template = yaml.safe_load(sys.stdin)
for resource in template["Resources"].values():
    if isinstance(resource.get("Properties", {}).get("CodeUri"), str):
        resource["Properties"]["CodeUri"] = "s3://bucket/key"  # as 'aws cloudformation package' would
if sys.argv[1:]:
    time.time = lambda: float(sys.argv[1])
json.dump(transform(template, {}, NoPolicies()), sys.stdout)
