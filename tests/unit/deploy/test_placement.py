"""The place of the rule group's rule among those of a web ACL: shown, chosen, made, and given back."""

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.state.operators import Placed, WebAcls
from chalicelib.edges.state_table import StateTable
from chalicelib.pipeline.stored import State
from sluice.deploy.placement import effect_of, making_place, place_of, predecessors, restored
from tests.support.deploy.account import Run, World, owners_rule
from tests.support.rule_group import Arrival, refusing_rule

OWN = "sluice-prod"


def priorities(world: World, arn: str) -> dict[str, int]:
    answer = world.account.client("wafv2").get_web_acl(Name="edge", Scope="CLOUDFRONT", Id=arn.rpartition("/")[2])
    return {each["Name"]: each["Priority"] for each in answer["WebACL"]["Rules"]}


def planned(run: Run, *options: str) -> dict[str, Any]:
    (acl,) = json.loads(run("setup", "--dry-run", "--json", "--web-acl", "edge", *options).stdout)["web_acls"]
    answer: dict[str, Any] = acl
    return answer


@pytest.mark.parametrize(
    ("fields", "effect"),
    [
        ({"Action": {"Allow": {}}}, "allows requests, also those of blocked clients"),
        ({"Action": {"Block": {}}}, "blocks requests"),
        ({"Action": {"Challenge": {}}}, "asks for a token"),
        ({"Action": {"Count": {}}}, ""),
        ({"OverrideAction": {"None": {}}}, "may end it, as a rule group"),
        ({"OverrideAction": {"Count": {}}}, ""),
    ],
)
def test_a_rule_that_ends_evaluation_is_known_by_its_action(fields: Mapping[str, Any], effect: str) -> None:
    rules = [{"Name": "theirs", "Priority": 3, **fields}, {"Name": OWN, "Priority": 4}]
    assert effect_of(rules[0]) == effect
    assert [each.effect for each in predecessors(rules, [OWN])] == ([effect] if effect else [])
    assert predecessors([rules[0] | {"Priority": 5}, rules[1]], [OWN]) == []


numbers = st.lists(st.integers(0, 30), unique=True, max_size=12).map(sorted)


@given(numbers=numbers, first=st.integers(0, 30), own=st.integers(1, 7))
def test_place_is_made_without_a_change_of_order_and_given_back_exactly(
    numbers: list[int], first: int, own: int
) -> None:
    others: list[dict[str, Any]] = [{"Name": f"r{number}", "Priority": number} for number in numbers]
    placed = making_place(others, first, own)
    taken = [each["Priority"] for each in placed]
    assert taken == sorted(set(taken))
    assert [each["Name"] for each in placed] == [each["Name"] for each in others]
    assert not set(taken) & set(range(first, first + own))
    former = [old["Priority"] for old, new in zip(others, placed, strict=True) if old != new]
    assert restored(placed, first, former) == others


@given(before=numbers, first=st.integers(0, 30), former=numbers)
def test_priorities_that_are_given_back_after_other_changes_are_unique_and_in_order(
    before: list[int], first: int, former: list[int]
) -> None:
    others = [{"Name": f"r{number}", "Priority": number} for number in before if number != first]
    after = restored(others, first, former)
    assert [each["Name"] for each in after] == [each["Name"] for each in others]
    taken = [each["Priority"] for each in after]
    assert taken == sorted(set(taken))


def test_the_plan_shows_the_place_and_every_rule_before_it_that_ends_evaluation(run: Run, world: World) -> None:
    world.web_acl(
        rules=[owners_rule("office", 0, "Allow"), owners_rule("watch", 1, "Count"), owners_rule("bots", 3, "Block")]
    )
    shown = planned(run)
    assert (shown["priority"], shown["place"], shown["rules"]) == (2, 3, 4)
    assert [(each["name"], each["may_allow"]) for each in shown["before"]] == [("office", True)]
    assert (shown["wcu_before"], shown["wcu_after"]) == (700, 750)
    text = run("setup", "--dry-run", "--web-acl", "edge").output
    assert "In web ACL edge, sluice-prod is rule 3 of 4, at priority 2." in text
    assert "allows requests, also those of blocked clients" in text
    assert "To evaluate it first:  sluice setup --stage prod --region us-east-1 --renumber" in text


