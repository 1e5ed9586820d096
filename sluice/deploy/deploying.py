"""Deployment of a stage's functions: adopt what exists, run Chalice, and set what Chalice cannot.

It can be interrupted at any call, and run again: each run begins with what exists in the account.
"""

import json
from collections.abc import Callable, Mapping

from botocore.exceptions import ClientError

from sluice.deploy.account import AwsAccount, AwsError, attempting, missing_ok
from sluice.deploy.apply import apply, survey
from sluice.deploy.chalice_deployer import run_chalice
from sluice.deploy.chalice_record import write_record
from sluice.deploy.deployed import Deployed, event_sources_of, functions_of, lambda_name, look_up
from sluice.deploy.plan import Step, to_set_up
from sluice.deploy.resource import Resource
from sluice.deploy.resources.api_access import ApiAccess, own_policy
from sluice.deploy.resources.api_throttle import ApiThrottle
from sluice.deploy.resources.chalice_config import POLICY_FILE, ChaliceStage, Project
from sluice.deploy.resources.event_sources import configured_sources
from sluice.deploy.resources.tables import stream_of
from sluice.deploy.stage import Stage

IN_CHANGE = {"Deleting", "Pending", "InProgress"}
"""States of event sources and functions in which Lambda rejects changes."""

SETTLING_ATTEMPTS, SETTLING_PAUSE_S = 60, 5.0
"""Polls of functions and event sources that AWS is still changing: five minutes at most."""


def sources_of(stage: Stage, account: AwsAccount) -> dict[str, str]:
    """Returns the ARN of what each function reads, as far as it exists."""
    tally, state = (stream_of(table, account) for table in (stage.tally_table, stage.state_table))
    sources = {
        "ingest": stage.log_stream_arn,
        "import_objects": stage.queue_arn(stage.objects_queue),
        "evaluate": tally,
        "enforce": state,
        "publish": state,
    }
    return {name: arn for name, arn in sources.items() if arn}


def deploy(
    stage: Stage, account: AwsAccount, project: Project, *, reserve: bool, report: Callable[[str], None]
) -> Deployed:
    """Deploys the functions and returns what exists afterwards. Raises AwsError at the first call that fails.

    ``reserve`` is False for an account with too few concurrent executions for reservations.
    """

    def ensure(*resources: Resource) -> None:
        apply(to_set_up(survey(resources, account)), account, lambda step: report(_line(step)))

    ensure(ChaliceStage(stage, stage.name, project))
    sources = sources_of(stage, account)
    with attempting("look for what is deployed"):
        _wait_until_settled(stage, account)
        deployed, own = look_up(stage, account), own_policy(stage, account)
        _remove_strays(stage, account, deployed, sources, report)
    write_record(project, stage, deployed, sources)
    if own is not None:
        fate = "API_NETWORKS replaces" if stage.choices.api_networks else "this deployment keeps"
        report(f"API access: {fate} your own resource policy {json.dumps(own)}")
    try:
        run_chalice(account, project, stage.name, reserve=reserve, report=report)
    finally:
        # Also after an interruption: 'chalice deploy' can then continue as well.
        deployed = _recorded(stage, account, project, sources) or deployed
    ensure(*configured_sources(stage), ApiThrottle(stage, stage.prefix))
    # A policy in Chalice's configuration is the operator's own, whatever its form.
    if stage.choices.api_networks or POLICY_FILE not in project.config():
        ensure(ApiAccess(stage, stage.prefix, own=own))
    return deployed


def _line(step: Step) -> str:
    return f"{step.action} {step.resource.kind} {step.resource.name}" + (f": {step.detail}" if step.detail else "")


def _recorded(stage: Stage, account: AwsAccount, project: Project, sources: Mapping[str, str]) -> Deployed | None:
    """Records what exists, and returns it; returns None if the account cannot be read."""
    try:
        deployed = look_up(stage, account)
    except ClientError:
        return None
    write_record(project, stage, deployed, sources)
    return deployed


def _wait_until_settled(stage: Stage, account: AwsAccount) -> None:
    """Waits for functions and event sources that an earlier run, or a teardown, has left in change."""
    client = account.client("lambda")
    for _ in range(SETTLING_ATTEMPTS):
        states = [mapping.get("State") for _, mapping in event_sources_of(stage, account)]
        for function in functions_of(stage, account).values():
            with missing_ok("ResourceNotFoundException"):
                about = client.get_function_configuration(FunctionName=function["FunctionName"])
                states += [about.get("State"), about.get("LastUpdateStatus")]
        if not IN_CHANGE.intersection(states):
            return
        account.sleep(SETTLING_PAUSE_S)
    raise AwsError("AWS is still changing the functions or their event sources: run this again in a few minutes")


def _remove_strays(
    stage: Stage,
    account: AwsAccount,
    deployed: Deployed,
    sources: Mapping[str, str],
    report: Callable[[str], None],
) -> None:
    """Deletes event sources of the streams of former tables, whose names the present tables have taken over."""
    for name, source in sources.items():
        for mapping in deployed.event_sources.get(name, ()):
            former = mapping["EventSourceArn"]
            if former != source and former.partition("/stream/")[0] == source.partition("/stream/")[0]:
                report(f"remove event source of {lambda_name(stage, name)}: {former} is gone")
                with missing_ok("ResourceNotFoundException"):
                    account.client("lambda").delete_event_source_mapping(UUID=mapping["UUID"])
