"""Setup, the stack and Terraform make the same IP sets and the same rule group."""

import json
from collections.abc import Iterable
from itertools import chain, combinations
from typing import Any

import pytest

from chalicelib.config import read_config
from chalicelib.core.responses import SOFTER, Response
from sluice.deploy.cloudformation import ip_set_of
from sluice.deploy.rule_group import Answers, Body, rules_of, wcu
from sluice.deploy.stage import Choices, Location, Stage
from sluice.deploy.template import written
from sluice.deploy.terraform import terraform_of
from tests.support.deploy.account import REGION, Run, World
from tests.support.deploy.additions import TEMPLATE, TEXT
from tests.support.deploy.stack import Stack

PROXIES = "198.51.100.0/24,2001:db8:cd::/48"
EVERY = [*chain.from_iterable(combinations(SOFTER, number) for number in range(len(SOFTER) + 1))]


def stage_of(responses: Iterable[Response], proxies: str = "", **choices: Any) -> Stage:
    choices = {"settings": {"TRUSTED_PROXIES": proxies} if proxies else {}, **choices}
    location = Location(account="1", region=REGION)
    return Stage(name="prod", location=location, choices=Choices(responses=tuple(responses), **choices))


def stack_of(responses: Iterable[Response], proxies: str = "", **parameters: str) -> Stack:
    responding = {f"Respond{response.capitalize()}": "yes" for response in responses}
    return Stack(TEMPLATE, {"TrustedProxies": proxies, **responding, **parameters})


def renamed(part: Any, old: str, new: str) -> Any:
    if isinstance(part, dict):
        return {new if name == old else name: renamed(inner, old, new) for name, inner in part.items()}
    return [renamed(inner, old, new) for inner in part] if isinstance(part, list) else part


def stacked_rules(stack: Stack) -> list[dict[str, Any]]:
    rules = stack.value(TEMPLATE["Resources"]["RuleGroup"]["Properties"]["Rules"])
    answer: list[dict[str, Any]] = renamed(rules, "Arn", "ARN")
    return answer


