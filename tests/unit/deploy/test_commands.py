"""The commands, run as an operator types them."""

import json
from io import StringIO

import pytest

from sluice.commands.setup import showing_last
from sluice.commands.shared.output import output
from tests.support.deploy.account import REGION, ROOT, Run, World


def test_setup_asks_first_shows_the_token_once_and_prints_the_undo(run: Run, world: World) -> None:
    refused = run("setup", typed="n\n")
    assert refused.exit_code == 1
    assert world.account.client("kinesis").list_streams()["StreamNames"] == []
    done = run("setup", typed="y\n")
    assert done.exit_code == 0, done.output
    assert done.output.count("\nsluice_") == 1
    assert done.output.rstrip().splitlines()[-1].startswith("sluice_")  # after the long list of what was done
    assert "sluice deploy --stage prod --region us-east-1" in done.output
    assert "Undo:  sluice teardown --stage prod --region us-east-1" in done.output
    again = run("setup")  # nothing to do, so no question
    assert again.exit_code == 0
    assert "sluice_" not in again.output


def test_the_token_is_shown_although_a_later_step_fails() -> None:
    written = StringIO()

    def set_up() -> None:
        with showing_last(["sluice_one"], output(written)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        set_up()
    assert "sluice_one" in written.getvalue()


def test_a_later_setup_need_not_repeat_the_choices_of_an_earlier_one(run: Run, world: World) -> None:
    world.web_acl()
    assert run("setup", "--yes", "--web-acl", "edge", "--shards", "2", "--sample-rate", "50").exit_code == 0
    again = json.loads(run("setup", "--json", "--dry-run").stdout)
    assert {step["action"] for step in again["steps"]} == {"exists"}
    assert "web ACL rule" in {step["kind"] for step in again["steps"]}


def test_the_rate_of_requests_is_a_choice_that_later_setups_keep(run: Run, world: World) -> None:
    def memory() -> int:
        stage = world.project.stage("prod")
        assert stage is not None
        size: int = stage["lambda_functions"]["evaluate"]["lambda_memory_size"]
        return size

    run("setup", "--yes")
    assert memory() == 1769
    planned = run("setup", "--requests-per-second", "300000", "--dry-run").output
    assert "requests per second changed" in planned
    assert "At 300000 requests per second" in planned
    run("setup", "--yes", "--requests-per-second", "300000")
    assert memory() == 3028
    assert "At 300000 requests per second" in run("setup", "--yes").output
    assert memory() == 3028


def test_settings_accumulate_until_they_are_removed(run: Run, world: World) -> None:
    def written() -> dict[str, str]:
        stage = world.project.stage("prod")
        assert stage is not None
        variables: dict[str, str] = stage["environment_variables"]
        return {name: variables[name] for name in ("LATENESS_S", "WIDEST_IPV4") if name in variables}

    run("setup", "--yes", "--set", "LATENESS_S=60")
    run("setup", "--yes", "--set", "WIDEST_IPV4=20")
    assert written() == {"LATENESS_S": "60", "WIDEST_IPV4": "20"}
    run("setup", "--yes", "--set", "LATENESS_S=")
    assert written() == {"WIDEST_IPV4": "20"}


def test_a_dry_run_in_json_is_one_object_and_changes_nothing(run: Run, world: World) -> None:
    done = run("setup", "--dry-run", "--json", "--requests-per-second", "1000", "--shards", "2")
    answer = json.loads(done.stdout)
    assert done.stderr == ""
    assert (answer["applied"], answer["stage"], answer["region"]) == (False, "prod", REGION)
    assert {step["action"] for step in answer["steps"]} == {"create"}
    items = sum(item["usd"] for item in answer["cost"]["items"])
    assert answer["cost"]["usd_a_month"] == pytest.approx(items, abs=0.1)
    assert world.account.client("kinesis").list_streams()["StreamNames"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["setup", "--web-acl", "nope"], "there is no web ACL 'nope' of scope CLOUDFRONT; existing: none"),
        (["setup", "--distribution", "ENOPE"], "distribution ENOPE does not exist"),
        (["setup", "--stage", "dev"], "choose another name, such as 'prod'"),
        (["setup", "--stage", "Prod!"], "1 to 20 lower-case letters"),
        (["setup", "--fields", "c-ip"], "lack 'timestamp'"),
        (["setup", "--scope", "REGIONAL", "--source", "cloudfront"], "sees CloudFront's addresses, not the clients'"),
        (["setup", "--scope", "REGIONAL", "--sample-rate", "10"], "10 % without CloudFront logs. Only CloudFront's"),
        (["setup", "--requests-per-second", "2e6"], "second: 2,000,000.0 is not between 0.001 and 1,156,220"),
        (["setup", "--set", "STATE_TABLE=x", "--yes"], "setting STATE_TABLE is determined by setup's other options"),
        (["doctor"], "there is no stage 'prod'"),
        (["teardown"], "nothing to remove"),
    ],
)
def test_impossible_choices_are_refused_with_the_reason(run: Run, arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert message in done.stderr


def test_cloudfront_outside_us_east_1_is_refused_with_the_reason(run: Run) -> None:
    done = run("setup", region="eu-west-1")
    assert done.exit_code == 1
    assert "AWS keeps web ACLs for CloudFront, their IP sets and their logs in us-east-1 alone" in done.stderr


def test_wrong_usage_exits_with_2(run: Run) -> None:
    assert run("setup", "--set", "novalue").exit_code == 2
    assert run("setup", "--shards", "-1").exit_code == 2


def test_fewer_ip_sets_and_another_scope_are_refused(run: Run) -> None:
    assert run("setup", "--yes", "--ip-sets", "2").exit_code == 0
    assert "fewer would unblock the clients in the others" in run("setup", "--ip-sets", "1").stderr
    assert "IP sets cannot move" in run("setup", "--scope", "REGIONAL").stderr


def test_doctor_fails_while_something_is_wrong(run: Run) -> None:
    run("setup", "--yes")
    shown = run("doctor", "--json")
    answer = json.loads(shown.stdout)
    assert shown.exit_code == 1
    assert not answer["ok"]
    assert {"check", "what", "remedy", "wrong"} == set(answer["findings"][0])
    assert "sluice deploy --stage prod" in run("doctor").output


def test_for_a_stack_setup_creates_only_what_cloudformation_cannot(run: Run, world: World) -> None:
    text = '{"scope":"CLOUDFRONT","sources":["cloudfront"],"shards":0,"stack":"edge-limits"}'
    world.account.client("ssm").put_parameter(
        Name="/sluice/prod/setup", Type="String", Value=text, Tags=[{"Key": "sluice:stage", "Value": "prod"}]
    )
    world.account.client("dynamodb").create_table(
        TableName="sluice-prod-state",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("kind", "id")],
        KeySchema=[{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "id", "KeyType": "RANGE"}],
    )
    world.web_acl()
    planned = json.loads(run("setup", "--dry-run", "--json", "--web-acl", "edge").stdout)
    assert [(step["action"], step["kind"]) for step in planned["steps"]] == [
        ("create", "SSM parameter"),
        ("create", "rule set"),
        ("create", "SSM parameter"),
        ("create", "web ACL rule"),
    ]
    removed = run("teardown", "--yes")
    assert "Now delete the stack:  sluice stack delete --stage prod --region us-east-1" in removed.output


def test_the_documented_dry_run_is_current(run: Run, world: World) -> None:
    world.web_acl()
    id_ = world.distribution()
    done = run(
        *("setup", "--web-acl", "edge", "--distribution", id_, "--requests-per-second", "1000", "--dry-run"),
    )
    printed = [line.rstrip() for line in done.output.replace(id_, "E2EXAMPLE1234").strip().splitlines()]
    documented = (ROOT / "docs" / "operate" / "deploying.md").read_text().splitlines()
    assert [line for line in printed if line not in documented] == []
