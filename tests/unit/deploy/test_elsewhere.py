"""Sites whose web ACL and distribution another tool manages: setup prints what to add there, and leaves them alone."""

import json
import re
from typing import Any

import pytest

from sluice.deploy.doctor.deployment import drift
from sluice.deploy.doctor.inspection import Inspection
from sluice.deploy.resources.parameters import remembered
from sluice.deploy.snippets import cloudformation_of, identifier
from sluice.deploy.stage import Stage
from tests.support.deploy.account import NOW, THEIRS, Run, World


def rules_of(world: World) -> list[dict[str, Any]]:
    client = world.account.client("wafv2")
    (summary,) = client.list_web_acls(Scope="CLOUDFRONT")["WebACLs"]
    answer = client.get_web_acl(Name=summary["Name"], Scope="CLOUDFRONT", Id=summary["Id"])
    rules: list[dict[str, Any]] = answer["WebACL"]["Rules"]
    return rules


def apply_template(world: World, rules: list[dict[str, Any]]) -> None:
    """Writes the rules of the web ACL, as another tool does."""
    client = world.account.client("wafv2")
    (summary,) = client.list_web_acls(Scope="CLOUDFRONT")["WebACLs"]
    answer = client.get_web_acl(Name=summary["Name"], Scope="CLOUDFRONT", Id=summary["Id"])
    kept = {key: answer["WebACL"][key] for key in ("Name", "Id", "DefaultAction", "VisibilityConfig")}
    client.update_web_acl(**kept, Scope="CLOUDFRONT", LockToken=answer["LockToken"], Rules=rules)


def printed_rules(run: Run) -> list[dict[str, Any]]:
    done = run("setup", "--print", "cloudformation")
    assert done.exit_code == 0, done.output
    rules: list[dict[str, Any]] = json.loads(done.stdout)["AWS::WAFv2::WebACL"]["Rules"]
    for rule in rules:
        reference = rule["Statement"]["RuleGroupReferenceStatement"]
        reference["ARN"] = reference.pop("Arn")
    return rules


@pytest.fixture
def managed(world: World, run: Run) -> World:
    """An account in which setup has left the web ACL and the distribution alone."""
    world.web_acl(rules=[THEIRS])
    done = run("setup", "--yes", "--web-acl", "edge", "--distribution", world.distribution(), "--managed-elsewhere")
    assert done.exit_code == 0, done.output
    return world


def missing(run: Run) -> list[str]:
    """Returns the kinds of what setup leaves to the other tool, and what is not there."""
    steps = json.loads(run("setup", "--dry-run", "--json").stdout)["steps"]
    assert {step["action"] for step in steps} <= {"exists", "leave"}
    return [step["kind"] for step in steps if step["action"] == "leave"]


def test_setup_leaves_the_additions_to_the_other_tool(managed: World, run: Run) -> None:
    assert rules_of(managed) == [THEIRS]
    assert missing(run) == ["CloudFront distribution", "web ACL rule"]
    apply_template(managed, [*printed_rules(run), THEIRS])
    assert missing(run) == ["CloudFront distribution"]


def test_an_apply_that_has_taken_out_a_part_is_noticed(managed: World, run: Run) -> None:
    apply_template(managed, [*printed_rules(run), THEIRS])
    client = managed.account.client("cloudfront")
    (distribution,) = client.list_distributions()["DistributionList"]["Items"]
    answer = client.get_distribution_config(Id=distribution["Id"])
    config = answer["DistributionConfig"]
    config["CacheBehaviors"] = {"Quantity": 1, "Items": [{**config["DefaultCacheBehavior"], "PathPattern": "/api/*"}]}
    config_arn = managed.account.location.arn("cloudfront", "realtime-log-config/sluice-prod", region=False)
    config["DefaultCacheBehavior"]["RealtimeLogConfigArn"] = config_arn
    client.update_distribution(Id=distribution["Id"], IfMatch=answer["ETag"], DistributionConfig=config)
    steps = json.loads(run("setup", "--dry-run", "--json").stdout)["steps"]
    (left,) = [step for step in steps if step["action"] == "leave"]
    assert (left["kind"], left["detail"]) == ("CloudFront distribution", "1 cache behaviour to attach")


