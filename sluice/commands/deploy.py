"""``sluice deploy``: deploys the functions of a stage that was set up."""

import sys
from typing import Any

import click
from rich.text import Text

from sluice.commands.shared.deployment import existing_stage, plan_options, stage_command
from sluice.commands.shared.output import output, plain, print_json, table
from sluice.deploy.account import AwsAccount, AwsError, attempting
from sluice.deploy.deployed import READERS, Deployed, lambda_name, look_up
from sluice.deploy.policies import deployed_functions
from sluice.deploy.preflight import check, notes, reservations
from sluice.deploy.quotas import check_roles
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.stack import BY_ITS_OWNER
from sluice.deploy.stage import Stage


@click.command()
@stage_command
@plan_options
def deploy(stage: str, account: AwsAccount, project: Project, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Deploy the functions, their event sources, schedule and admin API.

    First checks for anything that would make it fail, and looks up what exists already, whichever machine deployed it.
    Runs Chalice, and then sets what Chalice cannot: filters of event sources, and what happens to changes that cannot
    be handled. If it is interrupted, run it again. 'chalice deploy' continues to work.

    \b
    sluice deploy --stage prod --dry-run
    sluice deploy --stage prod
    """
    # Loads Chalice, which takes as long as all the rest.
    from sluice.deploy.deploying import deploy as deploy_stage  # noqa: PLC0415
    from sluice.deploy.deploying import sources_of  # noqa: PLC0415

    console = output(sys.stderr if as_json else None)
    existing = existing_stage(
        stage, account, f"create it first: sluice setup --stage {stage} --region {account.region}"
    )
    if existing.choices.stack:
        raise click.ClickException(
            f"stack {existing.choices.stack} deploys the functions: run 'sluice stack deploy', or update the stack "
            f"{BY_ITS_OWNER}"
        )
    with attempting("look for what is deployed"):
        deployed = look_up(existing, account)
        sources = sources_of(existing, account)
    check(existing, account, project, deployed)
    check_roles(len(set(deployed_functions(existing)) - deployed.roles.keys()), account)
    reserved = reservations(existing, account, project)
    remarks = list(notes(existing, project, deployed, sources, reserved))
    rows = _plan(existing, deployed)
    if not as_json:
        console.print(Text.assemble((existing.prefix, "bold"), f" in {existing.location}\n"))
        console.print(table(("", "kind", "name"), rows))
        for remark in remarks:
            console.print(plain(f"\nNote: {remark}."), soft_wrap=True)
        console.print()
    if not dry_run:
        if not yes:
            click.confirm("Deploy?", abort=True, err=True)
        try:
            report = lambda line: console.print(plain(line), soft_wrap=True)  # noqa: E731
            deployed = deploy_stage(existing, account, project, reserve=reserved.fit, report=report)
        except AwsError as exc:
            again = existing.command("deploy")
            raise AwsError(f"{exc}\nWhat was deployed is kept. Continue from here: {again}") from exc
    url = deployed.url(account.region)
    if as_json:
        print_json(_document(existing, rows, remarks, url, applied=not dry_run))
    elif not dry_run:
        console.print(
            f"\nAdmin API:  {url}\nThen:  {existing.command('doctor')}\nUndo:  {existing.command('teardown')}"
        )


def _plan(stage: Stage, deployed: Deployed) -> list[tuple[str, str, str]]:
    """Returns a row per part of the deployment."""
    rows = []
    for name in deployed_functions(stage):
        exists = name in deployed.functions
        rows.append(("update" if exists else "create", "Lambda function", lambda_name(stage, name)))
        if name in READERS:
            rows.append(
                (
                    "update" if name in deployed.event_sources else "create",
                    "event source",
                    f"of {lambda_name(stage, name)}",
                )
            )
    surplus = sorted(deployed.functions.keys() - set(deployed_functions(stage)))
    rows += [("remove", "Lambda function", lambda_name(stage, name)) for name in surplus]
    rows.append(("exists" if deployed.scheduled else "create", "schedule", "of the sweep, each minute"))
    rows.append(("update" if deployed.apis else "create", "REST API", "the admin API"))
    return rows


def _document(
    stage: Stage, rows: list[tuple[str, str, str]], remarks: list[str], url: str, *, applied: bool
) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "account": stage.location.account,
        "region": stage.location.region,
        "applied": applied,
        "steps": [{"action": action, "kind": kind, "name": name} for action, kind, name in rows],
        "notes": remarks,
        "url": url,
        "undo": stage.command("teardown"),
    }
