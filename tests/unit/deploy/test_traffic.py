"""What setup reads from the account for its estimate."""

import time
from datetime import UTC, datetime

import pytest

from sluice.deploy.costs import INCLUDED_WCU
from sluice.deploy.rule_group import CAPACITY
from sluice.deploy.stage import Stage
from sluice.deploy.traffic import observed_requests_per_second, placements
from tests.support.deploy.account import Run, World

NOW = int(time.time())
WEEK_S = 7 * 24 * 3600


def requests(
    world: World, namespace: str, name: str, number: float, dimensions: dict[str, str], age_s: int = 3600
) -> None:
    datum = {
        "MetricName": name,
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
        "Timestamp": datetime.fromtimestamp(NOW - age_s, UTC),
        "Value": number,
    }
    world.account.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=[datum])


def test_the_rate_is_the_average_of_the_distributions_last_week(world: World) -> None:
    for id_, age in (("E1", 3600), ("E1", 3 * 86400), ("E2", 3600), ("E1", 2 * WEEK_S)):
        requests(world, "AWS/CloudFront", "Requests", 200 * WEEK_S, {"DistributionId": id_, "Region": "Global"}, age)
    choices = world.stage(distributions=("E1", "E2")).choices
    assert observed_requests_per_second(world.account, choices, NOW) == pytest.approx(600)


@pytest.mark.parametrize("scope", ["CLOUDFRONT", "REGIONAL"])
def test_without_distributions_it_is_what_the_web_acls_inspected(world: World, scope: str) -> None:
    arn = world.web_acl(scope=scope)
    region = {"Region": "us-east-1"} if scope == "REGIONAL" else {}
    for name in ("AllowedRequests", "BlockedRequests"):
        requests(world, "AWS/WAFV2", name, 50 * WEEK_S, {"WebACL": "edge", "Rule": "ALL", **region})
    choices = world.stage(scope=scope, sources=("waf",), web_acls=(arn,)).choices
    assert observed_requests_per_second(world.account, choices, NOW) == pytest.approx(100)


def test_an_account_without_figures_has_no_rate(world: World) -> None:
    assert observed_requests_per_second(world.account, world.stage(distributions=("E1",)).choices, NOW) is None


def test_setup_estimates_for_the_observed_rate_unless_one_is_given(run: Run, world: World) -> None:
    id_ = world.distribution()
    requests(world, "AWS/CloudFront", "Requests", 250 * WEEK_S, {"DistributionId": id_, "Region": "Global"})
    shown = run("setup", "--dry-run", "--distribution", id_).output
    assert "At 250 requests per second, the average of the last seven days" in shown
    given = run("setup", "--dry-run", "--distribution", id_, "--requests-per-second", "7").output
    assert "At 7 requests per second, at list prices" in given


def test_the_capacity_of_the_web_acl_counts_once_with_the_rule_group(run: Run, world: World) -> None:
    def wcu(stage: Stage) -> list[tuple[int, int]]:
        return [(each.wcu_before, each.wcu_after) for each in placements(world.account, world.plan(stage))]

    world.front.web_acl_capacity = INCLUDED_WCU
    stage = world.stage(web_acls=(world.web_acl(),))
    assert wcu(stage) == [(INCLUDED_WCU, INCLUDED_WCU + CAPACITY)]
    shown = run("setup", "--dry-run", "--web-acl", "edge", "--requests-per-second", "100").output
    assert "WAF capacity above 1,500" in shown
    assert "uses 1,500 WCU now, and will use 1,550" in shown
    assert "costs 0.20 USD per million requests: 52.56 USD a month here, of which 52.56 for Sluice" in shown
    world.set_up(stage)
    assert wcu(stage) == [(INCLUDED_WCU, INCLUDED_WCU)]
    assert placements(world.account, []) == []
