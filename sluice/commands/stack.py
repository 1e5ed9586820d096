"""``sluice stack``: deploys, deletes and packages a stage as one CloudFormation stack."""

import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from chalicelib.config import ConfigError, read_config
from sluice.commands.shared.deployment import (
    carry_out,
    choices_of,
    plan_options,
    project_option,
    refuse_if_any,
    refuse_if_kept,
    show_plan,
    stage_command,
)
from sluice.commands.shared.options import NAME_VALUE
from sluice.commands.shared.output import output, plain, print_json
from sluice.commands.teardown import stage_to_remove
from sluice.deploy.account import AwsAccount, AwsError, attempting, connect
from sluice.deploy.apply import left_over, survey, survey_remains
from sluice.deploy.plan import to_set_up, to_tear_down
from sluice.deploy.preflight import reservations
from sluice.deploy.resource import Resource
from sluice.deploy.resources import remains_of
from sluice.deploy.resources.chalice_config import Project, check_settings
from sluice.deploy.resources.stacks import CloudFormationStack, PackageBucket
from sluice.deploy.stack import look_up_stack
from sluice.deploy.stage import Choices, Refusal, Stage

ANY_REGION = "us-east-1"
"""Region of a session that makes no calls."""
TEMPLATE_END, FUNCTIONS_END = "-template.yaml", "-functions.zip"
"""Endings of the names of the files that make up a published package."""

stack_name_option = click.option(
    "--stack-name", metavar="NAME", help="Name of the stack; by default the one that the stage has, or sluice-STAGE."
)


@click.group()
def stack() -> None:
    """Deploy, delete or package a stage as one CloudFormation stack."""


