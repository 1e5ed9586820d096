"""Shared by setup, doctor and teardown: options, the account and stage they work on, errors, plans and progress."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from sluice.commands.shared.options import json_output, together
from sluice.commands.shared.output import table
from sluice.deploy.account import AwsAccount, AwsError, attempting, connect
from sluice.deploy.apply import apply
from sluice.deploy.plan import Step, StepAction
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.parameters import remembered
from sluice.deploy.stage import Choices, Refusal, Stage

SOURCE = Path(__file__).parents[3]

STYLES = {
    StepAction.CREATE: "green",
    StepAction.CHANGE: "yellow",
    StepAction.REMOVE: "red",
    StepAction.REFUSE: "bold red",
    StepAction.KEEP: "dim",
    StepAction.LEAVE: "dim",
}


def checkout() -> Path:
    """Returns the checkout that this command runs from; if there is none, the current folder."""
    return SOURCE if (SOURCE / ".chalice").is_dir() else Path()


def complete_stage(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Returns the stages of the checkout that begin with what was typed."""
    project = ctx.params.get("project") or Project(checkout())
    try:
        stages = project.config().get("stages", {})
    except (Refusal, OSError, ValueError):
        return []
    return [name for name in stages if name.startswith(incomplete)]


def stage_options(about: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Returns a decorator that adds ``--stage``, with ``about`` as its help, ``--region`` and ``--profile``."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--profile", metavar="NAME", help="Profile of the AWS credentials."),
            click.option("--region", metavar="NAME", help="AWS region; by default the one boto3 finds."),
            click.option(
                "--stage",
                default="prod",
                show_default=True,
                metavar="NAME",
                shell_complete=complete_stage,
                help=about,
            ),
        ):
            command = option(command)
        return command

    return add


def stage_command(command: Callable[..., None]) -> Callable[..., None]:
    """Adds ``--stage``, ``--region`` and ``--profile``; the command receives ``stage`` and ``account``.

    The account is that in click's context, which tests set, or else that of the AWS credentials. AwsError and Refusal
    become the command's error message.
    """

    @stage_options("Name of the deployment.")
    @wraps(command)
    def run(region: str | None, profile: str | None, **arguments: Any) -> None:
        account = click.get_current_context().find_object(AwsAccount)
        try:
            command(account=account or connect(region=region, profile=profile), **arguments)
        except (AwsError, Refusal) as exc:
            raise click.ClickException(str(exc)) from exc

    return run


project_option = click.option(
    "--project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=checkout,
    callback=lambda ctx, param, directory: Project(directory),  # noqa: ARG005
    help="Checkout of Sluice to deploy; by default the one this command runs from, or else the current folder.",
)
json_option = json_output("Print JSON on standard output.")
apply_options = together(
    click.option("--dry-run", is_flag=True, help="Show the plan and stop."),
    click.option("--yes", is_flag=True, help="Make the changes without asking."),
    json_option,
)
plan_options = together(project_option, apply_options)


def choices_of(stage: str, account: AwsAccount) -> Choices | None:
    """Returns the choices of earlier setups; None if there were none. Raises AwsError."""
    with attempting("read the choices of earlier setups"):
        return remembered(account, stage)


def existing_stage(name: str, account: AwsAccount, otherwise: str) -> Stage:
    """Returns a stage that was set up. Raises Refusal, ending with ``otherwise``, if there is none, and AwsError."""
    location, choices = account.location, choices_of(name, account)
    if choices is None:
        raise Refusal(f"there is no stage {name!r} in {location}: {otherwise}")
    return Stage(name=name, location=location, choices=choices)


def show_plan(stage: Stage, steps: Sequence[Step], console: Console) -> None:
    console.print(Text.assemble((stage.prefix, "bold"), f" in {stage.location}, {stage.choices.scope}\n"))
    rows = [(Text(s.action, STYLES[s.action]), s.resource.kind, s.resource.name, s.detail) for s in steps]
    console.print(table(("", "kind", "name", ""), rows))


def refuse_if_any(steps: Sequence[Step]) -> None:
    """Raises Refusal, with every reason, if a plan has steps that are refused."""
    refused = [step for step in steps if step.action is StepAction.REFUSE]
    if refused:
        raise Refusal("\n".join(f"{step.resource.kind} {step.resource.name} {step.detail}" for step in refused))


def refuse_if_kept(steps: Sequence[Step], *, with_stack: bool = False) -> None:
    """Raises Refusal if a plan removes what something that another tool has made, and that is left, refers to.

    With ``with_stack``, everything is removed that the stack has created.
    """
    removed = {f"{step.resource.kind} {step.resource.name}" for step in steps if step.action is StepAction.REMOVE}
    kept = [
        f"{step.resource.kind} {step.resource.name} refers to {what}"
        for step in steps
        if step.action is StepAction.LEAVE and step.resource.elsewhere and step.existing is not None
        if (what := step.resource.keeps(step.existing)) and (with_stack or what in removed)
    ]
    if kept:
        raise Refusal(
            f"{'; '.join(kept)}: AWS deletes nothing that is in use. Remove the reference with the tool that made it, "
            "and run the same command again. Nothing was changed"
        )


def carry_out(steps: Sequence[Step], account: AwsAccount, console: Console, question: str, *, yes: bool) -> None:
    """Applies a plan after confirmation and prints each step. Raises AwsError, whose message says how to continue."""
    if not yes:
        click.confirm(question, abort=True, err=True)
    try:
        apply(steps, account, lambda step: console.print(f"{step.action} {step.resource.kind} {step.resource.name}"))
    except AwsError as exc:
        raise AwsError(
            f"{exc}\nThe steps before this one are done. Run the same command again to continue from here."
        ) from exc