def test_setup_and_doctor_note_the_place_for_the_page(run: Run, world: World) -> None:
    world.web_acl(rules=[owners_rule("office", 0, "Allow"), owners_rule("bots", 3, "Block")])
    state = State(StateTable(world.account.client("dynamodb"), world.stage().state_table))

    def noted() -> tuple[Placed, ...]:
        record = state.control(WebAcls).record
        assert record.at >= started
        return record.web_acls

    started = int(time.time())
    assert run("setup", "--yes", "--web-acl", "edge").exit_code == 0
    assert [(each.web_acl, each.place, each.rules) for each in noted()] == [("edge", 2, 3)]
    assert [(rule.name, rule.may_allow) for rule in noted()[0].before] == [("office", True)]
    run("setup", "--yes", "--renumber")
    assert noted() == (Placed(web_acl="edge", place=1, rules=3),)
    state.overwrite(WebAcls())
    run("doctor")
    assert noted() == (Placed(web_acl="edge", place=1, rules=3),)


def test_a_dry_run_notes_nothing(run: Run, world: World) -> None:
    world.web_acl()
    run("setup", "--yes")
    state = State(StateTable(world.account.client("dynamodb"), world.stage().state_table))
    state.overwrite(WebAcls(at=5))
    run("setup", "--dry-run", "--web-acl", "edge")
    assert state.control(WebAcls).record == WebAcls(at=5)


def test_a_web_acl_without_sluice_or_with_a_rule_before_that_allows_is_bypassed() -> None:
    allow, block, own = owners_rule("a", 0, "Allow"), owners_rule("b", 1, "Block"), {"Name": OWN, "Priority": 2}
    assert place_of("edge", [allow, block], [OWN]).bypassed
    assert place_of("edge", [allow, own], [OWN]).bypassed
    assert not place_of("edge", [block, own, allow | {"Priority": 3}], [OWN]).bypassed


def test_rules_are_renumbered_with_consent_alone_and_get_their_numbers_back(run: Run, world: World) -> None:
    arn = world.web_acl(
        rules=[owners_rule("office", 0, "Allow"), owners_rule("bots", 1, "Block"), owners_rule("rest", 7, "Allow")]
    )
    before = priorities(world, arn)
    assert run("setup", "--yes", "--web-acl", "edge").exit_code == 0
    assert priorities(world, arn) == before | {OWN: 2}

    shown = planned(run, "--renumber")
    assert (shown["priority"], shown["place"], shown["before"]) == (0, 1, [])
    assert shown["renumbered"] == [{"name": "office", "from": 0, "to": 1}, {"name": "bots", "from": 1, "to": 2}]
    assert priorities(world, arn) == before | {OWN: 2}, "a plan changes nothing"
    done = run("setup", "--yes", "--renumber")
    assert "Undo:  sluice setup --stage prod --region us-east-1 --no-renumber" in done.output
    moved = {OWN: 0, "office": 1, "bots": 2, "rest": 7}
    assert priorities(world, arn) == moved
    for options in ((), ("--renumber",)):
        assert not planned(run, *options)["renumbered"]
        run("setup", "--yes", *options)
        assert priorities(world, arn) == moved, "a later setup keeps the order"

    assert run("setup", "--yes", "--no-renumber").exit_code == 0
    assert priorities(world, arn) == before | {OWN: 2}
    run("setup", "--yes", "--no-renumber")
    assert priorities(world, arn) == before | {OWN: 2}


