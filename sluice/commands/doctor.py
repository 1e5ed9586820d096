"""``sluice doctor``: lists the problems with a deployed stage, each with its remedy."""

import sys
import time
from contextlib import suppress

import click
from botocore.exceptions import ClientError
from rich.text import Text

from sluice.commands.shared.deployment import existing_stage, json_option, project_option, stage_command
from sluice.commands.shared.output import output, plain, print_json
from sluice.deploy.account import AwsAccount
from sluice.deploy.doctor.checks import CHECKS, inspect
from sluice.deploy.doctor.inspection import Inspection
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.web_acls import note_places


@click.command()
@stage_command
@project_option
@json_option
def doctor(stage: str, account: AwsAccount, project: Project, as_json: bool) -> None:
    """Find problems with a deployed stage, and their remedies. Changes nothing.

    Only the place of Sluice's rules in the web ACLs is noted, for the page and `sluice status`.

    The exit status is 1 if anything is wrong.

    \b
    sluice doctor --stage prod
    """
    console = output()
    create = f"create it with 'sluice setup --stage {stage} --region {account.region}'"
    inspection = Inspection(existing_stage(stage, account, create), account, project, int(time.time()))
    findings = inspect(inspection)
    with suppress(ClientError):  # which is among the findings
        note_places(account, inspection.stage, inspection.web_acls, inspection.now)
    wrong = sum(finding.wrong for finding in findings)
    if as_json:
        print_json({"stage": stage, "ok": not wrong, "findings": findings})
    else:
        for finding in findings:
            mark = ("wrong", "red") if finding.wrong else ("note ", "yellow")
            console.print(Text.assemble(mark, plain(f"  {finding.check}: {finding.what}")), soft_wrap=True)
            console.print(f"       {finding.remedy}", style="dim", soft_wrap=True)
        notes = len(findings) - wrong
        console.print(f"{len(CHECKS)} checks of {inspection.stage.prefix}: {wrong} wrong, {notes} worth knowing")
    sys.exit(1 if wrong else 0)