def test_doctor_finds_what_an_apply_has_taken_out(managed: World, run: Run) -> None:
    def found() -> list[tuple[str, str]]:
        choices = remembered(managed.account, "prod")
        assert choices is not None
        stage = Stage(name="prod", location=managed.account.location, choices=choices)
        findings = drift(Inspection(stage, managed.account, managed.project, NOW))
        return [(finding.what, finding.remedy) for finding in findings if "web ACL" in finding.what]

    apply_template(managed, [*printed_rules(run), THEIRS])
    assert found() == []
    apply_template(managed, [THEIRS])
    ((what, remedy),) = found()
    assert what.startswith("web ACL rule edge/sluice-prod: is missing, and another tool makes it")
    assert remedy.endswith("--print cloudformation, cdk or terraform-site")


def test_the_functions_can_be_deployed_before_the_other_tool_has_run(managed: World, run: Run) -> None:
    planned = run("deploy", "--dry-run")
    assert planned.exit_code == 0, planned.output


@pytest.mark.parametrize("command", [("detach", "--web-acl", "edge"), ("teardown",)])
def test_what_another_tool_has_made_is_left(managed: World, run: Run, command: tuple[str, ...]) -> None:
    apply_template(managed, [*printed_rules(run), THEIRS])
    planned = json.loads(run(*command, "--dry-run", "--json").stdout)
    actions = {step["kind"]: (step["action"], step["detail"]) for step in planned["steps"]}
    assert actions["web ACL rule"] == ("leave", "made by another tool: remove it there")


def test_a_teardown_that_aws_would_refuse_in_the_middle_is_refused_before_it_begins(managed: World, run: Run) -> None:
    def tables() -> list[str]:
        names: list[str] = managed.account.client("dynamodb").list_tables()["TableNames"]
        return names

    apply_template(managed, [*printed_rules(run), THEIRS])
    before, refused = tables(), run("teardown", "--yes")
    assert refused.exit_code == 1
    reason = "web ACL rule edge/sluice-prod refers to WAF rule group sluice-prod: AWS deletes nothing that is in use"
    assert reason in refused.stderr
    assert tables() == before != []
    apply_template(managed, [THEIRS])
    done = run("teardown", "--yes")
    assert done.exit_code == 0, done.output + done.stderr
    assert "Nothing of the stage is left in the account. " in done.output
    assert tables() == []


def test_setup_takes_the_additions_over_again(managed: World, run: Run) -> None:
    assert run("setup", "--yes", "--managed-here").exit_code == 0
    assert {rule["Name"] for rule in rules_of(managed)} == {"sluice-prod", "theirs"}
    assert missing(run) == []


def test_the_cdk_gets_the_same_as_cloudformation(managed: World, run: Run) -> None:
    printed = run("setup", "--source", "waf", "--print", "cdk").stdout
    document = json.loads(run("setup", "--source", "waf", "--print", "cloudformation").stdout)
    (rule,) = document["AWS::WAFv2::WebACL"]["Rules"]
    arn = rule["Statement"]["RuleGroupReferenceStatement"]["Arn"]
    assert f'"statement": {{"ruleGroupReferenceStatement": {{"arn": "{arn}"}}}}' in printed
    behaviour = document["AWS::CloudFront::Distribution"]["DistributionConfig"]["DefaultCacheBehavior"]
    assert f"RealtimeLogConfigArn', '{behaviour['RealtimeLogConfigArn']}')" in printed
    (group,) = document["AWS::WAFv2::LoggingConfiguration"]["LogDestinationConfigs"]
    assert group.endswith(":log-group:aws-waf-logs-sluice-prod")
    assert f'"LogDestinationConfigs": ["{group}"]' in printed
    assert printed.count("(") == printed.count(")")
    assert printed.count("{") == printed.count("}")