@stack.command()
@stage_command
@stack_name_option
@click.option(
    "--parameter",
    "parameters",
    type=NAME_VALUE,
    multiple=True,
    callback=lambda ctx, param, pairs: dict(pairs),  # noqa: ARG005
    help="Parameter of the template; the others keep their values.",
)
@click.option("--bucket", metavar="NAME", help="Existing S3 bucket for the package; by default the stage's own.")
@plan_options
def deploy(
    stage: str,
    account: AwsAccount,
    stack_name: str | None,
    parameters: dict[str, str],
    bucket: str | None,
    project: Project,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Create or update the stack: functions, resources, alarms, dashboard and budget.

    Packages the functions, uploads the package, and has CloudFormation compute and make the changes. If a resource
    fails, the command names it and the reason; a new stack is removed, and an existing one is rolled back. If the
    command is interrupted, CloudFormation continues: run it again. Afterwards, 'sluice setup' adds what a stack cannot:
    rules, the first token, and the rule in your web ACL. The functions get what 'sluice setup --set' has remembered.

    \b
    sluice stack deploy --stage prod --dry-run
    sluice stack deploy --stage prod --parameter AlarmEmail=ops@example.com
    sluice stack deploy --stage prod --parameter StreamMode=PROVISIONED --parameter Shards=4
    """
    # Imported here, because loading Chalice takes as long as everything else.
    from sluice.deploy.packaging import package  # noqa: PLC0415

    console = output(sys.stderr if as_json else None)
    report = lambda line: console.print(plain(line), soft_wrap=True)  # noqa: E731
    if "Stage" in parameters:
        raise click.UsageError("--parameter Stage: --stage determines it.")
    earlier = choices_of(stage, account)
    name, settings = _stack_of(stage, earlier, stack_name), earlier.packaged_settings if earlier else {}
    if earlier is not None:
        # The parameter ApiNetworks is checked below, so that another value can mend it.
        kept = {name: value for name, value in earlier.settings.items() if name != "API_NETWORKS"}
        check_settings(Stage(name=stage, location=account.location, choices=replace(earlier, settings=kept)))
    with attempting("look for the stack"):
        before = look_up_stack(account, name)
    values = before.parameters if before is not None and before.created else {}
    built = package(account, project, report, settings)
    unknown = sorted(parameters.keys() - built.template["Parameters"])
    if unknown:
        known = ", ".join(sorted(built.template["Parameters"].keys() - {"Stage"}))
        raise Refusal(f"parameter {unknown[0]}: the template has no parameter of this name; it has {known}")
    _check_access({**values, **parameters}.get("ApiNetworks", ""))
    desired = _stage(stage, account, {**_defaults(built.template), **values, **parameters}["WafScope"], values)
    chosen, reserved = {"Stage": stage, **parameters}, reservations(desired, account, project)
    if not reserved.fit and not values:
        chosen.setdefault("ReserveConcurrency", "no")
    own = desired.package_bucket
    resources: list[Resource] = [] if bucket else [PackageBucket(desired, own, about="packages of the stack; private")]
    about = f"functions, resources, alarms, dashboard and budget{_listed({**chosen, **settings})}"
    resources.append(CloudFormationStack(desired, name, report, bucket or own, built, chosen, about=about))
    steps = to_set_up(survey(resources, account))
    if not as_json:
        show_plan(desired, steps, console)
        if chosen.get("ReserveConcurrency", values.get("ReserveConcurrency")) == "no" and reserved.note:
            console.print(plain(f"\nNote: {reserved.note}."), soft_wrap=True)
        console.print()
    refuse_if_any(steps)
    if not dry_run and any(step.effective for step in steps):
        carry_out(steps, account, console, "Deploy?", yes=yes)
    with attempting("look for the stack"):
        after = look_up_stack(account, name)
    outputs = after.outputs if after is not None else {}
    former = {key: values[key] for key, value in chosen.items() if key in values and values[key] != value}
    options = "".join(f" --parameter {shlex.quote(f'{key}={value}')}" for key, value in former.items())
    undo = desired.command("stack deploy" if values else "stack delete") + options
    if as_json:
        rows = [step.row() for step in steps]
        document = {
            "stage": stage,
            "account": desired.location.account,
            "region": desired.location.region,
            "stack": name,
        }
        print_json({**document, "applied": not dry_run, "steps": rows, "outputs": outputs, "undo": undo})
    elif not dry_run:
        console.print(f"\nAdmin API:  {outputs.get('EndpointURL', '')}", soft_wrap=True)
        console.print(f"Next:  {desired.command('setup')}\nThen:  {desired.command('doctor')}\nUndo:  {undo}")


@stack.command("package")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@project_option
def write_package(directory: Path, project: Project) -> None:
    """Write a template for the CloudFormation console, and the code of its functions, to DIRECTORY.

    Does not call AWS. Upload the code to a bucket in the stack's region, and name the bucket as the parameter
    CodeBucket.

    \b
    sluice stack package dist
    """
    from sluice.deploy.packaging import package, published, yaml_of  # noqa: PLC0415

    console = output()
    try:
        built = package(connect(region=ANY_REGION, profile=None), project, lambda line: console.print(plain(line)), {})
    except (AwsError, Refusal) as exc:
        raise click.ClickException(str(exc)) from exc
    directory.mkdir(parents=True, exist_ok=True)
    code, template = (directory / f"sluice-{version('sluice')}{end}" for end in (FUNCTIONS_END, TEMPLATE_END))
    code.write_bytes(built.code)
    template.write_text(yaml_of(published(built.template, code.name)))
    for file in (template, code):
        console.print(plain(str(file)), soft_wrap=True)


@stack.command()
@stage_command
@stack_name_option
@plan_options
def delete(
    stage: str,
    account: AwsAccount,
    stack_name: str | None,
    project: Project,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove a stage with its stack, and what setup has added to it.

    Does what 'sluice teardown' does, and then deletes the stack and the bucket with its packages. If a resource cannot
    be deleted, the command names it and the reason. If the command is interrupted, run it again. Blocks, allowlist,
    rules and audit are lost.

    \b
    sluice stack delete --stage prod --dry-run
    sluice stack delete --stage prod
    """
    console = output(sys.stderr if as_json else None)
    name = _stack_of(stage, choices_of(stage, account), stack_name)
    existing = stage_to_remove(stage, account, stack=name)
    report = lambda line: console.print(plain(line), soft_wrap=True)  # noqa: E731
    own: list[Resource] = [
        PackageBucket(existing, existing.package_bucket),
        CloudFormationStack(existing, name, report),
        *remains_of(existing, now=int(time.time()), project=project),
    ]
    steps = to_tear_down(survey_remains(own, account))
    if not any(step.effective for step in steps):
        raise Refusal(f"stage {stage} has no stack {name!r} in {existing.location}: nothing to remove")
    if not as_json:
        show_plan(existing, steps, console)
        console.print()
    if not dry_run:
        refuse_if_kept(steps, with_stack=True)
        carry_out(steps, account, console, "Remove all this, with all blocks, rules and audit?", yes=yes)
        left = left_over(own, account)
        if left:
            names = ", ".join(f"{step.resource.kind} {step.resource.name}" for step in left)
            raise AwsError(f"AWS still shows: {names}. Run the same command again in a minute")
    undo = existing.command("stack deploy")
    if as_json:
        rows = [step.row() for step in steps]
        print_json({"stage": stage, "stack": name, "applied": not dry_run, "steps": rows, "undo": undo})
    elif not dry_run:
        console.print(f"\nNothing of the stage is left in the account. To create a new, empty stage:  {undo}")


def _stack_of(stage: str, choices: Choices | None, name: str | None) -> str:
    """Returns the name of the stage's stack. Raises Refusal if the stage has none, or one with a different name.

    ``choices`` are those of earlier setups, or None without any.
    """
    if choices is None:
        return name or f"sluice-{stage}"
    if not choices.stack:
        raise Refusal(
            f"stage {stage} was created by 'sluice setup', without a stack: use 'sluice deploy' and 'sluice teardown' "
            "for it, or choose another --stage"
        )
    if name not in (None, choices.stack):
        raise Refusal(f"--stack-name {name}: stage {stage} has the stack {choices.stack}")
    return choices.stack


def _check_access(networks: str) -> None:
    """Raises Refusal for networks of the admin API from which no call comes."""
    try:
        read_config({"API_NETWORKS": networks})
    except ConfigError as exc:
        raise Refusal(f"parameter ApiNetworks: {exc}") from exc


def _stage(name: str, account: AwsAccount, scope: str, before: Mapping[str, str]) -> Stage:
    """Returns the stage with a scope. Raises Refusal if it has a different one, or if its region does not fit."""
    if scope not in ("CLOUDFRONT", "REGIONAL"):
        raise Refusal(f"parameter WafScope: {scope!r} is neither CLOUDFRONT nor REGIONAL")
    if scope != (former := before.get("WafScope", scope)):
        raise Refusal(
            f"stage {name} was deployed for scope {former}: IP sets cannot move. Choose another --stage for {scope}"
        )
    choices = Choices(scope="REGIONAL", sources=("waf",)) if scope == "REGIONAL" else Choices()
    return Stage(name=name, location=account.location, choices=choices)


def _defaults(template: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(about.get("Default", "")) for name, about in template["Parameters"].items()}


def _listed(chosen: Mapping[str, str]) -> str:
    others = [f"{name} {value or 'none'}" for name, value in chosen.items() if name != "Stage"]
    return f"; {', '.join(others)}" if others else ""
