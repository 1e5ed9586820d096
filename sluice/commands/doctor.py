"""``sluice doctor``: finds what is wrong with a deployed stage, and says how to mend it."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from sluice.commands.shared.deployment import (
    account_of,
    json_option,
    profile_option,
    project_option,
    region_option,
    stage_option,
)
from sluice.deploy.account import AwsError, attempting
from sluice.deploy.doctor.checks import CHECKS, examine
from sluice.deploy.doctor.inspection import Inspection
from sluice.deploy.resources import resources_of
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.parameters import remembered
from sluice.deploy.stage import Refusal, Stage


@click.command()
@stage_option
@region_option
@profile_option
@project_option
@json_option
def doctor(stage: str, region: str | None, profile: str | None, project: Path, as_json: bool) -> None:
    """Find what is wrong with a deployed stage, and how to mend it. Nothing is changed.

    The exit status is 1 if anything is wrong.

    \b
    sluice doctor --stage prod
    """
    console = Console(highlight=False)
    try:
        account = account_of(region, profile)
        with attempting("read what setup was asked for"):
            location, choices = account.location, remembered(account, stage)
        if choices is None:
            raise Refusal(
                f"there is no stage {stage!r} in {location}: "
                f"'sluice setup --stage {stage} --region {location.region}' makes one"
            )
        wanted = Stage(name=stage, location=location, choices=choices)
        now = int(time.time())
        resources = resources_of(wanted, rules="", now=now, project=Project(project), show_token=lambda _: None)
        found = examine(Inspection(wanted, account, now, resources))
    except (AwsError, Refusal) as exc:
        raise click.ClickException(str(exc)) from exc
    wrong = sum(finding.wrong for finding in found)
    if as_json:
        json.dump({"stage": stage, "ok": not wrong, "findings": [asdict(finding) for finding in found]}, sys.stdout)
        sys.stdout.write("\n")
    else:
        for finding in found:
            mark = "[red]wrong[/]" if finding.wrong else "[yellow]note[/] "
            console.print(f"{mark}  {finding.check}: {finding.what}", soft_wrap=True)
            console.print(f"       {finding.remedy}", style="dim", soft_wrap=True)
        console.print(f"{len(CHECKS)} checks of {wanted.prefix}: {wrong} wrong, {len(found) - wrong} worth knowing")
    sys.exit(1 if wrong else 0)