def test_terraform_gets_the_same_as_cloudformation(managed: World, run: Run) -> None:
    """The rule that Terraform's resource adds is written into moto as its provider does, and setup recognises it."""
    document = json.loads(run("setup", "--source", "waf", "--print", "cloudformation").stdout)
    printed = json.loads(run("setup", "--source", "waf", "--print", "terraform-site").stdout)
    ((name, association),) = printed["resource"]["aws_wafv2_web_acl_rule_group_association"].items()
    ((_, logging),) = printed["resource"]["aws_wafv2_web_acl_logging_configuration"].items()
    (rule,) = document["AWS::WAFv2::WebACL"]["Rules"]
    assert name == "sluice-prod-edge"
    assert association["web_acl_arn"] == logging["resource_arn"]
    assert association["web_acl_arn"].startswith("arn:aws:wafv2:us-east-1:123456789012:global/webacl/edge/")
    assert association["rule_group_reference"]["arn"] == rule["Statement"]["RuleGroupReferenceStatement"]["Arn"]
    assert association["visibility_config"]["cloudwatch_metrics_enabled"] is True
    of_cloudformation = document["AWS::WAFv2::LoggingConfiguration"]
    assert logging["log_destination_configs"] == of_cloudformation["LogDestinationConfigs"]
    assert len(logging["redacted_fields"]) == len(of_cloudformation["RedactedFields"])
    assert {"single_header": {"name": "cookie"}} in logging["redacted_fields"]
    behaviour = document["AWS::CloudFront::Distribution"]["DistributionConfig"]["DefaultCacheBehavior"]
    assert printed["output"] == {"sluice-prod-realtime-log-config": {"value": behaviour["RealtimeLogConfigArn"]}}
    visibility = association["visibility_config"]
    provided = {
        "Name": association["rule_name"],
        "Priority": association["priority"],
        "OverrideAction": {"None": {}},
        "Statement": {"RuleGroupReferenceStatement": {"ARN": association["rule_group_reference"]["arn"]}},
        "VisibilityConfig": {
            "SampledRequestsEnabled": visibility["sampled_requests_enabled"],
            "CloudWatchMetricsEnabled": visibility["cloudwatch_metrics_enabled"],
            "MetricName": visibility["metric_name"],
        },
    }
    apply_template(managed, [provided, THEIRS])
    assert missing(run) == ["CloudFront distribution"]


def apply_logs(world: World, printed: dict[str, Any]) -> None:
    """Makes what was printed for logs and buckets, as CloudFormation does: with ids of its own for notifications."""
    client = world.account.client
    for resource in printed.get("Resources", {}).values():
        properties = resource["Properties"]
        lowered = {name[0].lower() + name[1:]: value for name, value in properties.items()}
        if resource["Type"] == "AWS::Logs::DeliverySource":
            client("logs").put_delivery_source(**lowered)
        elif resource["Type"] == "AWS::Logs::Delivery":
            client("logs").create_delivery(**lowered)
        elif resource["Type"] == "AWS::Logs::SubscriptionFilter":
            client("logs").put_subscription_filter(**lowered)
        else:
            assert resource["Type"] == "AWS::Events::Rule"
            client("events").put_rule(
                Name=properties["Name"], EventPattern=json.dumps(properties["EventPattern"]), Tags=properties["Tags"]
            )
            client("events").put_targets(Rule=properties["Name"], Targets=properties["Targets"])
    for bucket, properties in printed.get("AWS::S3::Bucket", {}).items():
        queues = [
            {
                "Id": str(at),
                "QueueArn": queue["Queue"],
                "Events": [queue["Event"]],
                "Filter": {"Key": {"FilterRules": queue["Filter"]["S3Key"]["Rules"]}},
            }
            for at, queue in enumerate(properties["NotificationConfiguration"]["QueueConfigurations"])
        ]
        client("s3").put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"QueueConfigurations": queues}
        )


def send_to_event_bridge(world: World) -> None:
    world.account.client("s3").put_bucket_notification_configuration(
        Bucket="site-logs", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )


