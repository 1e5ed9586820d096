"""A stage that exceeds a quota of the account is refused before anything is created."""

import pytest

from sluice.deploy.deployed import look_up
from sluice.deploy.quotas import check_roles
from sluice.deploy.stage import Refusal
from tests.support.deploy.account import Run, World

LIMITS = {"ShardLimit": 20, "OpenShardCount": 17, "OnDemandStreamCount": 50, "OnDemandStreamCountLimit": 50}
ROLES = {"SummaryMap": {"Roles": 995, "RolesQuota": 1000}}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "the account has 50 of at most 50 on-demand streams of Kinesis, and the stage needs 1 more"),
        (("--shards", "4"), "the account has 17 of at most 20 shards of Kinesis, and the stage needs 4 more"),
    ],
)
def test_setup_creates_nothing_without_room_for_the_stream(
    run: Run, world: World, options: tuple[str, ...], told: str
) -> None:
    world.front.stale["kinesis:DescribeLimits"] = [LIMITS]
    done = run("setup", "--yes", *options)
    assert done.exit_code == 1
    assert told in done.stderr
    assert "ask AWS for a higher quota" in done.stderr
    assert world.account.client("kinesis").list_streams()["StreamNames"] == []
    assert world.account.client("dynamodb").list_tables()["TableNames"] == []


def test_a_stream_with_just_enough_room_is_created(run: Run, world: World) -> None:
    world.front.stale["kinesis:DescribeLimits"] = [LIMITS]
    assert run("setup", "--yes", "--shards", "3").exit_code == 0


def test_a_stage_that_exists_asks_for_no_more(run: Run, world: World) -> None:
    run("setup", "--yes")
    world.front.stale["kinesis:DescribeLimits"] = [LIMITS]
    world.front.stale["iam:GetAccountSummary"] = [ROLES]
    assert run("setup", "--yes").exit_code == 0


def test_deploy_creates_nothing_without_room_for_the_roles(run: Run, deployable: World) -> None:
    run("setup", "--yes")
    deployable.front.stale["iam:GetAccountSummary"] = [ROLES]
    done = run("deploy", "--yes")
    assert done.exit_code == 1
    assert "the account has 995 of at most 1,000 IAM roles, and the stage needs 7 more" in done.stderr
    assert not look_up(deployable.stage(), deployable.account).anything


def test_the_last_room_is_enough(world: World) -> None:
    world.front.stale["iam:GetAccountSummary"] = [ROLES, ROLES]
    check_roles(5, world.account)
    with pytest.raises(Refusal, match="needs 6 more"):
        check_roles(6, world.account)
