"""The responses of a stage, as setup creates and removes them, in moto."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chalicelib.config import read_config
from chalicelib.core.responses import Response
from sluice.deploy.apply import apply, survey
from sluice.deploy.plan import StepAction, to_tear_down
from sluice.deploy.resources.waf import ip_sets_without
from sluice.deploy.stage import Choices
from tests.support.deploy.account import Run, World


def rule_names(world: World) -> list[str]:
    return [rule["Name"] for rule in rule_group(world)["Rules"]]


def rule_group(world: World) -> dict[str, Any]:
    waf = world.account.client("wafv2")
    (summary,) = waf.list_rule_groups(Scope="CLOUDFRONT")["RuleGroups"]
    group: dict[str, Any] = waf.get_rule_group(Name=summary["Name"], Scope="CLOUDFRONT", Id=summary["Id"])["RuleGroup"]
    return group


def set_names(world: World) -> set[str]:
    return {s["Name"] for s in world.account.client("wafv2").list_ip_sets(Scope="CLOUDFRONT")["IPSets"]}


def test_a_running_stage_gets_further_responses_and_gives_them_up_again(world: World) -> None:
    world.set_up(world.stage())
    before = rule_group(world)
    stage = world.stage(responses=(Response.CHALLENGE, Response.WATCH))
    planned = [(step.action, step.resource.name, step.detail) for step in world.plan(stage) if step.effective]
    assert (StepAction.CREATE, "sluice-prod-challenge-v4-1", "challenge, IPv4, room for 10,000 networks") in planned
    assert (StepAction.CHANGE, "sluice-prod", "2 IP sets become 6") in planned
    assert rule_group(world) == before, "a plan changes nothing"

    world.set_up(stage)
    assert rule_names(world) == [
        *("sluice-prod-ipv4", "sluice-prod-ipv6", "sluice-prod-challenge", "sluice-prod-watch"),
    ]
    assert rule_group(world)["Rules"][:2] == before["Rules"]
    written = world.project.stage("prod")
    assert written is not None
    config = read_config(written["environment_variables"])
    assert config.responses == {Response.BLOCK, Response.CHALLENGE, Response.WATCH}
    assert {ip_set.name for ip_set in config.ip_sets} == set_names(world)
    assert not any(step.effective for step in world.plan(stage)), "a second run changes nothing"

    without = world.stage()
    world.set_up(without)
    surplus = ip_sets_without(without, stage.choices.responses)
    apply(to_tear_down(survey(surplus, world.account)), world.account, lambda step: None)
    assert (rule_group(world)["Rules"], set_names(world)) == (before["Rules"], {"sluice-prod-v4-1", "sluice-prod-v6-1"})


def test_setup_changes_the_answer_to_blocked_clients_and_keeps_its_body_until_told_otherwise(
    run: Run, world: World, tmp_path: Path
) -> None:
    body = tmp_path / "sorry.json"
    body.write_text('{"error":"slow down"}')
    assert (
        run("setup", "--yes", "--block-status", "503", "--retry-after", "30", "--block-body", str(body)).exit_code == 0
    )
    for _ in range(2):
        group = rule_group(world)
        assert group["CustomResponseBodies"] == {
            "blocked": {"ContentType": "APPLICATION_JSON", "Content": '{"error":"slow down"}'}
        }
        for rule in group["Rules"]:
            answer = rule["Action"]["Block"]["CustomResponse"]
            assert (answer["ResponseCode"], answer["CustomResponseBodyKey"]) == (503, "blocked")
            assert answer["ResponseHeaders"] == [{"Name": "Retry-After", "Value": "30"}]
        run("setup", "--yes")
    written = world.project.stage("prod")
    assert written is not None
    assert read_config(written["environment_variables"]).block_status == 503
    body.write_text("")
    run("setup", "--yes", "--block-body", str(body))
    assert "CustomResponseBodyKey" not in rule_group(world)["Rules"][0]["Action"]["Block"]["CustomResponse"]


def test_responses_are_chosen_and_given_up_by_the_command(run: Run, world: World) -> None:
    assert run("setup", "--yes", "--respond", "challenge", "--respond", "slow").exit_code == 0
    assert rule_names(world)[2:] == ["sluice-prod-challenge", "sluice-prod-slow"]
    planned = json.loads(run("setup", "--dry-run", "--json", "--no-respond", "slow").stdout)["steps"]
    removed = [step["name"] for step in planned if step["action"] == "remove"]
    assert sorted(removed) == ["sluice-prod-slow-v4-1", "sluice-prod-slow-v6-1"]
    assert run("setup", "--yes", "--no-respond", "slow").exit_code == 0
    assert rule_names(world)[2:] == ["sluice-prod-challenge"]
    assert not any("slow" in name for name in set_names(world))
    assert run("teardown", "--yes").exit_code == 0
    assert set_names(world) == set()


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        (("--respond", "slow"), "RespondSlow"),
        (("--block-status", "503"), "BlockStatus"),
        (("--slow-limit", "20"), "SlowLimit"),
        (("--set", "TRUSTED_PROXIES=198.51.100.0/24"), "TrustedProxies"),
        (("--no-stream-encryption",), "StreamEncryption"),
    ],
)
def test_what_a_stack_owns_is_changed_by_its_parameter_alone(
    run: Run, world: World, arguments: Sequence[str], parameter: str
) -> None:
    value = Choices(stack="edge").to_json()
    world.account.client("ssm").put_parameter(Name="/sluice/prod/setup", Type="String", Value=value)
    refused = run("setup", "--dry-run", *arguments)
    assert refused.exit_code == 1
    assert "stack edge owns this. Update the stack with its parameter" in refused.stderr
    assert parameter in refused.stderr


def test_a_stack_has_one_ip_set_per_family(run: Run, world: World) -> None:
    value = Choices(stack="edge").to_json()
    world.account.client("ssm").put_parameter(Name="/sluice/prod/setup", Type="String", Value=value)
    refused = run("setup", "--dry-run", "--ip-sets", "2")
    assert refused.exit_code == 1
    assert "--ip-sets: stack edge has one IP set per family and response, of 10,000 networks" in refused.stderr
    accepted_before = Choices(stack="edge", ip_sets=3).to_json()
    assert Choices.of_stack(value, accepted_before).ip_sets == 1