@pytest.mark.parametrize("events", ["s3", "eventbridge"])
def test_logs_and_buckets_get_what_was_printed_for_them(world: World, run: Run, events: str) -> None:
    client = world.account.client
    client("s3").create_bucket(Bucket="site-logs")
    client("logs").create_log_group(logGroupName="/site/access")
    id_ = world.distribution()
    logs = ("--source", "cloudfront-standard", "--distribution", id_, "--log-group", "/site/access")
    buckets = ("--bucket", "site-logs", "--prefix", "AWSLogs/", "--events", events)
    done = run("setup", "--yes", "--managed-elsewhere", *logs, *buckets)
    assert done.exit_code == 0, done.output
    notifier = "bucket notification" if events == "s3" else "EventBridge rule"
    assert missing(run) == ["CloudFront standard log delivery", "log subscription", notifier]
    printed = json.loads(run("setup", "--print", "cloudformation").stdout)
    terraform = json.loads(run("setup", "--print", "terraform-site").stdout)["resource"]
    cdk = run("setup", "--print", "cdk").stdout
    apply_logs(world, printed)
    if events == "eventbridge":  # what a note asks for
        assert missing(run) == ["EventBridge rule"]
        send_to_event_bridge(world)
    assert missing(run) == []
    (delivery,) = terraform["aws_cloudwatch_log_delivery"].values()
    ((source, made),) = terraform["aws_cloudwatch_log_delivery_source"].items()
    assert made["resource_arn"].endswith(id_)
    assert delivery["depends_on"] == [f"aws_cloudwatch_log_delivery_source.{source}"]
    assert delivery["delivery_source_name"] == made["name"]
    (subscription,) = terraform["aws_cloudwatch_log_subscription_filter"].values()
    assert (
        subscription.items() >= {"name": "sluice-prod", "log_group_name": "/site/access", "filter_pattern": ""}.items()
    )
    if events == "eventbridge":
        ((rule, _),) = terraform["aws_cloudwatch_event_rule"].items()
        (target,) = terraform["aws_cloudwatch_event_target"].values()
        assert target["rule"] == f"${{aws_cloudwatch_event_rule.{rule}.name}}"
    assert set(re.findall(r"type: '([\w:]+)'", cdk)) == {each["Type"] for each in printed["Resources"].values()}
    assert f"sluiceDelivery{identifier(id_)}.addDependency(sluiceSource{identifier(id_)});" in cdk


@pytest.mark.parametrize("events", ["s3", "eventbridge"])
def test_nothing_is_printed_that_replaces_the_notifications_of_others(world: World, run: Run, events: str) -> None:
    """A bucket has one list of notifications, and an apply of Terraform's resource replaces it as a whole."""
    world.account.client("s3").create_bucket(Bucket="logs.of-site")
    bucket = ("--bucket", "logs.of-site", "--prefix", "AWSLogs/", "--events", events)
    assert run("setup", "--yes", "--managed-elsewhere", *bucket).exit_code == 0
    terraform = json.loads(run("setup", "--print", "terraform-site").stdout)
    formation, cdk = json.loads(run("setup", "--print", "cloudformation").stdout), run("setup", "--print", "cdk").stdout
    assert "aws_s3_bucket_notification" not in terraform.get("resource", {})
    assert "NotificationConfiguration" not in cdk
    if events == "eventbridge":
        assert "AWS::S3::Bucket" not in formation
        assert "bucket logs.of-site: switch on its events to Amazon EventBridge" in formation["Notes"][0]
        assert terraform["//"] == "; ".join(formation["Notes"])
        assert "// for the bucket logs.of-site\nbucket.enableEventBridgeNotification();" in cdk
        return
    assert "add Sluice's to it, and keep those of others" in formation["Notes"][0]
    (queue,) = formation["AWS::S3::Bucket"]["logs.of-site"]["NotificationConfiguration"]["QueueConfigurations"]
    ((name, output),) = terraform["output"].items()
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name)
    assert output["value"] == [
        {
            "id": "sluice-prod/AWSLogs/",
            "queue_arn": queue["Queue"],
            "events": ["s3:ObjectCreated:*"],
            "filter_prefix": "AWSLogs/",
        }
    ]
    assert f"Queue.fromQueueArn(this, 'SluiceObjects', '{queue['Queue']}')" in cdk
    assert 'bucket.addEventNotification(EventType.OBJECT_CREATED, sluiceObjects, {"prefix": "AWSLogs/"});' in cdk


