"""``sluice detach``: takes a stage's additions out of web ACLs, distributions, load balancers, log groups, buckets."""

import sys

import click
from rich.text import Text

from sluice.commands.shared.deployment import apply_options, carry_out, existing_stage, show_plan, stage_command
from sluice.commands.shared.output import output, print_json
from sluice.deploy.account import AwsAccount, attempting
from sluice.deploy.apply import survey, survey_remains
from sluice.deploy.detaching import Detached, additions_of, without
from sluice.deploy.plan import to_set_up, to_tear_down
from sluice.deploy.resources.logs import group_name


@click.command()
@stage_command
@click.option("--web-acl", "web_acls", metavar="NAME|ARN", multiple=True, help="Web ACL that loses the blocking rule.")
@click.option(
    "--distribution",
    "distributions",
    metavar="ID",
    multiple=True,
    help="Distribution that stops logging to the stream.",
)
@click.option("--log-group", "log_groups", metavar="NAME|ARN", multiple=True, help="Log group that is unsubscribed.")
@click.option(
    "--load-balancer",
    "load_balancers",
    metavar="ARN",
    multiple=True,
    help="Load balancer that stops logging to the stage.",
)
@click.option(
    "--bucket", "buckets", metavar="NAME[/PREFIX]", multiple=True, help="Bucket that stops notifying the queue."
)
@apply_options
def detach(
    stage: str,
    account: AwsAccount,
    web_acls: tuple[str, ...],
    distributions: tuple[str, ...],
    log_groups: tuple[str, ...],
    load_balancers: tuple[str, ...],
    buckets: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Detach a web ACL, distribution, load balancer, log group or bucket from a stage, and forget it.

    Only what setup added to it is removed. After that, a web ACL refuses no more clients for this stage, and the log of
    a distribution, a load balancer, a log group or a bucket is no longer counted. What is gone already is forgotten.
    'sluice setup' with the same option attaches it again.

    \b
    sluice detach --web-acl edge
    sluice detach --distribution E2EXAMPLE
    """
    console = output(sys.stderr if as_json else None)
    existing = existing_stage(stage, account, "nothing to detach")
    with attempting("look for what is attached"):
        detached = Detached.of(
            existing.choices,
            web_acls=web_acls,
            distributions=distributions,
            log_groups=tuple(group_name(group, account.location) for group in log_groups),
            load_balancers=load_balancers,
            buckets=buckets,
        )
    if not detached:
        raise click.UsageError("name a --web-acl, --distribution, --load-balancer, --log-group or --bucket to detach.")
    remembered, additions = without(existing, detached), additions_of(existing, detached)
    # Forgotten last, so that an interrupted run can be repeated.
    steps = [*to_tear_down(survey_remains(additions, account)), *to_set_up(survey([remembered], account))]
    if not as_json:
        show_plan(existing, steps, console)
        console.print()
    if not dry_run:
        carry_out(steps, account, console, "Detach it?", yes=yes)
    undo = detached.undo(existing)
    if as_json:
        rows = [step.row() for step in steps]
        print_json({"stage": stage, "applied": not dry_run, "steps": rows, "undo": undo})
    elif not dry_run:
        if detached.buckets and not existing.choices.stack:
            apply_command = f"{existing.command('setup')} and then {existing.command('deploy')}"
            console.print(f"\nThen:  {apply_command}, so that the functions lose their permissions", soft_wrap=True)
        console.print(Text(f"\nUndo:  {undo}"), soft_wrap=True)
