"""``sluice migrate``: from exported files and from the account, shown, written and applied."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from moto import mock_aws

from chalicelib.core.rules_toml import parse_rules
from sluice.cli import main
from sluice.deploy.account import AwsAccount
from tests.support.replay_logs import Hit, waf
from tests.support.security_automations import (
    APP_LOG_CONF,
    BUCKETS,
    NAME,
    NOW,
    PARAMETERS,
    WAF_LOG_CONF,
    blocked_by_parser,
    documents,
    dumped,
    ip_sets,
    retention,
    stack,
)
from tests.support.tables import CREDENTIALS
from tests.support.terminal import Terminal

pytestmark = pytest.mark.slow  # moto is imported and started


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    folder = tmp_path / "exported"
    folder.mkdir()
    for name, text in dumped(documents()).items():
        (folder / name).write_text(text)
    return folder


def run(*arguments: str, account: AwsAccount | None = None) -> Any:
    result = CliRunner().invoke(main, ["migrate", *arguments], obj=account, env={"SLUICE_URL": ""})
    assert result.exit_code == 0, result.output
    return result


def test_exported_files_become_a_plan_and_a_rules_file(exported: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    shown = run("--from-dir", str(exported), "--rules-out", str(rules))
    assert [rule.name for rule in parse_rules(rules.read_text()).rules] == [
        "http-flood",
        "http-flood-login",
        "scanners",
        "scanners-wp-login-php",
        "bad-bot",
    ]
    for words in ("SNSEmailParam", "203.0.113.7/32", "5 rules written to", "sluice setup --scope CLOUDFRONT --bucket"):
        assert words in shown.stdout
    answer = json.loads(run("--from-dir", str(exported), "--json").stdout)
    assert answer["rules"] == rules.read_text()
    assert (answer["applied"], len(answer["allowlist"]), len(answer["blocks"])) == (False, 2, 2)
    assert {"setting", "value", "becomes", "detail"} == set(answer["settings"][0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--stack"),
        (("--from-dir", "."), "neither a stack"),
        (("--from-dir", ".", "--stack", "x"), "neither a stack"),
    ],
)
def test_without_anything_to_migrate_the_command_says_what_it_needs(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["migrate", *arguments], env={"SLUICE_URL": ""})
    assert result.exit_code in (1, 2)
    assert message in result.stderr


def test_jails_of_fail2ban_become_a_plan(tmp_path: Path) -> None:
    jails = tmp_path / "jail.conf"
    jails.write_text("[DEFAULT]\nmaxretry = 3\n[nginx-http-auth]\nenabled = true\n")
    shown = run("--from", "fail2ban", str(jails))
    assert "maxretry = 3" in shown.stdout
    assert "sluice setup --rules rules.toml" in shown.stdout
    jails.write_text("[nginx")
    for words, message in (([], "jail.local"), ([str(jails)], "not a valid jail.conf")):
        result = CliRunner().invoke(main, ["migrate", "--from", "fail2ban", *words], env={"SLUICE_URL": ""})
        assert (result.exit_code > 0, message in result.stderr) == (True, True), result.output


def test_a_file_that_is_no_json_is_named(exported: Path) -> None:
    (exported / "stack.json").write_text("{")
    result = CliRunner().invoke(main, ["migrate", "--from-dir", str(exported)])
    assert (result.exit_code, "stack.json: not valid JSON" in result.stderr) == (1, True)


@pytest.fixture
def account() -> Iterator[AwsAccount]:
    """An account with the stack, as CloudFormation and the stack itself leave it."""
    with mock_aws():

        def client(service: str) -> Any:
            return boto3.client(service, **CREDENTIALS)  # type: ignore[call-overload]

        _create(client)
        yield AwsAccount(client=client, region=CREDENTIALS["region_name"])


def _create(client: Any) -> None:
    named = {each["OutputKey"]: each["OutputValue"] for each in stack()["Stacks"][0]["Outputs"]}
    template = {
        "Parameters": {name: {"Type": "String"} for name in PARAMETERS},
        "Resources": {
            "IPRetentionDDBTable": {
                "Type": "AWS::DynamoDB::Table",
                "Properties": {
                    "BillingMode": "PAY_PER_REQUEST",
                    "AttributeDefinitions": [
                        {"AttributeName": "IPSetId", "AttributeType": "S"},
                        {"AttributeName": "ExpirationTime", "AttributeType": "N"},
                    ],
                    "KeySchema": [
                        {"AttributeName": "IPSetId", "KeyType": "HASH"},
                        {"AttributeName": "ExpirationTime", "KeyType": "RANGE"},
                    ],
                },
            }
        },
        "Outputs": {name: {"Value": value} for name, value in named.items()},
    }
    cloudformation, s3, wafv2 = client("cloudformation"), client("s3"), client("wafv2")
    parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in PARAMETERS.items()]
    cloudformation.create_stack(StackName=NAME, TemplateBody=json.dumps(template), Parameters=parameters)
    for bucket, file, conf in (
        ("WafLogBucket", "waf_log_conf", WAF_LOG_CONF),
        ("AppAccessLogBucket", "app_log_conf", APP_LOG_CONF),
    ):
        s3.create_bucket(Bucket=BUCKETS[bucket])
        s3.put_object(Bucket=BUCKETS[bucket], Key=f"{NAME}-{file}.json", Body=json.dumps(conf))
    sets = {**ip_sets(), "of-another-ownerWhitelistSetIPV4": ["192.0.2.99/32"]}
    for name, addresses in sets.items():
        family = "IPV6" if name.endswith("V6") else "IPV4"
        wafv2.create_ip_set(Name=name, Scope="CLOUDFRONT", IPAddressVersion=family, Addresses=addresses)
    visibility = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": "m"}
    group = {"VendorName": "AWS", "Name": "AWSManagedRulesBotControlRuleSet"}
    rule = {
        "Name": "bots",
        "Priority": 50,
        "Statement": {"ManagedRuleGroupStatement": group},
        "OverrideAction": {"None": {}},
        "VisibilityConfig": visibility,
    }
    wafv2.create_web_acl(
        Name=NAME, Scope="CLOUDFRONT", DefaultAction={"Allow": {}}, VisibilityConfig=visibility, Rules=[rule]
    )
    table = cloudformation.list_stack_resources(StackName=NAME)["StackResourceSummaries"][0]["PhysicalResourceId"]
    item = retention(f"{NAME}BlacklistSetIPV4", ["203.0.113.7/32"], 4_000_000_000)
    client("dynamodb").put_item(TableName=table, Item=item)


def test_a_stack_in_an_account_becomes_the_same_plan_as_its_exported_files(account: AwsAccount, exported: Path) -> None:
    shown = json.loads(run("--stack", NAME, "--json", account=account).stdout)
    offline = json.loads(run("--from-dir", str(exported), "--json").stdout)
    assert shown["rules"] == offline["rules"]
    assert [each["network"] for each in shown["allowlist"]] == ["198.51.100.0/24", "2001:db8:1::/48"]
    assert [(each["network"], each["until"]) for each in shown["blocks"]] == [
        ("203.0.113.7/32", 4_000_000_000),
        ("203.0.113.8/32", None),
    ]
    assert shown["setup"][:2] == offline["setup"][:2]
    assert shown["managed_rule_groups"] == [*offline["managed_rule_groups"], "AWSManagedRulesBotControlRuleSet"]
    settings = {row["setting"] for row in shown["settings"]}
    assert {f"IP set {name}" for name in ip_sets()} <= settings
    assert "IP set of-another-ownerWhitelistSetIPV4" not in settings


def test_on_the_stacks_own_objects_the_rules_name_whom_its_parser_blocks_and_nobody_below_the_threshold(
    account: AwsAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, minute = BUCKETS["WafLogBucket"], NOW // 60 * 60_000
    objects = [
        [
            *(Hit(minute + 300 * number, "192.0.2.1") for number in range(100)),  # at the threshold
            *(Hit(minute + 300 * number, "192.0.2.2") for number in range(99)),  # below it
            *(Hit(minute + 300 * number, "192.0.2.3", "/a.css") for number in range(150)),
            *(Hit(minute + 30_000 + 600 * number, "192.0.2.4") for number in range(60)),
            *(Hit(minute + 5000 * number, "192.0.2.5", "/login") for number in range(10)),
        ],
        # Over the threshold only together with the object before, in another minute of the clock.
        [Hit(minute + 66_000 + 300 * number, "192.0.2.4") for number in range(60)],
    ]
    for number, hits in enumerate(objects):
        text = "".join(waf(hit) + "\n" for hit in hits)
        key = f"AWSLogs/year=2026/{number}.gz"
        account.client("s3").put_object(Bucket=bucket, Key=key, Body=gzip.compress(text.encode()))
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name.replace("region_name", "aws_default_region").upper(), value)
    rules = tmp_path / "rules.toml"
    run("--stack", NAME, "--rules-out", str(rules), account=account)
    replayed = CliRunner().invoke(main, ["replay", f"s3://{bucket}/AWSLogs/", "--rules", str(rules), "--json"])
    named = {offender["client"].removesuffix("/32") for offender in json.loads(replayed.stdout)["offenders"]}
    assert blocked_by_parser(WAF_LOG_CONF, objects, "requestThreshold") == {"192.0.2.1", "192.0.2.5"}
    assert named == {"192.0.2.1", "192.0.2.5", "192.0.2.4"}


def test_a_stack_that_does_not_exist_is_named(account: AwsAccount) -> None:
    result = CliRunner().invoke(main, ["migrate", "--stack", "none"], obj=account, env={"SLUICE_URL": ""})
    assert (result.exit_code, "could not read stack none" in result.stderr) == (1, True)


def test_a_plan_is_applied_with_consent_and_each_change_can_be_undone(terminal: Terminal, exported: Path) -> None:
    before = terminal.json("rules", "show")["text"]
    refused = terminal.run("migrate", "--from-dir", str(exported), exit_code=2)
    assert "give --yes" in refused.stderr
    assert terminal.json("rules", "show")["text"] == before
    applied = terminal.run("migrate", "--from-dir", str(exported), "--yes")
    in_force = terminal.json("rules", "show")["text"]
    assert {rule.action for rule in parse_rules(in_force).rules} == {"count"}
    entries = {entry["network"]: entry for entry in terminal.json("allowlist")["entries"]}
    assert entries["198.51.100.0/24"]["comment"] == f"{NAME}WhitelistSetIPV4"
    blocks = {block["network"]: block for block in terminal.json("blocks")["blocks"]}
    assert set(blocks) >= {"203.0.113.7/32", "203.0.113.8/32"}
    assert blocks["203.0.113.8/32"]["rule"] == "manual"
    assert applied.stdout.count("Undo with:") >= 4
    terminal.run("rules", "rollback", "1", "--yes")
    assert terminal.json("rules", "show")["text"] == before


def test_a_dry_run_asks_nothing_and_changes_nothing(terminal: Terminal, exported: Path) -> None:
    before = terminal.json("rules", "show")["version"]
    terminal.run("migrate", "--from-dir", str(exported), "--dry-run")
    assert terminal.json("rules", "show")["version"] == before