def test_a_delivery_uses_the_source_that_its_resource_has_already(world: World, run: Run) -> None:
    """AWS refuses a second one for the same log."""
    id_, logs = world.distribution(), world.account.client("logs")
    arn = f"arn:aws:cloudfront::123456789012:distribution/{id_}"
    logs.put_delivery_source(name="theirs", resourceArn=arn, logType="ACCESS_LOGS")
    delivered = ("--source", "cloudfront-standard", "--distribution", id_)
    assert run("setup", "--yes", "--managed-elsewhere", *delivered).exit_code == 0
    printed = json.loads(run("setup", "--print", "cloudformation").stdout)
    (delivery,) = printed["Resources"].values()
    assert (delivery["Type"], delivery["Properties"]["DeliverySourceName"]) == ("AWS::Logs::Delivery", "theirs")
    assert "DependsOn" not in delivery
    terraform = json.loads(run("setup", "--print", "terraform-site").stdout)["resource"]
    assert list(terraform) == ["aws_cloudwatch_log_delivery"]
    assert "DeliverySource'" not in run("setup", "--print", "cdk").stdout
    apply_logs(world, printed)
    assert missing(run) == []
    refused = run("teardown", "--yes").stderr
    assert (
        f"delivery {id_} refers to log delivery destination sluice-prod: AWS deletes nothing that is in use" in refused
    )


def test_deliveries_of_cloudfront_are_printed_for_the_region_that_has_them(world: World, run: Run) -> None:
    logs = ("--source", "cloudfront-standard", "--distribution", world.distribution(), "--web-acl", world.web_acl())
    assert run("setup", "--yes", *logs, "--managed-elsewhere").exit_code == 0
    printed = json.loads(run("setup", "--print", "terraform-site").stdout)["resource"]
    assert {each["region"] for named in printed.values() for each in named.values()} == {"us-east-1"}
    note = "deliveries, subscriptions and rules of EventBridge belong in us-east-1, wherever the site is"
    assert json.loads(run("setup", "--print", "cloudformation").stdout)["Notes"] == [note]
    assert f"// {note}\n" in run("setup", "--print", "cdk").stdout


def test_log_groups_whose_names_differ_in_signs_alone_are_told_apart(world: World, run: Run) -> None:
    groups = ("/site/access", "/site-access", "/site.access")
    for group in groups:
        world.account.client("logs").create_log_group(logGroupName=group)
    named = [argument for group in groups for argument in ("--log-group", group)]
    assert run("setup", "--yes", "--managed-elsewhere", *named).exit_code == 0
    apply_logs(world, json.loads(run("setup", "--print", "cloudformation").stdout))
    assert missing(run) == []
    terraform = json.loads(run("setup", "--print", "terraform-site").stdout)["resource"]
    assert len(terraform["aws_cloudwatch_log_subscription_filter"]) == 3
    removed = run("teardown", "--yes")
    assert removed.exit_code == 0, removed.output + removed.stderr
    assert "Nothing of the stage is left in the account but what another tool has made." in removed.output


def test_notifications_of_one_bucket_are_told_apart_by_their_prefixes(world: World, run: Run) -> None:
    world.account.client("s3").create_bucket(Bucket="site-logs")
    for prefix in ("AWSLogs/", "cdn/"):
        assert run("setup", "--yes", "--managed-elsewhere", "--bucket", "site-logs", "--prefix", prefix).exit_code == 0
    apply_logs(world, json.loads(run("setup", "--print", "cloudformation").stdout))
    assert missing(run) == []


@pytest.mark.parametrize("stack", ["", "sluice-prod"])
def test_a_web_acl_whose_log_a_stack_configures_gets_no_second_configuration(world: World, stack: str) -> None:
    """A web ACL has one, and two of CloudFormation's resources would remove each other's."""
    stage = world.stage(stack=stack, sources=("waf",), web_acls=(world.web_acl(),))
    printed = cloudformation_of(stage, "arn:aws:wafv2:us-east-1:1:global/rulegroup/sluice-prod/a1", {})
    assert ("AWS::WAFv2::LoggingConfiguration" in printed) is not bool(stack)


def test_without_a_rule_group_nothing_can_be_printed(run: Run) -> None:
    done = run("setup", "--print", "cdk")
    assert done.exit_code == 1
    assert "rule group sluice-prod does not exist: run sluice setup --stage prod" in done.stderr


def test_terraforms_resources_need_a_web_acl(run: Run) -> None:
    assert run("setup", "--yes").exit_code == 0
    done = run("setup", "--print", "terraform-site")
    assert done.exit_code == 1
    assert "the resources name the web ACL. Add --web-acl NAME" in done.stderr
