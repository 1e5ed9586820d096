"""Setup and teardown of a stage, in moto."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from chalicelib.bootstrap import entries_that_fit
from chalicelib.config import read_config
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.core.tokens import check, load_tokens
from chalicelib.edges.state_table import StateTable
from sluice.deploy.account import connect
from sluice.deploy.apply import apply
from sluice.deploy.plan import Step, StepAction
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.logs import REDACTED
from sluice.deploy.resources.streams import DeliveryRole
from sluice.deploy.sizing import entries
from sluice.deploy.stage import Choices, DeliveredLog, Refusal, Stage
from tests.support.deploy.account import NOW, RULES, World, owners_rule
from tests.support.deploy.front import Front


def actions(steps: Sequence[Step]) -> set[StepAction]:
    return {step.action for step in steps}


@pytest.fixture
def full(world: World) -> Stage:
    """A stage with every kind of resource, for both log sources."""
    return world.stage(
        sources=("cloudfront", "waf"), web_acls=(world.web_acl(),), distributions=(world.distribution(),), ip_sets=2
    )


def test_a_second_setup_has_nothing_to_do(world: World, full: Stage) -> None:
    first = world.set_up(full)
    assert actions(first) == {StepAction.CREATE}
    assert [step.row() for step in world.plan(full) if step.action is not StepAction.KEEP] == []
    assert len(world.tokens) == 1


def test_a_plan_changes_nothing(world: World, full: Stage) -> None:
    world.plan(full)
    writes = [
        call for call in world.front.calls if call.split(":")[1].startswith(("Create", "Put", "Update", "Delete"))
    ]
    assert sorted(set(writes)) == ["cloudfront:CreateDistribution", "wafv2:CreateWebACL"]  # made by the fixture


def test_the_tables_fit_the_state_protocol(world: World) -> None:
    stage = world.stage()
    world.set_up(stage)
    client = world.account.client("dynamodb")
    tally, state = (client.describe_table(TableName=name)["Table"] for name in (stage.tally_table, stage.state_table))
    assert [(key["AttributeName"], key["KeyType"]) for key in tally["KeySchema"]] == [
        ("log", "HASH"),
        ("offset", "RANGE"),
    ]
    assert [(key["AttributeName"], key["KeyType"]) for key in state["KeySchema"]] == [("kind", "HASH"), ("id", "RANGE")]
    assert state["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert tally["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    for table in (tally, state):
        assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        ttl = client.describe_time_to_live(TableName=table["TableName"])["TimeToLiveDescription"]
        assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
    backups = client.describe_continuous_backups(TableName=stage.state_table)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_the_rule_group_answers_429_to_both_families(world: World) -> None:
    stage = world.stage(ip_sets=2)
    world.set_up(stage)
    waf = world.account.client("wafv2")
    summary = waf.list_rule_groups(Scope="CLOUDFRONT")["RuleGroups"][0]
    group = waf.get_rule_group(Name=summary["Name"], Scope="CLOUDFRONT", Id=summary["Id"])["RuleGroup"]
    sets = {s["ARN"]: s["Name"] for s in waf.list_ip_sets(Scope="CLOUDFRONT")["IPSets"]}
    referenced = []
    for rule in group["Rules"]:
        answer = rule["Action"]["Block"]["CustomResponse"]
        assert answer == {"ResponseCode": 429, "ResponseHeaders": [{"Name": "Retry-After", "Value": "60"}]}
        statements = rule["Statement"]["OrStatement"]["Statements"]
        referenced += [sets[statement["IPSetReferenceStatement"]["ARN"]] for statement in statements]
    assert referenced == ["sluice-prod-v4-1", "sluice-prod-v4-2", "sluice-prod-v6-1", "sluice-prod-v6-2"]


def test_the_first_rules_are_stored_and_later_ones_are_kept(world: World) -> None:
    stage = world.stage()
    world.set_up(stage)
    store = StateTable(world.account.client("dynamodb"), stage.state_table)
    item = store.get(StoredRules.kind, ACTIVE)
    assert item is not None
    assert parse_rules(StoredRules.from_json(item.body).text) == parse_rules(RULES)
    edited = StoredRules(text="", by="operator").to_json()
    store.put_over([type(item)(kind=item.kind, id=item.id, body=edited, version=item.version)])
    world.set_up(stage)
    kept = store.get(StoredRules.kind, ACTIVE)
    assert kept is not None
    assert kept.body == edited


def test_the_first_token_opens_the_admin_api(world: World) -> None:
    stage = world.stage()
    world.set_up(stage)
    stored = world.account.client("ssm").get_parameter(Name=stage.tokens_parameter, WithDecryption=True)["Parameter"]
    assert stored["Type"] == "SecureString"
    tokens = load_tokens(stored["Value"])
    assert check(world.tokens[0], tokens, NOW + 90 * 86400 - 1) is not None
    assert check(world.tokens[0], tokens, NOW + 90 * 86400) is None
    assert world.tokens[0] not in stored["Value"]


def test_the_settings_name_the_created_resources(world: World) -> None:
    stage = world.stage(settings={"BREAKER_SHARE": "0.5"})
    world.set_up(stage)
    written = world.project.stage("prod")
    assert written is not None
    config = read_config(written["environment_variables"])
    waf, dynamodb = world.account.client("wafv2"), world.account.client("dynamodb")
    sets = {s["Name"]: s["Id"] for s in waf.list_ip_sets(Scope="CLOUDFRONT")["IPSets"]}
    assert {ip_set.name: ip_set.id for ip_set in config.ip_sets} == sets
    assert config.state_stream_arn == dynamodb.describe_table(TableName=stage.state_table)["Table"]["LatestStreamArn"]
    assert config.tally_stream_arn == dynamodb.describe_table(TableName=stage.tally_table)["Table"]["LatestStreamArn"]
    assert config.breaker_share == 0.5
    assert list(world.project.config()["stages"]) == ["dev", "prod"]


def test_a_web_acl_keeps_its_other_rules_and_settings(world: World) -> None:
    theirs = owners_rule("theirs", 0)
    arn = world.web_acl(rules=[theirs])
    waf = world.account.client("wafv2")

    def acl() -> dict[str, Any]:
        web_acl = waf.get_web_acl(Name="edge", Scope="CLOUDFRONT", Id=arn.rpartition("/")[2])["WebACL"]
        return {key: value for key, value in web_acl.items() if key != "Capacity"}

    before = acl()
    stage = world.stage(web_acls=(arn,))
    world.set_up(stage)
    during = acl()
    assert [rule["Name"] for rule in during["Rules"]] == ["theirs", "sluice-prod"]
    assert during["Rules"][0] == theirs
    assert {**during, "Rules": []} == {**before, "Rules": []}
    world.tear_down(stage)
    assert acl() == before


def test_a_distribution_keeps_its_other_settings(world: World) -> None:
    id_ = world.distribution()
    cloudfront = world.account.client("cloudfront")

    def config() -> dict[str, Any]:
        config: dict[str, Any] = cloudfront.get_distribution_config(Id=id_)["DistributionConfig"]
        return config

    before = config()
    stage = world.stage(distributions=(id_,))
    world.set_up(stage)
    during = config()
    assert during["DefaultCacheBehavior"].pop("RealtimeLogConfigArn").endswith(":realtime-log-config/sluice-prod")
    before["DefaultCacheBehavior"].pop("RealtimeLogConfigArn", None)
    assert during == before
    world.tear_down(stage)
    after = config()
    assert not after["DefaultCacheBehavior"].pop("RealtimeLogConfigArn", "")
    assert after == before


def test_changed_choices_change_resources_in_place(world: World) -> None:
    world.set_up(world.stage())
    other = world.stage(shards=2, sample_rate=10, ip_sets=2)
    steps = world.set_up(other)
    changed = {step.resource.kind for step in steps if step.action is StepAction.CHANGE}
    assert changed == {
        "Kinesis stream",
        "CloudFront real-time log configuration",
        "Chalice stage",
        "WAF rule group",
        "SSM parameter",
    }
    assert actions(world.plan(other)) == {StepAction.KEEP}
    assert world.account.client("kinesis").describe_stream_summary(StreamName=other.log_stream)[
        "StreamDescriptionSummary"
    ]["StreamModeDetails"] == {"StreamMode": "PROVISIONED"}


def test_setup_gives_the_tally_table_of_an_earlier_version_its_stream(world: World) -> None:
    stage = world.stage()
    world.set_up(stage)
    client = world.account.client("dynamodb")
    world.replace_tally_table(stage)
    kept = {"log": {"S": "logs/shard@0"}, "offset": {"N": "0"}}
    client.put_item(TableName=stage.tally_table, Item=kept)
    changes = {step.resource.name: step.detail for step in world.plan(stage) if step.effective}
    assert changes.keys() == {stage.tally_table, "prod"}
    assert "stream of keys" in changes[stage.tally_table]
    world.set_up(stage)
    table = client.describe_table(TableName=stage.tally_table)["Table"]
    assert table["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    written = world.project.stage("prod")
    assert written is not None
    assert written["environment_variables"]["TALLY_STREAM_ARN"] == table["LatestStreamArn"]
    assert client.scan(TableName=stage.tally_table)["Items"] == [kept]
    streams = [
        statement["Resource"]
        for statement in world.project.policies("prod")["evaluate"]["Statement"]
        if "dynamodb:GetRecords" in statement["Action"]
    ]
    assert streams == [table["LatestStreamArn"]]
    assert actions(world.plan(stage)) == {StepAction.KEEP}


def test_a_stream_that_is_right_is_not_switched_off(world: World) -> None:
    stage = world.stage()
    world.set_up(stage)
    client = world.account.client("dynamodb")
    client.update_time_to_live(
        TableName=stage.tally_table, TimeToLiveSpecification={"Enabled": False, "AttributeName": "expires_at"}
    )
    before = client.describe_table(TableName=stage.tally_table)["Table"]["LatestStreamArn"]
    made = len(world.front.calls)
    world.set_up(stage)
    assert client.describe_table(TableName=stage.tally_table)["Table"]["LatestStreamArn"] == before
    assert "dynamodb:UpdateTable" not in world.front.calls[made:]


@pytest.mark.parametrize(
    ("requests_per_second", "sample_rate", "lateness_s", "memory"),
    [
        (None, 100, 120, 1769),
        (1_000, 100, 120, 1769),
        (150_000, 100, 120, 1769),
        (200_000, 100, 120, 2185),
        (200_000, 10, 120, 1769),
        (50_000, 100, 3600, 8_438),
        (1_156_220, 100, 120, 10_240),
    ],
)
def test_the_evaluator_gets_memory_for_the_rate_and_the_lateness(
    world: World, requests_per_second: float | None, sample_rate: int, lateness_s: int, memory: int
) -> None:
    settings = {"LATENESS_S": str(lateness_s)}
    stage = world.stage(requests_per_second=requests_per_second, sample_rate=sample_rate, settings=settings)
    assert any(f"evaluate with {memory:,} MB" in step.detail for step in world.set_up(stage))
    written = world.project.stage("prod")
    assert written is not None
    assert written["lambda_functions"]["evaluate"]["lambda_memory_size"] == memory
    assert entries_that_fit(memory) >= int(entries(stage.choices.logged_per_second, lateness_s))


@pytest.mark.parametrize(("shards", "reserved"), [(0, None), (20, None), (21, 21)])
def test_every_shard_has_a_container_of_ingest(world: World, shards: int, reserved: int | None) -> None:
    world.set_up(world.stage(shards=shards))
    written = world.project.stage("prod")
    assert written is not None
    assert written["lambda_functions"]["ingest"].get("reserved_concurrency") == reserved


def test_a_rate_stored_by_an_earlier_version_for_complete_logs_is_dropped() -> None:
    stored = '{"scope":"REGIONAL","sources":["waf"],"sample_rate":10,"requests_per_second":1000}'
    assert (Choices.from_json(stored).sample_rate, Choices.from_json(stored).logged_per_second) == (100, 1000)
    with pytest.raises(Refusal, match="10 % without CloudFront logs"):
        Choices(scope="REGIONAL", sources=("waf",), sample_rate=10)


@pytest.mark.parametrize(("sources", "logged"), [(("cloudfront",), 100), (("cloudfront", "waf"), 1000)])
def test_a_stage_is_sized_for_its_fullest_log(sources: tuple[DeliveredLog, ...], logged: float) -> None:
    assert Choices(sources=sources, sample_rate=10, requests_per_second=1000).logged_per_second == logged


@pytest.mark.parametrize(("sample_rate", "most"), [(100, 1_156_220), (10, 11_562_200)])
def test_a_rate_without_enough_memory_is_refused(world: World, sample_rate: int, most: int) -> None:
    world.stage(requests_per_second=most, sample_rate=sample_rate)
    for rate in (most + 10, float("nan")):
        with pytest.raises(Refusal, match=f"requests per second: {rate:,} is not between 0.001 and {most:,}"):
            world.stage(requests_per_second=rate, sample_rate=sample_rate)
    world.stage(requests_per_second=most / 18, sample_rate=sample_rate, settings={"LATENESS_S": "3400"})
    with pytest.raises(Refusal, match="a lateness of 3600 s"):
        world.stage(requests_per_second=most / 18, sample_rate=sample_rate, settings={"LATENESS_S": "3600"})


def test_an_invalid_lateness_is_refused(world: World) -> None:
    with pytest.raises(Refusal, match=r"setting LATENESS_S='2h': expected seconds, a whole number from 10 to 93600"):
        world.stage(settings={"LATENESS_S": "2h"})


def test_resources_of_other_owners_are_neither_changed_nor_removed(world: World) -> None:
    stage = world.stage()
    client = world.account.client("dynamodb")
    client.create_table(
        TableName=stage.state_table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "x", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "x", "KeyType": "HASH"}],
    )
    before = client.describe_table(TableName=stage.state_table)["Table"]
    refused = [step for step in world.plan(stage) if step.action is StepAction.REFUSE]
    assert [step.resource.name for step in refused] == [stage.state_table]
    left = [step for step in world.plan_teardown(stage) if step.action is StepAction.LEAVE]
    assert [step.resource.name for step in left] == [stage.state_table]
    world.tear_down(stage)
    assert client.describe_table(TableName=stage.state_table)["Table"] == before


def everything(world: World) -> dict[str, Sequence[object]]:
    """Returns what the account holds, by kind, without what the tests themselves create."""
    account = world.account
    return {
        "streams": account.client("kinesis").list_streams()["StreamNames"],
        "tables": account.client("dynamodb").list_tables()["TableNames"],
        "ip sets": account.client("wafv2").list_ip_sets(Scope="CLOUDFRONT")["IPSets"],
        "rule groups": account.client("wafv2").list_rule_groups(Scope="CLOUDFRONT")["RuleGroups"],
        "logging": account.client("wafv2").list_logging_configurations(Scope="CLOUDFRONT")["LoggingConfigurations"],
        "roles": account.client("iam").list_roles()["Roles"],
        "parameters": account.client("ssm").describe_parameters()["Parameters"],
        "log groups": account.client("logs").describe_log_groups()["logGroups"],
        "log configurations": list(world.front.log_configs),
    }


def test_teardown_leaves_an_empty_account(world: World, full: Stage) -> None:
    files = sorted(path.name for path in world.project.chalice.iterdir())
    config = world.project.config()
    world.set_up(full)
    world.tear_down(full)
    assert {kind: items for kind, items in everything(world).items() if items} == {}
    assert sorted(path.name for path in world.project.chalice.iterdir()) == files
    assert world.project.config() == config


def test_teardown_unblocks_all_clients_before_anything_else(world: World, full: Stage) -> None:
    world.set_up(full)
    waf = world.account.client("wafv2")
    for ip_set in waf.list_ip_sets(Scope="CLOUDFRONT")["IPSets"]:
        network = "192.0.2.0/24" if "-v4-" in ip_set["Name"] else "2001:db8::/64"
        identity = {"Name": ip_set["Name"], "Scope": "CLOUDFRONT", "Id": ip_set["Id"]}
        waf.update_ip_set(**identity, Addresses=[network], LockToken=ip_set["LockToken"])
    steps = world.plan_teardown(full)
    world.front.calls.clear()
    apply(steps, world.account, lambda step: None)
    removing = next(index for index, call in enumerate(world.front.calls) if call.split(":")[1].startswith("Delete"))
    assert world.front.calls[:removing].count("wafv2:UpdateIPSet") == 4


def test_a_cloudfront_stage_outside_us_east_1_is_refused(world: World) -> None:
    location = replace(world.account.location, region="eu-west-1")
    with pytest.raises(Refusal, match="in us-east-1 alone"):
        replace(world.stage(), location=location)


def test_a_web_acl_that_does_not_exist_is_refused_with_the_command_that_lists_those_that_do(world: World) -> None:
    gone = "arn:aws:wafv2:us-east-1:123456789012:global/webacl/gone/1"
    with pytest.raises(Refusal, match=r"webacl/gone/1 does not exist; .* --scope CLOUDFRONT --region us-east-1' lists"):
        world.plan(world.stage(web_acls=(gone,)))


def test_a_web_acl_without_room_for_a_reference_is_refused(world: World) -> None:
    references = [
        {
            "Name": f"r{number}",
            "Priority": number,
            "Statement": {
                "NotStatement": {
                    "Statement": {
                        "IPSetReferenceStatement": {"ARN": f"arn:aws:wafv2:us-east-1:1:global/ipset/x{number}/id"}
                    }
                }
            },
            "Action": {"Count": {}},
            "VisibilityConfig": {
                "SampledRequestsEnabled": False,
                "CloudWatchMetricsEnabled": False,
                "MetricName": "r",
            },
        }
        for number in range(50)
    ]
    full = world.stage(web_acls=(world.web_acl(rules=references),))
    with pytest.raises(Refusal, match="50 of 50 reference statements"):
        world.plan(full)
    roomy = world.stage(web_acls=(world.web_acl(name="other", rules=references[1:]),))
    assert StepAction.REFUSE not in actions(world.plan(roomy))


@pytest.mark.parametrize(("used", "fits"), [(4950, True), (4951, False)])
def test_a_web_acl_without_capacity_is_refused(world: World, used: int, fits: bool) -> None:
    stage = world.stage(web_acls=(world.web_acl(),))
    world.front.web_acl_capacity = used
    if fits:
        assert StepAction.REFUSE not in actions(world.plan(stage))
    else:
        with pytest.raises(Refusal, match="4951 of 5000 WCU, and the rule group needs 50"):
            world.plan(stage)


def test_real_time_logs_of_a_distribution_on_a_flat_rate_plan_are_refused(world: World) -> None:
    distribution = world.distribution()
    arn = f"arn:aws:cloudfront::123456789012:distribution/{distribution}"
    world.front.plans = [{"planFamily": "CLOUDFRONT", "planTier": "PRO", "resourceArns": ["arn:other", arn]}]
    with pytest.raises(Refusal, match=r"flat-rate plan CLOUDFRONT PRO, which has no real-time logs\. Use --source"):
        world.plan(world.stage(distributions=(distribution,)))


def test_a_web_acl_that_logs_elsewhere_is_refused(world: World) -> None:
    acl = world.web_acl()
    world.account.client("wafv2").put_logging_configuration(
        LoggingConfiguration={"ResourceArn": acl, "LogDestinationConfigs": ["arn:aws:s3:::aws-waf-logs-theirs"]}
    )
    with pytest.raises(Refusal, match=r"logs to arn:aws:s3:::aws-waf-logs-theirs already.* an S3 bucket with --bucket"):
        world.plan(world.stage(sources=("waf",), web_acls=(acl,)))


def test_a_cache_behaviour_that_logs_elsewhere_is_refused(world: World) -> None:
    id_ = world.distribution()
    client = world.account.client("cloudfront")
    answer = client.get_distribution_config(Id=id_)
    config = answer["DistributionConfig"]
    config["DefaultCacheBehavior"]["RealtimeLogConfigArn"] = "arn:aws:cloudfront::1:realtime-log-config/theirs"
    client.update_distribution(Id=id_, IfMatch=answer["ETag"], DistributionConfig=config)
    with pytest.raises(Refusal, match="realtime-log-config/theirs"):
        world.plan(world.stage(distributions=(id_,)))


def test_invalid_settings_are_refused(world: World) -> None:
    stage = world.stage(settings={"TRUSTED_PROXIES": "192.0.2.0/33"})
    with pytest.raises(Refusal, match="TRUSTED_PROXIES="):
        world.set_up(stage)


def test_descriptions_match_the_pattern_of_waf(world: World) -> None:
    """Moto accepts any; AWS WAF rejects apostrophes, for example."""
    world.set_up(world.stage())
    waf = world.account.client("wafv2")
    pattern = waf.meta.service_model.shape_for("EntityDescription").metadata["pattern"]
    listed = [*waf.list_ip_sets(Scope="CLOUDFRONT")["IPSets"], *waf.list_rule_groups(Scope="CLOUDFRONT")["RuleGroups"]]
    assert len(listed) == 3
    for item in listed:
        assert re.fullmatch(pattern, item["Description"]), item["Description"]


def test_busy_calls_are_retried_for_a_limited_time(world: World) -> None:
    waits: list[float] = []
    account = replace(world.account, sleep=waits.append)

    def busy() -> None:
        raise ClientError({"Error": {"Code": "Busy"}}, "UpdateIPSet")

    with pytest.raises(ClientError):
        account.retry(busy, ["Busy"], for_s=60)
    assert sum(waits) == 60
    with pytest.raises(ClientError):
        account.retry(busy, ["SomethingElse"])
    assert sum(waits) == 60


def test_a_regional_stage_lives_in_its_region(project: Project) -> None:
    with mock_aws(), Front().installed() as front:
        world = World(front, connect(region="eu-west-1", profile=None), project)
        web_acl = world.web_acl(scope="REGIONAL")
        stage = world.stage(scope="REGIONAL", sources=("waf",), web_acls=(web_acl,))
        assert actions(world.set_up(stage)) == {StepAction.CREATE}
        assert actions(world.plan(stage)) == {StepAction.KEEP}
        client = world.account.client("wafv2")
        assert len(client.list_ip_sets(Scope="REGIONAL")["IPSets"]) == 2
        logged = client.get_logging_configuration(ResourceArn=web_acl)["LoggingConfiguration"]["LogDestinationConfigs"]
        assert logged == ["arn:aws:logs:eu-west-1:123456789012:log-group:aws-waf-logs-sluice-prod"]
        (filter_,) = world.account.client("logs").describe_subscription_filters(
            logGroupName="aws-waf-logs-sluice-prod"
        )["subscriptionFilters"]
        assert filter_["destinationArn"] == "arn:aws:kinesis:eu-west-1:123456789012:stream/sluice-prod-logs"
        assert filter_["distribution"] == "Random"
        world.tear_down(stage)
        assert client.list_ip_sets(Scope="REGIONAL")["IPSets"] == []


def test_what_is_kept_at_rest_is_encrypted_and_protected(world: World) -> None:
    stage = world.stage(sources=("waf",), scope="CLOUDFRONT", web_acls=(world.web_acl(),))
    world.set_up(stage)
    kinesis, dynamodb = world.account.client("kinesis"), world.account.client("dynamodb")
    stream = kinesis.describe_stream_summary(StreamName=stage.log_stream)["StreamDescriptionSummary"]
    assert (stream["EncryptionType"], stream["KeyId"]) == ("KMS", "alias/aws/kinesis")
    tables = {name: dynamodb.describe_table(TableName=name)["Table"] for name in (stage.state_table, stage.tally_table)}
    protected = {name: table.get("DeletionProtectionEnabled", False) for name, table in tables.items()}
    assert protected == {stage.state_table: True, stage.tally_table: False}
    with pytest.raises(ClientError, match="DeletionProtectionEnabled"):
        dynamodb.delete_table(TableName=stage.state_table)
    statements = world.account.client("iam").get_role_policy(
        RoleName=stage.delivery_role, PolicyName=DeliveryRole.policy_name
    )
    (encrypt,) = [each for each in statements["PolicyDocument"]["Statement"] if "kms:GenerateDataKey" in each["Action"]]
    assert encrypt["Condition"]["ForAnyValue:StringEquals"] == {"kms:ResourceAliases": "alias/aws/kinesis"}


def test_a_stage_of_an_earlier_version_becomes_encrypted_and_protected(world: World) -> None:
    stage = world.stage()
    world.set_up(stage)
    world.account.client("kinesis").stop_stream_encryption(
        StreamName=stage.log_stream, EncryptionType="KMS", KeyId="alias/aws/kinesis"
    )
    world.account.client("dynamodb").update_table(TableName=stage.state_table, DeletionProtectionEnabled=False)
    changed = {step.resource.name: step.detail for step in world.plan(stage) if step.action is StepAction.CHANGE}
    assert changed == {stage.log_stream: "its records become encrypted", stage.state_table: "deletion protection"}
    world.set_up(stage)
    assert not [step for step in world.plan(stage) if step.action is StepAction.CHANGE]


def test_encryption_of_the_stream_can_be_switched_off_and_on_again(world: World) -> None:
    plain = world.stage(stream_encryption=False)
    for stage, encryption in ((plain, "NONE"), (world.stage(), "KMS"), (plain, "NONE")):
        world.set_up(stage)
        assert actions(world.plan(stage)) == {StepAction.KEEP}
        stream = world.account.client("kinesis").describe_stream_summary(StreamName=stage.log_stream)
        assert stream["StreamDescriptionSummary"]["EncryptionType"] == encryption


def test_waf_leaves_secrets_out_of_the_log_that_sluice_owns(world: World) -> None:
    acl = world.web_acl()
    stage = world.stage(sources=("waf",), web_acls=(acl,))
    world.set_up(stage)
    waf = world.account.client("wafv2")
    config = waf.get_logging_configuration(ResourceArn=acl)["LoggingConfiguration"]
    names = {field["SingleHeader"]["Name"] for field in config["RedactedFields"] if "SingleHeader" in field}
    assert {"authorization", "cookie", "x-api-key"} <= names
    assert not names & {"host", "user-agent", "x-forwarded-for"}
    assert {"QueryString": {}} in config["RedactedFields"]
    # An operator redacts one more field, and something removes the others.
    theirs = {"SingleHeader": {"Name": "x-session"}}
    logged = {"ResourceArn": acl, "LogDestinationConfigs": config["LogDestinationConfigs"], "RedactedFields": [theirs]}
    waf.put_logging_configuration(LoggingConfiguration=logged)
    world.set_up(stage)
    again = waf.get_logging_configuration(ResourceArn=acl)["LoggingConfiguration"]["RedactedFields"]
    assert again == [theirs, *REDACTED]