def with_numbers(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns rules in which texts of digits are numbers: CloudFormation passes each value of a parameter as text."""

    def walk(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: walk(inner) for name, inner in part.items()}
        if isinstance(part, list):
            return list(map(walk, part))
        return int(part) if isinstance(part, str) and part.isdigit() else part

    return list(map(walk, rules))


def test_the_committed_template_is_that_of_the_rules() -> None:
    assert written(TEXT) == TEXT, "run python -m sluice.deploy.template"


@pytest.mark.parametrize("proxies", ["", PROXIES], ids=["direct", "behind proxies"])
@pytest.mark.parametrize("responses", EVERY, ids=lambda responses: "+".join(responses) or "block")
def test_setup_stack_and_terraform_make_the_same_rules_and_ip_sets(
    responses: tuple[Response, ...], proxies: str
) -> None:
    stage, stack = stage_of(responses, proxies), stack_of(responses, proxies)
    arns = {group: [f"{ip_set_of(group)}.Arn"] for group in stage.ip_sets}
    rules = rules_of("sluice-prod", arns, Answers(), behind_proxies=bool(proxies))
    assert with_numbers(stacked_rules(stack)) == with_numbers(rules)

    sets = {name: each for name, each in TEMPLATE["Resources"].items() if each.get("Type") == "AWS::WAFv2::IPSet"}
    made = {name for name, each in sets.items() if "Condition" not in each or stack.holds(each["Condition"])}
    assert {ip_set_of(group): names for group, names in stage.ip_sets.items()} == {
        name: [stack.value(sets[name]["Properties"]["Name"])] for name in made
    }

    printed = terraform_of(stage, None)["resource"]
    group = printed["aws_wafv2_rule_group"]["sluice-prod"]
    named = {f"${{aws_wafv2_ip_set.{names[0]}.arn}}": f"{ip_set_of(of)}.Arn" for of, names in stage.ip_sets.items()}
    text = group["rules_json"]
    for reference, arn in named.items():
        text = text.replace(reference, arn)
    assert json.loads(text) == rules
    assert group["capacity"] >= wcu(rules)
    assert printed["aws_wafv2_ip_set"].keys() == {name for names in stage.ip_sets.values() for name in names}


def test_status_body_and_rate_are_parameters_and_choices_alike() -> None:
    stack = stack_of((Response.SLOW,), BlockStatus="503", RetryAfter="30", SlowLimit="20", BlockBody="sorry")
    choices: dict[str, Any] = {"block_status": 503, "retry_after_s": 30, "slow_limit": 20}
    stage = stage_of((Response.SLOW,), **choices)
    arns = {group: [f"{ip_set_of(group)}.Arn"] for group in stage.ip_sets}
    rules = rules_of("sluice-prod", arns, Answers.of(stage.choices, has_body=True))
    assert with_numbers(stacked_rules(stack)) == with_numbers(rules)
    bodies = stack.value(TEMPLATE["Resources"]["RuleGroup"]["Properties"]["CustomResponseBodies"])
    assert bodies == {"blocked": {"ContentType": "APPLICATION_JSON", "Content": "sorry"}}
    printed = terraform_of(stage, Body("TEXT_HTML", "<p>${sorry}"))["resource"]["aws_wafv2_rule_group"]["sluice-prod"]
    assert json.loads(printed["rules_json"])[0]["Action"] == rules[0]["Action"]
    assert printed["custom_response_body"] == [
        {"key": "blocked", "content_type": "TEXT_HTML", "content": "<p>$${sorry}"}
    ]


@pytest.mark.parametrize("responses", [(), SOFTER[1:3], SOFTER], ids=["block", "some", "all"])
def test_functions_and_commands_know_the_responses_and_proxies_of_the_stack(responses: tuple[Response, ...]) -> None:
    stack = stack_of(responses, PROXIES, BlockStatus="503", RetryAfter="30")
    variables = stack.value(TEMPLATE["Globals"]["Function"]["Environment"]["Variables"])
    config = read_config({**variables, "LOG_STREAM": "x", "STATE_TABLE": "x", "TALLY_TABLE": "x"})
    assert config.responses == {Response.BLOCK, *responses}
    assert config.block_status == 503
    assert len(config.trusted_proxies) == 2
    choices = Choices.from_json(stack.value(TEMPLATE["Resources"]["Choices"]["Properties"]["Value"]))
    assert choices.responses == responses
    assert (choices.block_status, choices.retry_after_s, choices.behind_proxies) == (503, 30, True)
    names = {name for names in stage_of(responses).ip_sets.values() for name in names}
    assert {ip_set.name for ip_set in config.ip_sets} == names


def test_setup_keeps_what_terraform_made_and_what_it_left_to_sluice(world: World, run: Run) -> None:
    """Terraform's resources are made in moto, with the arguments of the API that its provider passes on."""
    printed = json.loads(run("setup", "--respond", "challenge", "--print", "terraform").stdout)["resource"]
    waf = world.account.client("wafv2")
    references = {}
    for name, each in printed["aws_wafv2_ip_set"].items():
        assert each["lifecycle"] == {"ignore_changes": ["addresses"]}
        answer = waf.create_ip_set(
            Name=each["name"],
            Scope=each["scope"],
            IPAddressVersion=each["ip_address_version"],
            Addresses=[],
            Tags=[{"Key": key, "Value": value} for key, value in each["tags"].items()],
        )
        references[f"${{aws_wafv2_ip_set.{name}.arn}}"] = answer["Summary"]["ARN"]
    ((_, group),) = printed["aws_wafv2_rule_group"].items()
    rules = group["rules_json"]
    for reference, arn in references.items():
        rules = rules.replace(reference, arn)
    waf.create_rule_group(
        Name=group["name"],
        Scope=group["scope"],
        Capacity=group["capacity"],
        Rules=json.loads(rules),
        VisibilityConfig={
            "MetricName": group["visibility_config"]["metric_name"],
            "SampledRequestsEnabled": True,
            "CloudWatchMetricsEnabled": True,
        },
        Tags=[{"Key": key, "Value": value} for key, value in group["tags"].items()],
    )
    steps = json.loads(run("setup", "--respond", "challenge", "--dry-run", "--json").stdout)["steps"]
    waf_steps = {(step["action"], step["name"]) for step in steps if step["kind"].startswith("WAF")}
    assert waf_steps == {("exists", "sluice-prod"), *(("exists", name) for name in printed["aws_wafv2_ip_set"])}
