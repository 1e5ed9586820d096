"""AWS is eventually consistent: what was just written may be missing from the next reads, and is waited for."""

from dataclasses import replace

import pytest

from sluice.deploy.apply import survey
from sluice.deploy.deployed import look_up
from sluice.deploy.plan import StepAction, to_set_up
from sluice.deploy.policies import deployed_functions
from sluice.deploy.resources.api_throttle import ApiThrottle
from sluice.deploy.resources.event_sources import configured_sources
from sluice.deploy.stage import Stage
from tests.support.deploy.account import THEIRS, World
from tests.support.deploy.functions import deploy_functions


@pytest.fixture
def full(world: World) -> Stage:
    """A stage with most kinds of resources."""
    world.account.client("s3").create_bucket(Bucket="site-logs")
    world.account.client("logs").create_log_group(logGroupName="/site/access")
    world.account = replace(world.account, sleep=lambda _: None)
    return world.stage(
        sources=("cloudfront", "waf"),
        web_acls=(world.web_acl(rules=[THEIRS]),),
        distributions=(world.distribution(),),
        log_groups=("/site/access",),
        buckets=("site-logs/",),
        notices=("email:ops@example.com",),
        settings={"EVENT_BUS": "default"},
        alarms=True,
    )


def test_setup_and_teardown_wait_for_what_reads_do_not_show_yet(world: World, full: Stage) -> None:
    with world.front.late_reads(3):
        world.set_up(full)
    assert [step.row() for step in world.plan(full) if step.action is not StepAction.KEEP] == []
    with world.front.late_reads(3):
        world.tear_down(full)
    assert [step.row() for step in world.plan_teardown(full) if step.effective] == []


def test_a_deployment_waits_likewise(deployable: World) -> None:
    stage = deployable.stage()
    deployable.set_up(stage)
    with deployable.front.late_reads(10):
        deploy_functions(deployable, stage)
    complete = look_up(stage, deployable.account)
    assert complete.functions.keys() == complete.roles.keys() == set(deployed_functions(stage))
    steps = to_set_up(survey([*configured_sources(stage), ApiThrottle(stage, stage.prefix)], deployable.account))
    assert {step.action for step in steps} == {StepAction.KEEP}
