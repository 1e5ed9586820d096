"""What setup, doctor and teardown have in common: their options, and the account they work in."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from sluice.deploy.account import AwsAccount, AwsError, connect
from sluice.deploy.apply import apply
from sluice.deploy.plan import Step

SOURCE = Path(__file__).parents[3]

stage_option = click.option(
    "--stage", default="prod", show_default=True, metavar="NAME", help="Name of the deployment."
)
region_option = click.option("--region", metavar="NAME", help="AWS region; by default the one boto3 finds.")
profile_option = click.option("--profile", metavar="NAME", help="Profile of the AWS credentials.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask before the changes are made.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
project_option = click.option(
    "--project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=lambda: SOURCE if (SOURCE / ".chalice").is_dir() else Path(),
    help="Checkout of Sluice to deploy; by default the one this command runs from, or else the current folder.",
)


def account_of(region: str | None, profile: str | None) -> AwsAccount:
    """The account that the command was given by whoever called it in this process, or that of the credentials.

    Raises AwsError.
    """
    given = click.get_current_context().find_object(AwsAccount)
    return given or connect(region=region, profile=profile)


def carry_out(steps: Sequence[Step], account: AwsAccount, console: Console) -> None:
    """Applies a plan, telling each step. Raises AwsError, which says how to go on."""
    try:
        apply(steps, account, lambda step: console.print(f"{step.action} {step.resource.kind} {step.resource.name}"))
    except AwsError as exc:
        raise AwsError(
            f"{exc}\nWhat was done before stands. Run the same command again: it goes on from here."
        ) from exc
