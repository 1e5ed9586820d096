"""The contents of an account, which tests compare before setup and after teardown."""

from typing import Any

from tests.support.deploy.account import LOCATION, World


def contents(world: World) -> dict[str, Any]:
    """Returns everything of the kinds that Sluice creates or changes, by kind, without kinds of which there is none."""
    client, account, scope = world.account.client, LOCATION.account, "CLOUDFRONT"
    waf, logs, s3, cloudfront = (client(name) for name in ("wafv2", "logs", "s3", "cloudfront"))
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    web_acls = waf.list_web_acls(Scope=scope)["WebACLs"]
    distributions = cloudfront.list_distributions()["DistributionList"].get("Items", [])
    buckets = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    held: dict[str, Any] = {
        "functions": client("lambda").list_functions()["Functions"],
        "event sources": client("lambda").list_event_source_mappings()["EventSourceMappings"],
        "apis": client("apigateway").get_rest_apis()["items"],
        "schedules": client("events").list_rules()["Rules"],
        "queues": client("sqs").list_queues().get("QueueUrls", []),
        "topics": client("sns").list_topics()["Topics"],
        "addresses": client("sns").list_subscriptions()["Subscriptions"],
        "alarms": client("cloudwatch").describe_alarms()["MetricAlarms"],
        "dashboards": client("cloudwatch").list_dashboards()["DashboardEntries"],
        "budgets": client("budgets").describe_budgets(AccountId=account).get("Budgets", []),
        "roles": client("iam").list_roles()["Roles"],
        "log groups": groups,
        "filters": [
            each
            for group in groups
            for each in logs.describe_subscription_filters(logGroupName=group)["subscriptionFilters"]
        ],
        "deliveries": logs.describe_deliveries()["deliveries"],
        "delivery sources": logs.describe_delivery_sources()["deliverySources"],
        "delivery destinations": logs.describe_delivery_destinations()["deliveryDestinations"],
        "streams": client("kinesis").list_streams()["StreamNames"],
        "tables": client("dynamodb").list_tables()["TableNames"],
        "parameters": client("ssm").describe_parameters()["Parameters"],
        "ip sets": waf.list_ip_sets(Scope=scope)["IPSets"],
        "rule groups": waf.list_rule_groups(Scope=scope)["RuleGroups"],
        "web acls": [
            (acl["Name"], waf.get_web_acl(Name=acl["Name"], Scope=scope, Id=acl["Id"])["WebACL"]["Rules"])
            for acl in web_acls
        ],
        "logging": waf.list_logging_configurations(Scope=scope)["LoggingConfigurations"],
        "log configurations": list(world.front.log_configs),
        "distributions": [
            (each["Id"], each["DefaultCacheBehavior"].get("RealtimeLogConfigArn") or "") for each in distributions
        ],
        "buckets": buckets,
        "notifications": [
            each
            for bucket in buckets
            for each in s3.get_bucket_notification_configuration(Bucket=bucket).get("QueueConfigurations", [])
        ],
        "files": sorted(path.name for path in (world.project.chalice / "deployed").glob("*")),
        "stages of the checkout": sorted(world.project.config()["stages"]),
    }
    return {kind: items for kind, items in held.items() if items}