@pytest.mark.parametrize("tier", ["", "BUSINESS"], ids=["in a rule group", "on a plan"])
def test_a_blocked_client_is_refused_behind_other_rules_unless_one_allows_it_and_before_them_always(
    run: Run, world: World, tier: str
) -> None:
    """The owner's rules allow Antarctica: one of them stands before Sluice's, and another after."""
    arn = world.web_acl(rules=[owners_rule("office", 0, "Allow"), owners_rule("rest", 7, "Allow")])
    world.front.plans = [{"planFamily": "CLOUDFRONT", "planTier": tier, "resourceArns": [arn]}] if tier else []
    waf = world.account.client("wafv2")

    def refused(address: str, country: str) -> bool:
        acl = waf.get_web_acl(Name="edge", Scope="CLOUDFRONT", Id=arn.rpartition("/")[2])["WebACL"]["Rules"]
        groups = {
            each["ARN"]: waf.get_rule_group(Name=each["Name"], Scope="CLOUDFRONT", Id=each["Id"])["RuleGroup"]["Rules"]
            for each in waf.list_rule_groups(Scope="CLOUDFRONT")["RuleGroups"]
        }
        sets = waf.list_ip_sets(Scope="CLOUDFRONT")["IPSets"]
        contents = {each["ARN"]: ["203.0.113.9/32"] if "-v4-" in each["Name"] else [] for each in sets}
        return bool(refusing_rule(acl, contents, Arrival(address, country=country), groups))

    for options, from_antarctica in (((), False), (("--renumber",), True), (("--no-renumber",), False)):
        assert run("setup", "--yes", "--web-acl", "edge", *options).exit_code == 0
        assert refused("203.0.113.9", "DE")
        assert refused("203.0.113.9", "AQ") is from_antarctica
        assert not refused("203.0.113.8", "DE")
        assert not refused("203.0.113.8", "AQ")


def test_detach_and_teardown_give_the_numbers_back(run: Run, world: World) -> None:
    arn = world.web_acl(rules=[owners_rule("office", 0, "Allow"), owners_rule("bots", 1, "Block")])
    before = priorities(world, arn)
    for command in (("detach", "--web-acl", "edge"), ("teardown",)):
        run("setup", "--yes", "--web-acl", "edge", "--renumber")
        assert priorities(world, arn) == {OWN: 0, "office": 1, "bots": 2}
        assert run(*command, "--yes").exit_code == 0
        assert priorities(world, arn) == before


def test_a_priority_is_chosen_unless_another_rule_has_it(run: Run, world: World) -> None:
    arn = world.web_acl(rules=[owners_rule("office", 4, "Allow"), owners_rule("bots", 5, "Block")])
    assert planned(run)["priority"] == 3
    refused = run("setup", "--yes", "--web-acl", "edge", "--priority", "4")
    assert refused.exit_code == 1
    assert "--priority 4: web ACL edge has office (4) there" in refused.stderr
    assert "or add --renumber" in refused.stderr
    assert run("setup", "--yes", "--web-acl", "edge", "--priority", "9").exit_code == 0
    assert priorities(world, arn)[OWN] == 9
    assert [each["name"] for each in planned(run)["before"]] == ["office", "bots"]
    assert run("setup", "--yes", "--priority", "5", "--renumber").exit_code == 0
    assert priorities(world, arn) == {"office": 4, OWN: 5, "bots": 6}
    assert run("setup", "--yes", "--no-renumber").exit_code == 0
    assert priorities(world, arn) == {OWN: 3, "office": 4, "bots": 5}


def test_the_capacity_of_an_existing_rule_group_is_what_counts(run: Run, world: World) -> None:
    run("setup", "--yes", "--set", "TRUSTED_PROXIES=198.51.100.0/24", "--ip-sets", "5")
    world.web_acl()
    shown = planned(run, "--set", "TRUSTED_PROXIES=")
    assert (shown["wcu_before"], shown["wcu_after"]) == (700, 760)
