"""``sluice gather``: the part of a rollback to version 0.2 that a deployment cannot do."""

import sys

import click

from chalicelib.core.wording import plural
from chalicelib.edges.state_table import StateTable
from chalicelib.pipeline.moving import move_back
from chalicelib.ports import Unavailable
from sluice.commands.shared.deployment import existing_stage, json_option, stage_command
from sluice.commands.shared.output import output, print_json
from sluice.deploy.account import AwsAccount


@click.command()
@stage_command
@click.option("--yes", is_flag=True, help="Move them without asking.")
@json_option
def gather(stage: str, account: AwsAccount, yes: bool, as_json: bool) -> None:
    """Move blocks and histories to where version 0.2 finds them, after a rollback.

    Run it with this version, once version 0.2 is deployed. Until then, 0.2 publishes none of the blocks that this
    version has made, so their clients are not refused. Blocks that 0.2 has made in the meantime stay as they are. If
    it is interrupted, run it again. After an upgrade, the sweep moves everything back by itself.

    \b
    sluice gather --stage prod
    """
    existing = existing_stage(stage, account, "nothing to move")
    if not yes:
        click.confirm(
            f"Is version 0.2 deployed as {stage}? The sweep of this version would move the records back",
            abort=True,
            err=True,
        )
    try:
        moved = move_back(StateTable(account.client("dynamodb"), existing.state_table))
    except Unavailable as exc:
        raise click.ClickException(str(exc)) from exc
    if as_json:
        print_json({"stage": stage, "moved": moved})
    else:
        output(sys.stdout).print(f"{plural(moved, 'record')} moved.")
