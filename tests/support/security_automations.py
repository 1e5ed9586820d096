"""A stack of "Security Automations for AWS WAF", made up in the shape of real ones, and a model of its log parser."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.support.replay_logs import Hit

NAME = "waf-prod"
NOW = 1_790_000_000
BUCKETS = {"WafLogBucket": f"{NAME}-waflogbucket-1abc", "AppAccessLogBucket": "site-access-logs"}

PARAMETERS = {
    "EndpointType": "CloudFront",
    "ActivateAWSManagedIPRParam": "yes",
    "ActivateAWSManagedAIPParam": "no",
    "ActivateAWSManagedRulesParam": "yes",
    "ActivateAWSManagedAPParam": "no",
    "ActivateAWSManagedKBIParam": "yes",
    "ActivateAWSManagedSQLParam": "no",
    "ActivateAWSManagedLinuxParam": "no",
    "ActivateAWSManagedPOSIXParam": "no",
    "ActivateAWSManagedWindowsParam": "no",
    "ActivateAWSManagedPHPParam": "no",
    "ActivateAWSManagedWPParam": "no",
    "ActivateScannersProbesProtectionParam": "yes - AWS Lambda log parser",
    "AppAccessLogBucket": BUCKETS["AppAccessLogBucket"],
    "AppAccessLogBucketPrefixParam": "cf/",
    "AppAccessLogBucketLoggingStatusParam": "no",
    "ErrorThreshold": "50",
    "KeepDataInOriginalS3Location": "No",
    "ActivateHttpFloodProtectionParam": "yes - AWS Lambda log parser",
    "RequestThreshold": "100",
    "RequestThresholdByCountryParam": "",
    "HTTPFloodAthenaQueryGroupByParam": "None",
    "WAFBlockPeriod": "240",
    "AthenaQueryRunTimeScheduleParam": "5",
    "ActivateBadBotProtectionParam": "yes",
    "ApiGatewayBadBotCWRoleParam": "",
    "ActivateReputationListsProtectionParam": "yes",
    "ActivateSqlInjectionProtectionParam": "yes",
    "SqlInjectionProtectionSensitivityLevelParam": "LOW",
    "ActivateCrossSiteScriptingProtectionParam": "no",
    "IPRetentionPeriodAllowedParam": "-1",
    "IPRetentionPeriodDeniedParam": "60",
    "SNSEmailParam": "ops@example.com",
    "LogGroupRetentionParam": "365",
}
"""Parameters of a stack of version 4.0."""

WAF_LOG_CONF = {
    "general": {"requestThreshold": 100, "blockPeriod": 240, "ignoredSufixes": [".css", ".js"]},
    "uriList": {"/login": {"requestThreshold": 10, "blockPeriod": 60}},
}
APP_LOG_CONF = {
    "general": {"errorThreshold": 50, "blockPeriod": 120, "errorCodes": ["400", "401", "403", "404", "405"]},
    "uriList": {"/wp-login.php": {"errorThreshold": 5, "blockPeriod": 240}},
}
ALLOWED, DENIED = ["198.51.100.0/24"], ["203.0.113.7/32", "203.0.113.8/32"]


def ip_sets() -> dict[str, list[str]]:
    return {
        f"{NAME}WhitelistSetIPV4": ALLOWED,
        f"{NAME}WhitelistSetIPV6": ["2001:db8:1::/48"],
        f"{NAME}BlacklistSetIPV4": DENIED,
        f"{NAME}BlacklistSetIPV6": [],
        f"{NAME}HTTPFloodSetIPV4": ["192.0.2.1/32"],
        f"{NAME}ScannersProbesSetIPV4": ["192.0.2.2/32"],
        f"{NAME}IPReputationListsSetIPV4": ["192.0.2.0/28"],
        f"{NAME}IPBadBotSetIPV4": ["192.0.2.3/32"],
    }


def stack(parameters: Mapping[str, str] = PARAMETERS, **outputs: str) -> dict[str, Any]:
    """Returns the output of ``aws cloudformation describe-stacks``."""
    named = {
        **BUCKETS,
        "BadBotHoneypotEndpoint": "https://a1b2c3.execute-api.us-east-1.amazonaws.com/ProdStage",
        "WAFWebACL": NAME,
        "SolutionVersion": "v4.0.4",
        **outputs,
    }
    return {
        "Stacks": [
            {
                "StackName": NAME,
                "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in named.items()],
            }
        ]
    }


def documents(parameters: Mapping[str, str] = PARAMETERS) -> dict[str, Any]:
    """Returns the documents of a stack by the names of the files into which an operator exports them."""
    sets = {
        f"ip-set-{number}.json": {"IPSet": {"Name": name, "Addresses": addresses}, "LockToken": "t"}
        for number, (name, addresses) in enumerate(ip_sets().items())
    }
    return {
        "stack.json": stack(parameters),
        f"{NAME}-waf_log_conf.json": WAF_LOG_CONF,
        f"{NAME}-app_log_conf.json": APP_LOG_CONF,
        "ends.json": {"Items": [retention(f"{NAME}BlacklistSetIPV4", DENIED[:1], NOW + 1800)]},
        **sets,
    }


def retention(ip_set: str, addresses: Iterable[str], expires_at: int) -> dict[str, Any]:
    """Returns an item of the stack's table, as ``aws dynamodb scan`` prints it."""
    return {
        "IPSetId": {"S": "1"},
        "IPSetName": {"S": ip_set},
        "IPAdressList": {"L": [{"S": address} for address in addresses]},
        "ExpirationTime": {"N": str(expires_at)},
    }


def blocked_by_parser(conf: Mapping[str, Any], objects: Sequence[Sequence[Hit]], threshold: str) -> set[str]:
    """Returns the addresses that the log parser blocks for the requests in ``objects``.

    Each object is counted by itself, per minute of the clock and address; a count that reaches a threshold blocks.
    """
    blocked: set[str] = set()
    general, uris = conf["general"], conf.get("uriList", {})
    for hits in objects:
        everything: Counter[tuple[int, str]] = Counter()
        by_uri: Counter[tuple[str, int, str]] = Counter()
        for hit in hits:
            if hit.path.endswith(tuple(general.get("ignoredSufixes", ()))):
                continue
            if "errorCodes" in general and hit.status not in general["errorCodes"]:
                continue
            everything[hit.ms // 60_000, hit.client] += 1
            if hit.path in uris:
                by_uri[hit.path, hit.ms // 60_000, hit.client] += 1
        blocked |= {client for (_, client), count in everything.items() if count >= general[threshold]}
        blocked |= {client for (uri, _, client), count in by_uri.items() if count >= uris[uri][threshold]}
    return blocked


def dumped(documents: Mapping[str, Any]) -> dict[str, str]:
    return {name: json.dumps(document) for name, document in documents.items()}
